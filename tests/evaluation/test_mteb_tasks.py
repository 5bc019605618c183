"""The bridge to mteb: its scores for our encoder and task are our scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhihui.evaluation import mteb_tasks
from zhihui.evaluation.metrics import METRICS
from zhihui.evaluation.run import Evaluation, evaluate
from zhihui.evaluation.systems import Bm25System, DenseSystem
from zhihui.records import RetrievalSet
from zhihui.runs import read_json

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class MtebEncoder:
    """The encoder as mteb's `EncoderProtocol`, searched by mteb's own code: only the vectors are ours."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.mteb_model_meta = mteb_tasks.model_meta("peer", "1")

    def encode(self, inputs: Any, *, task_metadata: Any, prompt_type: Any = None, **_: Any) -> Any:
        texts = [text for batch in inputs for text in batch["text"]]
        if prompt_type.value == "query":
            return self.encoder.encode_queries(texts, instruction=(task_metadata.prompt or {}).get("query"))
        return self.encoder.encode_documents(texts)

    def similarity(self, a: Any, b: Any) -> Any:
        return np.asarray(a) @ np.asarray(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        return (np.asarray(a) * np.asarray(b)).sum(axis=1)


def assert_same(scores: dict[str, Any], evaluation: Evaluation) -> None:
    ours = evaluation.systems[0].intervals
    for metric in METRICS:
        # mteb rounds to five places.
        assert scores[metric] == pytest.approx(ours[metric].value, abs=6e-6), metric
    assert scores["main_score"] == scores["ndcg_at_10"]
    assert 0.1 < scores["ndcg_at_10"] < 0.99


@pytest.mark.parametrize("instruction", [None, "请找出能回答问题的段落："])
def test_mtebs_own_search_gives_our_numbers(
    tiny: RetrievalSet, encoder: Any, tmp_path: Path, instruction: str | None
) -> None:
    task = mteb_tasks.make_task(tiny, "test", instruction=instruction)
    found = mteb_tasks.write_mteb_results(tmp_path, MtebEncoder(encoder), [task])
    assert_same(found["tiny"], evaluate(tiny, "test", [DenseSystem(encoder, instruction=instruction)]))


def test_our_search_protocol_gives_our_numbers(tiny: RetrievalSet, encoder: Any, tmp_path: Path) -> None:
    instruction = "请找出能回答问题的段落："
    task = mteb_tasks.make_task(tiny, "test", instruction=instruction)
    found = mteb_tasks.write_mteb_results(tmp_path, mteb_tasks.EncoderSearch(encoder), [task])
    assert_same(found["tiny"], evaluate(tiny, "test", [DenseSystem(encoder, instruction=instruction)]))
    bare = mteb_tasks.EncoderSearch(encoder, use_task_instructions=False)
    plain = mteb_tasks.write_mteb_results(tmp_path / "bare", bare, [task])
    assert_same(plain["tiny"], evaluate(tiny, "test", [DenseSystem(encoder)]))


def test_a_ranking_already_made_is_scored_as_it_is(tiny: RetrievalSet, tmp_path: Path) -> None:
    rankings = []
    evaluation = evaluate(tiny, "test", [Bm25System()], observe=lambda _, ranking: rankings.append(ranking))
    model = mteb_tasks.RankingSearch(rankings[0], tiny, "test", name="bm25", revision="r1")
    found = mteb_tasks.write_mteb_results(tmp_path, model, [mteb_tasks.make_task(tiny, "test")])
    assert_same(found["tiny"], evaluation)
    written = read_json(tmp_path / "results" / "local__bm25" / "r1" / "tiny.json")
    assert written["task_name"] == "tiny"
    assert written["scores"]["test"][0]["ndcg_at_10"] == found["tiny"]["ndcg_at_10"]


def test_a_checkpoint_of_its_own_fingerprint_never_gets_stale_scores(
    tiny: RetrievalSet, encoder: Any, tmp_path: Path
) -> None:
    task = mteb_tasks.make_task(tiny, "test")
    first = mteb_tasks.write_mteb_results(tmp_path, mteb_tasks.EncoderSearch(encoder), [task])
    encoded = encoder.documents_encoded
    again = mteb_tasks.write_mteb_results(tmp_path, mteb_tasks.EncoderSearch(encoder), [task])
    assert encoder.documents_encoded == encoded
    assert again["tiny"]["ndcg_at_10"] == first["tiny"]["ndcg_at_10"]
    encoder.fingerprint = "another checkpoint"
    mteb_tasks.write_mteb_results(tmp_path, mteb_tasks.EncoderSearch(encoder), [task])
    assert encoder.documents_encoded == 2 * encoded


def test_titles_are_joined_as_in_a_passage(tiny: RetrievalSet) -> None:
    task = mteb_tasks.make_task(tiny, "test")
    task.load_data()
    corpus = task.dataset["default"]["test"]["corpus"]
    assert mteb_tasks._texts(corpus) == [passage.full for passage in tiny.corpus.values()]


def test_the_revision_follows_the_content(tiny: RetrievalSet) -> None:
    before = mteb_tasks.set_revision(tiny, "test")
    assert mteb_tasks.set_revision(tiny, "test") == before
    tiny.qrels["test"]["q1"]["猫"] = 1
    assert mteb_tasks.set_revision(tiny, "test") != before


@pytest.mark.parametrize(
    ("name", "expected"), [("acme/embed", "acme/embed"), ("m", "local/m"), ("/tmp/a/m", "local/tmp_a_m")]
)
def test_names_have_an_organisation(name: str, expected: str) -> None:
    assert mteb_tasks.model_meta(name, "1").name == expected


def test_importing_mteb_leaves_the_home_folder_alone(tmp_path: Path) -> None:
    code = "from zhihui.evaluation.mteb_tasks import load_mteb; print(load_mteb().__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.strip() == "mteb"
    assert not (tmp_path / ".cache" / "mteb").exists()
