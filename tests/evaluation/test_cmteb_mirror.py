"""C-MTEB's tasks as data, and read from mirrors in both of the hub's layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hub_mirror
import pytest
from hub_mirror import PASSAGES, QRELS, QUERIES, newer, older

from zhihui.errors import InputError
from zhihui.evaluation import mteb_tasks
from zhihui.evaluation.cmteb import find_tasks, tasks
from zhihui.evaluation.sets import task_sets
from zhihui.records import write_rows

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DU = tasks()["DuRetrieval"]
LAYOUTS: dict[str, Callable[..., Path]] = {
    "older": older,
    "newer": newer,
    "newer-jsonl": lambda mirror, name, **more: newer(mirror, name, form="jsonl", **more),
}


def test_the_tasks_are_those_of_mteb() -> None:
    mteb = mteb_tasks.load_mteb()
    for name, task in tasks().items():
        theirs = mteb.get_task(name)
        record = theirs.metadata
        assert record.dataset == {"path": task.hub.path, "revision": task.hub.revision}
        assert record.prompt == {"query": task.instruction}
        assert record.eval_splits == [task.split]
        assert theirs.ignore_identical_ids == task.ignore_identical_ids
        counts = record.descriptive_stats[task.split]
        assert (counts["num_queries"], counts["num_documents"]) == (task.queries, task.passages)
        assert task.older.path == f"C-MTEB/{name}"
        assert {len(task.older.revision), len(task.older.qrels_revision or "")} == {40}
    assert len(tasks()) == 8


def test_tasks_are_found_by_name_each_once() -> None:
    assert [task.name for task in find_tasks(["VideoRetrieval", "all"])] == ["VideoRetrieval", *list(tasks())[:-1]]
    with pytest.raises(InputError, match=r"task .T2Retreival. is unknown; did you mean T2Retrieval\?"):
        find_tasks(["T2Retreival"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_layouts_give_one_set(tmp_path: Path, layout: str) -> None:
    (found,) = task_sets([DU], LAYOUTS[layout](tmp_path, DU.name))
    assert {key: passage.full for key, passage in found.data.corpus.items()} == PASSAGES
    assert found.data.queries == QUERIES
    judged: dict[str, dict[str, int]] = {}
    for query, passage, grade in QRELS:
        judged.setdefault(query, {})[passage] = grade
    assert found.data.qrels == {"dev": judged}
    assert found.instruction == DU.instruction
    assert found.data_set is None, "a few rows must not pass for the task where its scores are published"


def test_a_whole_task_has_its_revision(tmp_path: Path) -> None:
    task = replace(DU, queries=3, passages=len(PASSAGES))
    assert task_sets([task], older(tmp_path / "a", DU.name))[0].data_set == DU.older
    assert task_sets([task], newer(tmp_path / "b", DU.name))[0].data_set == DU.hub


def test_what_the_hubs_client_downloaded_is_a_mirror(tmp_path: Path) -> None:
    older(tmp_path / "flat", DU.name)
    for data_set, revision in ((DU.name, DU.older.revision), (f"{DU.name}-qrels", DU.older.qrels_revision)):
        cached = tmp_path / "cache" / f"datasets--C-MTEB--{data_set}" / "snapshots" / str(revision)
        cached.parent.mkdir(parents=True)
        (tmp_path / "flat" / data_set).rename(cached)
    (found,) = task_sets([DU], tmp_path / "cache")
    assert len(found.data.corpus) == len(PASSAGES)


def test_folders_may_lie_under_their_organisation(tmp_path: Path) -> None:
    newer(tmp_path / "mteb", DU.name)
    assert len(task_sets([DU], tmp_path)[0].data.corpus) == len(PASSAGES)


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    before = task_sets([DU], newer(tmp_path, DU.name))[0].fingerprint
    assert task_sets([DU], newer(tmp_path, DU.name))[0].fingerprint == before
    assert task_sets([DU], newer(tmp_path, DU.name, qrels=QRELS[:-1]))[0].fingerprint != before


def without(place: str) -> Callable[[Path], Any]:
    return lambda mirror: (mirror / place).unlink()


SHARD = "DuRetrieval/data/{}-0000{}-of-0000{}-0a1b2c3d4e5f6a7b.parquet"
FAULTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no-folder": (
        "older",
        lambda mirror: (mirror / "DuRetrieval").rename(mirror / "Other"),
        "DuRetrieval: no such folder; fetch the data set C-MTEB/DuRetrieval into it",
    ),
    "no-qrels-set": (
        "older",
        lambda mirror: (mirror / "DuRetrieval-qrels").rename(mirror / "Other"),
        "DuRetrieval-qrels: no such folder; fetch the data set C-MTEB/DuRetrieval-qrels into it",
    ),
    "a-shard": (
        "older",
        without(SHARD.format("corpus", 1, 2)),
        "data/corpus-00001-of-00002: one of 2 shards is missing; fetch",
    ),
    "no-queries": ("older", without(SHARD.format("queries", 0, 1)), r"data/queries-\*.parquet: no such file; fetch"),
    "no-qrels": ("newer", without("DuRetrieval/data/dev-00000-of-00001.parquet"), "no such file; fetch"),
    "no-corpus": ("newer-jsonl", without("DuRetrieval/corpus.jsonl"), "corpus/dev.*: no such file; fetch"),
    "empty-corpus": (
        "newer-jsonl",
        lambda mirror: (mirror / "DuRetrieval/corpus.jsonl").write_text(""),
        "corpus.jsonl: holds no passages; fetch",
    ),
    "unknown-passage": (
        "newer-jsonl",
        lambda mirror: newer(mirror, "DuRetrieval", form="jsonl", qrels=[*QRELS, ("6", "99", 1)]),
        "qrels/dev.jsonl:5: passage '99' is not in corpus.jsonl; fetch both",
    ),
    "unknown-query": (
        "older",
        lambda mirror: older(mirror, "DuRetrieval", qrels=[("99", "1", 1)]),
        ".parquet:1: query '99' is not in queries-.*; fetch both",
    ),
    "an-id-twice": (
        "newer-jsonl",
        lambda mirror: write_rows(mirror / "DuRetrieval/corpus.jsonl", [{"_id": "1", "text": "甲"}] * 2),
        "corpus.jsonl:2: id '1' is given twice",
    ),
    "no-id": (
        "newer-jsonl",
        lambda mirror: write_rows(mirror / "DuRetrieval/corpus.jsonl", [{"text": "甲"}]),
        "corpus.jsonl:1: no id",
    ),
    "no-text": (
        "newer-jsonl",
        lambda mirror: write_rows(mirror / "DuRetrieval/queries.jsonl", [{"_id": "5", "question": "甲"}]),
        "queries.jsonl:1: no text",
    ),
    "no-grade": (
        "newer-jsonl",
        lambda mirror: write_rows(mirror / "DuRetrieval/qrels/dev.jsonl", [{"query-id": "5", "corpus-id": "1"}]),
        "dev.jsonl:1: not a judgement",
    ),
    "two-versions": (
        "newer",
        lambda mirror: write_rows(mirror / "DuRetrieval/corpus/dev.jsonl", [{"_id": "1", "text": "甲"}]),
        "two versions of one table",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_naming_file_and_mend(tmp_path: Path, fault: str) -> None:
    layout, spoil, message = FAULTS[fault]
    LAYOUTS[layout](tmp_path, DU.name)
    task_sets([DU], tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as found:
        task_sets([DU], tmp_path)
    assert "\n" not in str(found.value)


def test_a_missing_file_of_the_last_task_shows_before_the_first_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_mirror.all_tasks(tmp_path)
    (tmp_path / "VideoRetrieval-qrels").rename(tmp_path / "Other")

    def read(*_: Any) -> None:
        raise AssertionError("a task was read")

    monkeypatch.setattr("zhihui.evaluation.sets.read_mirror", read)
    with pytest.raises(InputError, match="VideoRetrieval-qrels"):
        task_sets(find_tasks(["all"]), tmp_path)


def test_without_a_mirror_mteb_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    class Official:
        def load_data(self) -> None:
            self.dataset = {
                "default": {
                    "dev": {
                        "corpus": Dataset.from_dict({"id": [*PASSAGES], "text": [*PASSAGES.values()]}),
                        "queries": Dataset.from_dict({"id": ["6"], "text": ["护照"]}),
                        "relevant_docs": {"6": {"4": 1}},
                    }
                }
            }

    mteb = mteb_tasks.load_mteb()
    monkeypatch.setattr(mteb, "get_task", lambda name: Official())
    (found,) = task_sets([DU], None)
    assert found.data.qrels == {"dev": {"6": {"4": 1}}}
    assert found.data.corpus["4"].full == PASSAGES["4"]

    def offline(self: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(Official, "load_data", offline)
    with pytest.raises(InputError, match=r"DuRetrieval: cannot be fetched from the hub \(no route\); go online, or"):
        task_sets([DU], None)
