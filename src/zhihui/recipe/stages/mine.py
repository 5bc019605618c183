"""mine: hard negatives for training examples or a retrieval set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.errors import InputError
from zhihui.mining import MiningConfig
from zhihui.mining.candidates import check_models
from zhihui.mining.stage import TRAIN, mine_files
from zhihui.ranking.reranker import load_reranker
from zhihui.recipe import stage
from zhihui.records import is_beir
from zhihui.records.beir import check_split
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(MiningConfig, stage.Stage):
    """Mine negatives."""

    gives = ("examples", TRAIN)
    needs = (("bm25s", "mine"),)

    data: stage.Examples
    model: stage.Model | None = None
    """For dense miners."""
    reranker: stage.Model | None = None
    """A cross-encoder, for cross miners and filters: for sequence classification, or a yes/no language model."""
    grades: stage.Examples | None = None
    """Examples whose positives and graded negatives count for equal queries."""
    cache: Path | None = None
    """Folder of vectors that several runs share; None keeps them for this run only. It changes no result."""
    corpus: stage.Passages | None = None
    """Passages to mine: a retrieval set, or a file of rows with a text; None takes those of the data."""
    split: str = "train"
    """Of a retrieval set: whose queries become examples."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_models(self, encoder=self.model is not None, reranker=self.reranker is not None)
        if self.grades is not None and self.max_grade is None:
            raise InputError("grades filter nothing without max_grade; give a threshold on the teacher's scale")

    def check(self) -> None:
        """See that the split is there."""
        if is_beir(self.data):
            check_split(self.data, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Mine."""
        return mine_files(
            self.data,
            out,
            stage.part_of(MiningConfig, self),
            split=self.split,
            corpus=self.corpus,
            grades=self.grades,
            encoder=None if self.model is None else load(self.model, device=around.device),
            reranker=None if self.reranker is None else load_reranker(self.reranker, device=around.device),
            cache=self.cache,
            device=around.device,
            quarantine=self.quarantine,
            overwrite=around.overwrite,
        )
