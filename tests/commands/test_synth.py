"""`zhihui synth` and `zhihui refine`: from a recording, through a batch file, or only said."""

from __future__ import annotations

import json
import re

import pytest

from zhihui.records import Example, read_examples, write_examples, write_rows
from zhihui.synthesis import QueryConfig, RefineConfig
from zhihui.synthesis.grading import GradeGiven, GradesGiven
from zhihui.synthesis.query import QueriesWritten, QueryWritten
from zhihui.synthesis.rehearsal import rehearse
from zhihui.teacher import write_recording

ANSWERS = {
    "干香菇怎么泡发才快": "干香菇用温水泡半小时，水里加一点白糖更快。",
    "木耳泡太久会不会变质": "干木耳用冷水泡两小时，泡得太久会变质。",
    "海带上的白霜要洗掉吗": "海带表面的白霜用水冲掉，褶皱里的沙要刷净。",
}
TEACHER = """
endpoints:
  small:
    base_url: http://127.0.0.1:9/v1
    model: tiny
    price: {input: 1.0, output: 2.0}
    retries: 0
roles: {judge: [small], writer: [small]}
cache: answers.sqlite
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a corpus, examples and a teacher nobody can reach."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "corpus.jsonl", [{"_id": f"p{n}", "text": text} for n, text in enumerate(ANSWERS.values())])
    texts = list(ANSWERS.values())
    examples = [Example(query=query, pos=[text], neg=[texts[0]], id=query) for query, text in list(ANSWERS.items())[1:]]
    write_examples(tmp_path / "examples.jsonl", examples)
    (tmp_path / "teacher.yaml").write_text(TEACHER, encoding="utf-8")
    return tmp_path


def answer(ask):
    """Write the passage's query, or grade what answers the query with 4."""
    if ask.template.startswith("query"):
        query = next(query for query, text in ANSWERS.items() if text in ask.user)
        return QueriesWritten(queries=[QueryWritten(number=1, query=query)])
    query = next(query for query in ANSWERS if query in ask.user)
    passages = re.findall(r"<材料 \d+ \w+>\n(.*)\n", ask.user)
    grades = [4 if passage == ANSWERS[query] else 0 for passage in passages]
    return GradesGiven(grades=[GradeGiven(number=n, grade=grade, reason="理由") for n, grade in enumerate(grades, 1)])


def asks(data, config):
    return rehearse(data, config, lambda ask: None).open


QUERY = ["--set", "queries=1", "--set", "checks.length_slack=9"]
CONFIG = QueryConfig(queries=1)


@pytest.fixture
def recording(folder):
    path = folder / "answers.jsonl"
    questions = [*asks(folder / "corpus.jsonl", CONFIG), *asks(folder / "examples.jsonl", RefineConfig())]
    write_recording(path, [(ask, answer(ask)) for ask in questions])
    return path


def test_queries_from_a_recording(zhihui, folder, recording):
    done = zhihui("synth", "query", "corpus.jsonl", "--out", "out", "--recording", recording, *QUERY)
    assert (done.status, done.err) == (0, "")
    assert "out/train.jsonl: 3 examples" in done.out
    assert "teacher: 0 calls" in done.out
    assert [example.query for example in read_examples(folder / "out" / "train.jsonl")] == list(ANSWERS)


def test_refinement_and_labels_from_a_recording(zhihui, folder, recording):
    done = zhihui("refine", "examples.jsonl", "--out", "out", "--recording", recording, "--json")
    manifest = json.loads(done.out)["manifest"]
    assert manifest["stage"] == "refine"
    assert manifest["counts"]["passages_by_fate"] == {"neg_kept": 2, "pos_kept": 2}
    done = zhihui("refine", "examples.jsonl", "--out", "out", "--recording", recording)
    assert "neg kept: 2" in done.out
    done = zhihui("synth", "label", "examples.jsonl", "--out", "labels", "--recording", recording)
    assert done.status == 0
    assert [example.pos_scores for example in read_examples(folder / "labels" / "train.jsonl")] == [[4.0], [4.0]]


def test_questions_that_are_not_recorded_are_not_accepted(zhihui, folder, recording):
    done = zhihui("synth", "query", "corpus.jsonl", "--out", "out", "--recording", recording, "--set", "queries=2")
    assert done.status == 0
    assert "0 examples" in done.out
    assert "not accepted: 6 (not_recorded); see out/rejected.jsonl" in done.out


def test_a_dry_run_asks_nothing_and_writes_nothing(zhihui, folder, recording):
    before = sorted(folder.iterdir())
    done = zhihui("synth", "query", "corpus.jsonl", "--out", "out", "--teacher", "teacher.yaml", *QUERY, "--dry-run")
    assert done.status == 0
    assert "questions: 0 answered before, 3 open" in done.out
    assert re.search(r"3 calls, about [\d,]+ prompt tokens", done.out)
    assert "cost at most 0.0" in done.out
    assert [file for file in sorted(folder.iterdir()) if not file.name.startswith("answers.sqlite")] == before
    done = zhihui("refine", "examples.jsonl", "--out", "out", "--recording", recording, "--dry-run", "--json")
    assert json.loads(done.out) == {"answered": 4, "open": 0, "later": []}
    options = ["--teacher", "teacher.yaml", "--set", "judge=true", "--dry-run"]
    assert (
        "then the judge: up to 3 calls for each" in zhihui("synth", "query", "corpus.jsonl", "--out", "o", *options).out
    )


