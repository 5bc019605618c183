"""The bridge to mteb: our sets as its tasks, our encoders and rankings as its models, its result files."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import require
from zhihui.ranking import TopK, exact
from zhihui.records import RetrievalSet
from zhihui.runs import fingerprint

SUBSET = "default"


def load_mteb() -> ModuleType:
    """Import mteb without its making a cache folder in the home directory.

    Raises:
        MissingExtra: mteb is not installed.

    """
    if "mteb" in sys.modules or "MTEB_CACHE" in os.environ:
        return require("mteb", extra="eval", purpose="evaluation")
    # mteb makes its default cache folder as it is imported; ours is passed to each call.
    with tempfile.TemporaryDirectory(prefix="zhihui-mteb-") as folder:
        os.environ["MTEB_CACHE"] = folder
        try:
            return require("mteb", extra="eval", purpose="evaluation")
        finally:
            del os.environ["MTEB_CACHE"]


def make_task(
    data: RetrievalSet,
    split: str,
    *,
    instruction: str | None = None,
    record: Any = None,
    ignore_identical_ids: bool = False,
) -> Any:
    """Return one split of a set as an mteb retrieval task named after the set.

    Args:
        data: the set.
        split: the judgements to score.
        instruction: the task in words, which mteb hands to models that take one.
        record: mteb's own record of the task, see `zhihui.evaluation.cmteb_official`; None makes one.
        ignore_identical_ids: drop a passage that has the query's id from what is found.

    Raises:
        InputError: no such split.
        MissingExtra: mteb is not installed.

    """
    load_mteb()
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    judged = data.judged(split)
    drop_identical = ignore_identical_ids
    about = record or TaskMetadata(
        name=data.name,
        description=f"{data.name}, a retrieval set in the BEIR layout.",
        dataset={"path": data.name, "revision": set_revision(data, split)},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=[split],
        eval_langs=["cmn-Hans"],
        main_score="ndcg_at_10",
        prompt=None if instruction is None else {"query": instruction},
    )

    class LocalRetrieval(AbsTaskRetrieval):
        """A set that is already in memory."""

        metadata = about
        ignore_identical_ids = drop_identical
        data_loaded: bool

        def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
            """Lay the set out as mteb wants it."""
            if self.data_loaded:
                return
            corpus = {
                "id": list(data.corpus),
                "title": [passage.title for passage in data.corpus.values()],
                "text": [passage.text for passage in data.corpus.values()],
            }
            queries = {"id": list(judged), "text": [data.queries[query_id] for query_id in judged]}
            self.dataset = {
                SUBSET: {
                    split: {
                        "corpus": Dataset.from_dict(corpus),
                        "queries": Dataset.from_dict(queries),
                        "relevant_docs": {query_id: dict(grades) for query_id, grades in judged.items()},
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    return LocalRetrieval()


def set_revision(data: RetrievalSet, split: str) -> str:
    """Return a fingerprint of what a split is measured on."""
    judged = data.judged(split)
    return fingerprint(
        [
            [[key, passage.title, passage.text] for key, passage in data.corpus.items()],
            [[key, data.queries[key]] for key in judged],
            judged,
        ]
    )


class EncoderSearch:
    """An encoder as an mteb model (`mteb.models.SearchProtocol`): exact search in bounded memory.

    The instruction of a task's metadata, where it has one, becomes the instruction of its queries.
    """

    def __init__(self, encoder: TextEncoder, *, use_task_instructions: bool = True) -> None:
        """Wrap an encoder.

        Args:
            encoder: gives the vectors.
            use_task_instructions: False keeps the encoder's own query prompt for every task.

        """
        self.encoder = encoder
        self.use_task_instructions = use_task_instructions
        self._ids: list[str] = []
        self._vectors: Any = None

    @property
    def mteb_model_meta(self) -> Any:
        """Name and fingerprint, which keep the results of two checkpoints apart."""
        return model_meta(self.encoder.name, self.encoder.fingerprint)

    def index(self, corpus: Any, **_: Any) -> None:
        """Encode the corpus."""
        texts = _texts(corpus)
        self._ids = list(corpus["id"])
        self._vectors = self.encoder.encode_documents(texts)

    def search(self, queries: Any, *, task_metadata: Any, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        """Return query id -> passage id -> score for the `top_k` best passages."""
        instruction = _query_instruction(task_metadata) if self.use_task_instructions else None
        vectors = self.encoder.encode_queries(list(queries["text"]), instruction=instruction)
        ranking = exact.search(vectors, self._vectors, min(top_k, len(self._ids)))
        return _as_run(ranking, list(queries["id"]), self._ids)


class RankingSearch:
    """A ranking already made, as an mteb model: mteb scores it, and nothing is computed twice."""

    def __init__(
        self,
        ranking: TopK,
        data: RetrievalSet,
        split: str,
        *,
        name: str,
        revision: str,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Wrap the ranking `[Q, K]` of the judged queries of a split, in the order of the judgements.

        Args:
            ranking: what was found.
            data: the set.
            split: whose judged queries it is of.
            name: of the model.
            revision: tells its results from those of other checkpoints.
            about: as `model_meta`.
        """
        self.mteb_model_meta = model_meta(name, revision, about)
        self._run = _as_run(ranking, list(data.judged(split)), list(data.corpus))

    def index(self, corpus: Any, **_: Any) -> None:
        """Do nothing: the search has been done."""

    def search(self, queries: Any, *, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        """Return query id -> passage id -> score."""
        return {query_id: self._run[query_id] for query_id in queries["id"]}


def write_mteb_results(folder: Path, model: Any, tasks: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Run `mteb.evaluate` and keep its result files under `folder`/results/<model>/<revision>/<task>.json.

    Args:
        folder: a results folder of mteb's, made if need be.
        model: whatever mteb takes.
        tasks: mteb tasks; those whose result is there are not run again.

    Returns:
        Task name -> the scores of its only split.

    Raises:
        MissingExtra: mteb is not installed.

    """
    mteb = load_mteb()
    from mteb.cache import ResultCache

    with warnings.catch_warnings():
        # nAUC, one of mteb's extra columns, divides by zero when all queries score the same.
        warnings.simplefilter("ignore", RuntimeWarning)
        results = mteb.evaluate(
            model,
            list(tasks),
            cache=ResultCache(folder),
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": 32, "show_progress_bar": False},
        )
    scores: dict[str, dict[str, Any]] = {}
    for result in results.task_results:
        (of_split,) = result.scores.values()
        scores[result.task_name] = next(one for one in of_split if one["hf_subset"] == SUBSET)
    return scores


def model_meta(name: str, revision: str, about: Mapping[str, Any] | None = None) -> Any:
    """Return mteb's record of a model; a name without an organisation gets "local".

    Args:
        name: of the model.
        revision: of its weights.
        about: other fields of the record, such as license and embed_dim.

    Raises:
        MissingExtra: mteb is not installed.

    """
    load_mteb()
    from mteb.models.model_meta import ModelMeta

    named = name if name.count("/") == 1 else f"local/{name.strip('/').replace('/', '_')}"
    return ModelMeta.create_empty({**(about or {}), "name": named, "revision": revision})


def result_place(name: str, revision: str) -> Path:
    """Return where mteb puts the results of a model below its results/ folder: <org__name>/<revision>."""
    return Path(model_meta(name, revision).model_name_as_path()) / revision


def _texts(corpus: Any) -> list[str]:
    """Join titles and texts the way mteb's own loader does."""
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
    return [f"{title or ''} {text}".strip() for title, text in zip(titles, corpus["text"], strict=True)]


def _query_instruction(task_metadata: Any) -> str | None:
    prompt = task_metadata.prompt
    if isinstance(prompt, Mapping):
        return prompt.get("query")
    return prompt


def _as_run(ranking: TopK, query_ids: Sequence[str], ids: Sequence[str]) -> dict[str, dict[str, float]]:
    run = {}
    for query_id, indices, scores in zip(query_ids, ranking.indices, ranking.scores, strict=True):
        filled = indices >= 0
        pairs = zip(indices[filled].tolist(), scores[filled].tolist(), strict=True)
        run[query_id] = {ids[index]: score for index, score in pairs}
    return run
