"""Evaluation as a stage: retrieval systems measured set by set, into a folder with results and a report."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from zhihui.encoder.cache import BLOCK
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError, RunFailure
from zhihui.evaluation.report import write_report, write_results_json
from zhihui.evaluation.run import Evaluation, evaluate
from zhihui.evaluation.sets import MeasuredSet, beir_sets, set_folders
from zhihui.evaluation.stored import read_found, write_found
from zhihui.evaluation.systems import (
    Bm25System,
    DenseSystem,
    HybridSystem,
    RandomSystem,
    RankFusionSystem,
    RetrievalSystem,
)
from zhihui.ranking import DENSE_SHARE, TopK
from zhihui.ranking.fusion import check_dense_share
from zhihui.records import read_beir
from zhihui.runs import Manifest, fingerprint, fingerprint_path, run_stage

__all__ = ["EvaluationConfig", "Measurement", "beir_sets", "check_systems", "set_folders", "systems_of"]

RESULTS, REPORT, SETS, MTEB = "results.json", "report.html", "sets", "mteb"
"""What the output folder holds, beside the manifest."""
FOUND = "found.jsonl"
VECTORS = "vectors"
"""Where vectors are kept while a set is measured, unless a folder is given that outlives the run."""
Baseline = Literal["bm25", "none"]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured besides the models, and on which judgements."""

    split: str = "test"
    """Judgements of BEIR sets to measure on, those of qrels/SPLIT.tsv; the tasks of C-MTEB have their own."""
    baseline: Baseline = "bm25"
    """Measured beside the models, and compared with: BM25 over Chinese words, or nothing."""
    hybrid: bool = False
    """Whether each model is measured fused with BM25 too, by a weighted sum of scores."""
    dense_share: float = DENSE_SHARE
    """Of a model's scores in that sum, 0 to 1; the rest is BM25's."""
    rrf: bool = False
    """Whether each model is measured fused with BM25 by reciprocal rank too."""
    random: bool = False
    """Whether passages drawn at random are measured too."""
    instruction: str | None = None
    """The task in words, in place of the models' own query prompt and of the instructions of C-MTEB's tasks."""

    def __post_init__(self) -> None:
        check_dense_share(self.dense_share)
        if self.baseline not in get_args(Baseline):
            raise InputError(f"baseline {self.baseline!r} is unknown; choose {' or '.join(get_args(Baseline))}")


