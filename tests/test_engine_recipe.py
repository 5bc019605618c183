"""The data engine's recipe on what is shipped: every question has a recorded answer, and the whole way is walked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from zhihui.quickstart.engine import RECIPE as SHOWN
from zhihui.recipe import read_recipe, run_recipe
from zhihui.records import Passage, RetrievalSet, read_beir, read_examples, read_rows, write_beir
from zhihui.records.shipped import ENGINE, RECORDING, STARTER
from zhihui.runs import read_json, read_manifest
from zhihui.synthesis.methods import METHODS
from zhihui.teacher import RecordedTeacher
from zhihui.teacher.request import dumps

RECIPE = Path(__file__).parents[1] / "recipes" / "engine.yaml"
ASKING = {method.stage for method in METHODS.values()}
RESULTS = ("train.jsonl", "rejected.jsonl", "page.html", "stats.json", "report.md")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to training."""
    out = tmp_path_factory.mktemp("runs") / "engine"
    run_recipe(read_recipe(RECIPE), out, until="stats")
    return out


def counts(run: Path, stage: str) -> dict:
    manifest = read_manifest(run / stage)
    assert manifest is not None
    return manifest.counts


def results(run: Path) -> dict[str, bytes]:
    files = [path for path in sorted(run.rglob("*")) if path.name in RESULTS]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


# --------------------------------------------------------------------------- the recording


def test_every_question_has_a_recorded_answer_that_fits_and_every_answer_its_question(finished):
    asking = [step.name for step in read_recipe(RECIPE).steps if step.kind in ASKING]
    assert asking == ["queries", "topics", "triplets", "label", "refine", "rewrite"]
    for name in asking:
        assert not {"not_recorded", "wrong_schema"} & counts(finished, name)["rejected"].keys(), name
    lines = RECORDING.read_text(encoding="utf-8").splitlines()
    assert sum(counts(finished, name)["teacher"]["cached"] for name in asking) == len(lines) == 203


def test_a_question_worded_otherwise_is_not_recorded(tmp_path):
    recipe = read_recipe(RECIPE, ["topics.topics=4"])
    run_recipe(recipe, tmp_path / "run", until="topics")
    assert counts(tmp_path / "run", "topics")["rejected"] == {"not_recorded": 5}


def test_the_recording_is_as_the_program_writes_it():
    lines = [json.loads(line) for line in RECORDING.read_text(encoding="utf-8").splitlines()]
    order = sorted(lines, key=lambda line: (line["template"], line["role"], line["key"]))
    assert RECORDING.read_text(encoding="utf-8") == "".join(dumps(line) + "\n" for line in order)
    assert len({line["key"] for line in lines}) == len(lines)


def test_no_two_written_texts_are_the_same():
    answers = [json.loads(line)["answer"] for line in RECORDING.read_text(encoding="utf-8").splitlines()]
    texts = [each["query"] for answer in answers for each in answer.get("queries", []) if isinstance(each, dict)]
    texts += [query for answer in answers for topic in answer.get("topics", []) for query in topic["queries"]]
    texts += [query for answer in answers for query in answer.get("queries", []) if isinstance(query, str)]
    texts += [answer["query"] for answer in answers if "hard_negative" in answer]
    assert len(texts) == len(set(texts)) == 80 + 50 + 14 + 12


# --------------------------------------------------------------------------- the texts


def test_passages_and_examples_are_of_training_clusters_only():
    starter = read_beir(STARTER)
    train = {key for grades in starter.judged("train").values() for key in grades}
    passages = {row.data["_id"]: row.data["text"] for row in read_rows(ENGINE / "passages.jsonl")}
    assert len(passages) == 40
    assert passages.keys() <= train
    assert all(starter.corpus[key].text == text for key, text in passages.items())
    queries = {starter.queries[key] for key in starter.judged("train")}
    known = set(passages.values())
    for example in read_examples(ENGINE / "examples.jsonl"):
        assert example.query in queries
        assert {*example.pos, *example.neg} <= known


def test_documents_are_long_and_no_passages_of_the_set():
    documents = [row.data for row in read_rows(ENGINE / "documents.jsonl")]
    assert [600 <= len(document["text"]) <= 1200 for document in documents] == [True] * 5
    shipped = "".join(passage.text for passage in read_beir(STARTER).corpus.values())
    for document in documents:
        assert not [sentence for sentence in document["text"].split("。") if len(sentence) > 9 and sentence in shipped]