def results(requests, path, questions):
    """Answer a batch file as an endpoint would."""
    lines = []
    for line in requests.read_text(encoding="utf-8").splitlines():
        request = json.loads(line)
        user = next(message["content"] for message in request["body"]["messages"] if message["role"] == "user")
        ask = next(ask for ask in questions if ask.user in user)
        message = {"role": "assistant", "content": answer(ask).model_dump_json()}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        }
        lines.append(json.dumps({"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_batch_route_needs_no_call(zhihui, folder):
    common = ["synth", "query", "corpus.jsonl", "--out", "out", "--teacher", "teacher.yaml", *QUERY]
    done = zhihui(*common, "--batch-out", "requests.jsonl")
    assert "requests.jsonl: 3 requests written" in done.out
    assert not (folder / "out").exists()
    results(folder / "requests.jsonl", folder / "results.jsonl", asks(folder / "corpus.jsonl", CONFIG))
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines(True)
    (folder / "half.jsonl").write_text("".join(lines[:2]), encoding="utf-8")
    done = zhihui(*common, "--batch-in", "half.jsonl")
    assert "2 replies taken" in done.out
    assert "questions: 2 answered before, 1 open" in done.out
    assert not (folder / "out").exists(), "what is open must not be asked one by one unseen"
    done = zhihui(*common, "--batch-in", "results.jsonl", "--json", "--record", "answers.jsonl")
    assert done.status == 0, done.err
    assert json.loads(done.out)["manifest"]["counts"]["accepted"] == 3
    assert json.loads(done.out)["manifest"]["counts"]["teacher"]["calls"] == 0
    done = zhihui("synth", "query", "corpus.jsonl", "--out", "again", "--recording", "answers.jsonl", *QUERY)
    again = [example.query for example in read_examples(folder / "again" / "train.jsonl")]
    assert again == list(ANSWERS), "what was recorded is what was answered"


def test_settings_are_shown_and_come_from_file_and_words(zhihui, folder):
    (folder / "own.yaml").write_text("queries: 5\nvariety: {types: [title]}\n", encoding="utf-8")
    done = zhihui("synth", "query", "--out", "out", "--config", "own.yaml", "--set", "seed=4", "--show-settings")
    assert done.status == 0, done.err
    for line in ("queries: 5", "seed: 4", "- title", "- 准备考试的高中生", "judge: false"):
        assert line in done.out
    assert "- keyword" not in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synth", "query", "corpus.jsonl", "--out", "o"], "no teacher; give either a teacher's YAML file"),
        (
            ["synth", "query", "corpus.jsonl", "--out", "o", "--teacher", "teacher.yaml", "--recording", "r"],
            "a teacher and a recording; give either",
        ),
        (["synth", "query", "--out", "o", "--teacher", "teacher.yaml"], "query starts from passages"),
        (
            ["synth", "triplet", "corpus.jsonl", "--out", "o", "--teacher", "teacher.yaml"],
            "triplet starts from no data",
        ),
        (["synth", "qeury", "--out", "o"], "qeury"),
        (["refine", "examples.jsonl", "--out", "o", "--teacher", "t.yaml"], "t.yaml: no such file"),
        (["refine", "examples.jsonl", "--out", "o", "--recording", "r.jsonl"], "r.jsonl: no such recording"),
        (
            ["refine", "examples.jsonl", "--out", "o", "--teacher", "teacher.yaml", "--set", "positive=3"],
            "settings: unknown setting positive; did you mean positives?",
        ),
        (
            ["refine", "examples.jsonl", "--out", "o", "--teacher", "teacher.yaml", "--templates", "none"],
            "none: no such folder of templates",
        ),
        (
            ["synth", "query", "corpus.jsonl", "--out", "o", "--teacher", "teacher.yaml", "--model", "m"],
            "only a dense round trip uses a model",
        ),
        (
            ["refine", "examples.jsonl", "--out", "o", "--recording", "r.jsonl", "--batch-out", "b"],
            "a recording has no batch route",
        ),
        (
            ["refine", "examples.jsonl", "--out", "o", "--teacher", "teacher.yaml", "--batch-endpoint", "small"],
            "--batch-endpoint chooses what --batch-out writes",
        ),
        (
            ["refine", "examples.jsonl", "--out", "o", "--recording", "r.jsonl", "--record", "a", "--dry-run"],
            "--record writes the answers of a run",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(zhihui, folder, arguments, message):
    done = zhihui(*arguments)
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (folder / "o").exists()


def test_a_broken_own_template_is_named_with_its_line(zhihui, folder):
    (folder / "own").mkdir()
    front = "---\nname: grade\nversion: 2\nrole: judge\n---\n"
    text = front + "{% block system %}{% endblock %}\n{{ qurey }}\n{% block user %}"
    (folder / "own" / "grade.zh.jinja").write_text(text, encoding="utf-8")
    done = zhihui("refine", "examples.jsonl", "--out", "o", "--teacher", "teacher.yaml", "--templates", "own")
    assert done.status == 2
    assert done.err.startswith("zhihui: own/grade.zh.jinja:8: not a template: ")
    assert done.err.count("\n") == 1


def test_a_teacher_that_cannot_be_reached_is_said(zhihui, folder):
    done = zhihui("refine", "examples.jsonl", "--out", "out", "--teacher", "teacher.yaml")
    assert done.status == 0, "two questions may fail; only where all do is the run given up"
    assert "not accepted: 2 (unreachable)" in done.out
    assert "to ask the unreachable ones again, remove out and run again" in done.out