class Measurement:
    """Systems to be measured on sets that are read and checked already, before a model is at work."""

    def __init__(self, sets: Sequence[MeasuredSet], config: EvaluationConfig) -> None:
        """Keep the sets.

        Args:
            sets: see `beir_sets` and `zhihui.evaluation.sets.task_sets`.
            config: what is measured.

        Raises:
            InputError: no set, or two of one name.
        """
        self.sets = {one.name: one for one in sets}
        self.config = config
        if not sets:
            raise InputError("no set to measure on; pass --data with a BEIR folder, or --task")
        if len(self.sets) < len(sets):
            names = [one.name for one in sets]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"two sets are called {twice}; rename a folder")

    @property
    def instructions(self) -> dict[str, str]:
        """The task in words by the set's name, for models that take one; sets of one's own have none."""
        if self.config.instruction is not None:
            return {}
        return {name: one.instruction for name, one in self.sets.items() if one.instruction is not None}

    def identity(self, systems: Sequence[RetrievalSystem]) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the inputs and settings that the results depend on, as the manifest has them."""
        inputs = {f"set:{name}": one.fingerprint for name, one in self.sets.items()}
        inputs |= {f"system:{system.name}": system.fingerprint for system in systems}
        return inputs, {
            "split": self._splits(),
            "systems": [system.name for system in systems],
            "instruction": self.config.instruction or self.instructions or None,
        }

    def run(
        self,
        systems: Sequence[RetrievalSystem],
        out: Path,
        *,
        cache: Path | None = None,
        block: int = BLOCK,
        overwrite: bool = False,
    ) -> Manifest:
        """Measure into the stage folder `out`: results.json (the average), report.html, sets/ and mteb/.

        A run that was killed goes on at the block of texts it was in.

        Args:
            systems: what is measured.
            out: the stage's folder.
            cache: folder of vectors that several runs share; None keeps them while a set is measured.
            block: texts encoded and kept together: what a killed run does again at most. Several devices share one.
            overwrite: replace a finished run of other inputs or settings.

        Raises:
            InputError: two systems of one name, or `out` is taken.
            RunFailure: the disk is full.
        """
        inputs, settings = self.identity(systems)
        for system in systems:
            if isinstance(system, DenseSystem):
                system.block = block
        work = partial(self._measure, systems=systems, cache=cache)
        try:
            return run_stage("evaluate", out, work, inputs=inputs, config=settings, overwrite=overwrite)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RunFailure(f"{out}: the disk is full; free some space and run the same again, it goes on") from None

    def _measure(self, folder: Path, *, systems: Sequence[RetrievalSystem], cache: Path | None) -> dict[str, Any]:
        evaluations: list[Evaluation] = []
        for name, one in self.sets.items():
            found = folder / SETS / name / FOUND
            if found.is_file():
                evaluations.append(read_found(found, one.data))
                continue
            for system in systems:
                if isinstance(system, DenseSystem):
                    system.cache = cache or folder / VECTORS / name
            evaluation = measure_set(folder / MTEB, one, systems, self.config)
            write_results_json(folder / SETS / name / RESULTS, evaluation)
            write_found(found, evaluation)  # last: it marks the set as done
            shutil.rmtree(folder / VECTORS, ignore_errors=True)
            evaluations.append(evaluation)
        write_results_json(folder / RESULTS, evaluations)
        settings = {
            "split": self._splits(),
            "sets": list(self.sets),
            "systems": [system.name for system in systems],
            "query instruction": self.config.instruction or self.instructions or "the models' own",
            "passages ranked": 1000,
        }
        what = next(iter(self.sets)) if len(self.sets) == 1 else f"{len(self.sets)} sets"
        write_report(folder / REPORT, title=f"Retrieval on {what}", evaluation=evaluations, settings=settings)
        return {
            "sets": len(self.sets),
            "systems": len(systems),
            "queries": sum(len(one.query_ids) for one in evaluations),
            "passages": sum(len(one.data.corpus) for one in self.sets.values()),
        }

    def _splits(self) -> str:
        return ", ".join(sorted({one.split for one in self.sets.values()}))


def measure_set(
    folder: Path, one: MeasuredSet, systems: Sequence[RetrievalSystem], config: EvaluationConfig
) -> Evaluation:
    """Evaluate one set, and let mteb score the same rankings into its own result files under `folder`."""
    from zhihui.evaluation import cmteb_official, mteb_tasks

    task = mteb_tasks.make_task(
        one.data,
        one.split,
        instruction=config.instruction,
        record=None if one.task is None else cmteb_official.record(one.task, one.data, one.data_set),
        ignore_identical_ids=one.ignore_identical_ids,
    )

    def keep(system: RetrievalSystem, ranking: TopK) -> None:
        about = system.about if isinstance(system, DenseSystem) else None
        name, revision = system.name, system.fingerprint
        model = mteb_tasks.RankingSearch(ranking, one.data, one.split, name=name, revision=revision, about=about)
        mteb_tasks.write_mteb_results(folder, model, [task])

    return evaluate(one.data, one.split, systems, ignore_identical_ids=one.ignore_identical_ids, observe=keep)


# --------------------------------------------------------------------------- what is measured


def systems_of(
    encoders: Mapping[str, TextEncoder],
    config: EvaluationConfig,
    *,
    instructions: Mapping[str, str] | None = None,
    about: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[RetrievalSystem]:
    """Return the systems in the order they are shown: baselines, models by name, hybrids.

    Args:
        encoders: models by the name to show.
        config: what is measured.
        instructions: `Measurement.instructions`.
        about: what mteb's record of a model shall say besides, by the model's name.
    """
    bm25 = Bm25System()
    dense = [
        DenseSystem(
            one, name=name, instruction=config.instruction, instructions=instructions, about=(about or {}).get(name)
        )
        for name, one in encoders.items()
    ]
    systems: list[RetrievalSystem] = [] if config.baseline == "none" else [bm25]
    systems += [RandomSystem()] if config.random else []
    systems += dense
    suffix = "" if len(dense) == 1 else " of {}"
    if config.hybrid:
        systems += [
            HybridSystem.with_bm25(bm25, one, dense_share=config.dense_share, name=f"hybrid{suffix}".format(one.name))
            for one in dense
        ]
    if config.rrf:
        systems += [RankFusionSystem([bm25, one], name=f"rrf{suffix}".format(one.name)) for one in dense]
    return systems


def check_systems(count: int, config: EvaluationConfig) -> None:
    """Check before a model is loaded that there is something to measure.

    Args:
        count: how many models are given.
        config: what else is measured.

    Raises:
        InputError: neither model nor baseline, or a hybrid of no model.
    """
    if not count and config.baseline == "none" and not config.random:
        raise InputError("nothing to measure; name a model, or leave out baseline none")
    if (config.hybrid or config.rrf) and not count:
        raise InputError("a hybrid fuses BM25 with a model; name a model")


def during_training(folder: Path, split: str) -> tuple[Callable[[TextEncoder], dict[str, float]], str]:
    """Return a function that measures an encoder on a split, and the fingerprint of what it measures.

    Raises:
        InputError: unusable data, or no such split.
    """
    data = read_beir(folder)
    data.judged(split)

    def scores(encoder: TextEncoder) -> dict[str, float]:
        (result,) = evaluate(data, split, [DenseSystem(encoder, name="model")]).systems
        return {metric: result.intervals[metric].value for metric in ("ndcg_at_10", "recall_at_100")}

    return scores, fingerprint([fingerprint_path(folder), split])