# --------------------------------------------------------------------------- the run


def test_each_stage_accepts_and_rejects_what_it_should(finished):
    queries, topics, triplets = (counts(finished, name) for name in ("queries", "topics", "triplets"))
    assert (queries["wanted"], queries["accepted"], queries["rejected"]) == (80, 64, {"not_retrieved": 16})
    assert (topics["documents_used"], topics["topics_used"], topics["accepted"]) == (5, 25, 50)
    assert topics["coverage"] > 0.8
    assert (triplets["tasks"], triplets["accepted"]) == (3, 12)
    refine, rewrite = counts(finished, "refine"), counts(finished, "rewrite")
    fates = refine["passages_by_fate"]
    assert (refine["examples"], refine["accepted"], refine["rejected"]) == (40, 38, {"no_positive": 2})
    assert (fates["neg_promoted"], fates["pos_demoted"], fates["neg_borderline"], fates["pos_borderline"]) == (
        8,
        9,
        2,
        1,
    )
    assert (rewrite["accepted"], rewrite["rejected"]) == (14, {"no_negative": 1})
    dedup = counts(finished, "dedup")
    assert (dedup["examples"], dedup["kept"]) == (64, 64)
    assert dedup["protected"]["starter"] > 500, "the dev and test splits are what it is compared with"


def test_promoted_passages_are_those_that_the_set_says_are_relevant(finished):
    """What moves on doubtful labels moves to where the set's own judgements say."""
    starter = read_beir(STARTER)
    keys = {passage.text: key for key, passage in starter.corpus.items()}
    found = {example.id: example for example in read_examples(finished / "refine" / "train.jsonl")}
    log = [example for example in found.values() if example.source == "log"]
    assert len(log) == 13
    for example in log:
        grades = starter.judged("train")[example.id.removeprefix("log-")]
        assert {keys[text] for text in example.pos} == {key for key, grade in grades.items() if grade == 2}


@pytest.mark.parametrize("questions", [100, 190], ids=["refine", "rewrite"])
def test_cut_short_and_run_again_it_ends_with_the_same_bytes(finished, tmp_path, monkeypatch, questions):
    outcome, asked = RecordedTeacher._outcome, 0

    def stop(self, ask):
        nonlocal asked
        asked += 1
        if asked > questions:
            raise KeyboardInterrupt
        return outcome(self, ask)

    with monkeypatch.context() as patched:
        patched.setattr(RecordedTeacher, "_outcome", stop)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(read_recipe(RECIPE), tmp_path / "run", until="stats")
    assert results(tmp_path / "run") != results(finished)
    run_recipe(read_recipe(RECIPE), tmp_path / "run", until="stats")
    assert results(tmp_path / "run") == results(finished)
    assert len(results(finished)) > 12


@pytest.mark.slow
def test_what_it_makes_can_be_trained_on_and_measured(finished, tmp_path):
    """The last stages, with a tiny model on a small set."""
    starter = read_beir(STARTER)
    judged = dict(list(starter.judged("test").items())[:12])
    corpus = {key: Passage(starter.corpus[key].text) for grades in judged.values() for key in grades}
    qrels = {"train": judged, "test": judged}
    write_beir(tmp_path / "small", RetrievalSet(name="small", corpus=corpus, queries=starter.queries, qrels=qrels))
    words = [
        f"start.data={tmp_path / 'small'}",
        "start.shape=tiny",
        "train.epochs=1",
        f"evaluate.sets=[{tmp_path / 'small'}]",
    ]
    done = run_recipe(read_recipe(RECIPE, words), finished)
    assert {one.name for one in done if one.state == "done"} == {"start", "train", "evaluate"}
    assert next(one for one in done if one.name == "train").counts["steps"] >= 5
    assert {"bm25", "before", "after"} <= read_json(finished / "evaluate" / "results.json").keys()


# --------------------------------------------------------------------------- the recipe


def test_the_quickstart_shows_the_same_stages():
    whole, shown = (yaml.safe_load(path.read_text(encoding="utf-8"))["stages"] for path in (RECIPE, SHOWN))
    assert list(whole) == [*shown, "start", "train", "evaluate"]
    assert shown == {name: whole[name] for name in shown}
