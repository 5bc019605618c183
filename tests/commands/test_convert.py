from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOOD = {"query": "感冒了该吃什么", "pos": ["多喝温水，饮食清淡。"], "neg": ["汽车保养的周期。"]}


def line(**changes: Any) -> bytes:
    return (json.dumps({**GOOD, **changes}, ensure_ascii=False) + "\n").encode()


def second_line(data: bytes) -> Callable[[Path], Path]:
    """A native file whose second line is at fault, between two good ones."""

    def build(folder: Path) -> Path:
        path = folder / "examples.jsonl"
        path.write_bytes(line() + data + b"\n" + line(query="牙疼怎么办"))
        return path

    return build


def empty(folder: Path) -> Path:
    path = folder / "examples.jsonl"
    path.write_bytes(b"")
    return path


def truncated_gzip(folder: Path) -> Path:
    path = folder / "examples.jsonl.gz"
    # Lines that do not compress, so that the first ones are whole before the end.
    rows = b"".join(line(id=f"{n * 7919 % 10007:x}", query=f"第{n * n}个问题") for n in range(5000))
    path.write_bytes(gzip.compress(rows)[:-2000])
    return path


def beir(folder: Path, *, corpus: str = "", queries: str = "", qrels: str | bytes = "") -> Path:
    """A BEIR folder with a sound query, and one more line in a file."""
    path = folder / "set"
    (path / "qrels").mkdir(parents=True)
    (path / "corpus.jsonl").write_text('{"_id": "d1", "text": "一"}\n{"_id": "d2", "text": "二"}\n' + corpus)
    (path / "queries.jsonl").write_text('{"_id": "q1", "text": "问"}\n{"_id": "q2", "text": "题"}\n' + queries)
    extra = qrels if isinstance(qrels, bytes) else qrels.encode()
    (path / "qrels" / "test.tsv").write_bytes(b"query-id\tcorpus-id\tscore\nq1\td1\t1\n" + extra)
    return path


# name: (builds the input, where in it, words of the line, reason counted)
MALFORMED: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    "wrong keys": (
        second_line(b'{"question": "x", "pos": ["y"]}'),
        "examples.jsonl:2",
        "no key 'query'",
        "missing_key",
    ),
    "not an object": (second_line(b'["x"]'), "examples.jsonl:2", "one JSON object a line", "not_object"),
    "not JSON": (second_line(b'{"query": '), "examples.jsonl:2", "not JSON", "not_json"),
    "broken UTF-8": (
        second_line('{"query": "问"}'.encode("gb18030")),
        "examples.jsonl:2",
        "iconv",
        "not_utf8",
    ),
    "no positives": (second_line(line(pos=[]).strip()), "examples.jsonl:2", "pos is empty", "no_positive"),
    "blank query": (
        second_line(line(query=" \u3000").strip()),
        "examples.jsonl:2",
        "query is blank",
        "blank_text",
    ),
    "10 MB line": (
        second_line(line(query="长" * 3_500_000).strip()),
        "examples.jsonl:2",
        "longer than",
        "line_too_long",
    ),
    "NaN": (
        second_line(b'{"query": "x", "pos": ["y"], "pos_scores": [NaN]}'),
        "examples.jsonl:2",
        "NaN",
        "not_json",
    ),
    "too large a number": (
        second_line(b'{"query": "x", "pos": ["y"], "a": 1e999}'),
        "examples.jsonl:2",
        "1e999",
        "not_json",
    ),
    "half a surrogate pair": (
        second_line(b'{"query": "\\ud83d", "pos": ["y"]}'),
        "examples.jsonl:2",
        "surrogate",
        "half_surrogate",
    ),
    "scores for other passages": (
        second_line(line(pos_scores=[1, 2]).strip()),
        "examples.jsonl:2",
        "2 scores for 1 passages",
        "score_count",
    ),
    "truncated gzip": (truncated_gzip, "examples.jsonl.gz:", "damaged gzip", "broken_gzip"),
    "duplicate passage id": (
        lambda f: beir(f, corpus='{"_id": "d1", "text": "三"}\n'),
        "corpus.jsonl:3",
        "given twice",
        "duplicate_id",
    ),
    "duplicate query id": (
        lambda f: beir(f, queries='{"_id": "q1", "text": "三"}\n'),
        "queries.jsonl:3",
        "given twice",
        "duplicate_id",
    ),
    "row without id": (
        lambda f: beir(f, corpus='{"text": "三"}\n'),
        "corpus.jsonl:3",
        '"_id" is missing',
        "no_id",
    ),
    "blank passage": (
        lambda f: beir(f, corpus='{"_id": "d3", "text": ""}\n'),
        "corpus.jsonl:3",
        "blank",
        "blank_text",
    ),
    "unknown passage": (
        lambda f: beir(f, qrels="q1\td9\t1\n"),
        "test.tsv:3",
        "'d9' is not in",
        "unknown_passage",
    ),
    "unknown query": (
        lambda f: beir(f, qrels="q9\td1\t1\n"),
        "test.tsv:3",
        "'q9' is not in",
        "unknown_query",
    ),
    "judged twice": (
        lambda f: beir(f, qrels="q1\td1\t0\n"),
        "test.tsv:3",
        "judged twice",
        "duplicate_judgement",
    ),
    "judged irrelevant only": (
        lambda f: beir(f, qrels="q2\td1\t0\n"),
        "test.tsv:3",
        "no passage of grade",
        "no_positive",
    ),
    "grade no number": (lambda f: beir(f, qrels="q2\td1\t好\n"), "test.tsv:3", "no integer", "bad_judgement"),
    "two columns": (lambda f: beir(f, qrels="q2 d1\t1\n"), "test.tsv:3", "2 tab-separated", "bad_judgement"),
    "broken UTF-8 in qrels": (
        lambda f: beir(f, qrels=b"q\xff\td1\t1\n"),
        "test.tsv:3",
        "not UTF-8",
        "not_utf8",
    ),
}
CASES = pytest.mark.parametrize(("build", "where", "words", "reason"), MALFORMED.values(), ids=MALFORMED)


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@CASES
def test_malformed_input_is_one_line_and_leaves_nothing(tmp_path, zhihui, build, where, words, reason):
    source = build(tmp_path)
    before = files(tmp_path)
    done = zhihui("convert", source, tmp_path / "out.jsonl")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"zhihui: {source.parent if source.is_file() else source}/")
    assert where in done.err.split("; ")[0]
    assert words in done.err
    assert "; " in done.err, "the line says how to mend it"
    assert files(tmp_path) == before


@CASES
def test_quarantine_sets_malformed_input_aside(tmp_path, zhihui, build, where, words, reason):
    source = build(tmp_path)
    before = files(tmp_path)
    out, rejected = tmp_path / "out.jsonl", tmp_path / "out.jsonl.rejected.jsonl"
    done = zhihui("convert", source, out, "--on-error", "quarantine", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["rejected"] == {reason: 1}
    assert report["rejected_file"] == str(rejected)
    assert report["written"] == report["read"] == len(out.read_text().splitlines()) > 0
    (entry,) = map(json.loads, rejected.read_text().splitlines())
    assert entry["reason"] == reason
    assert where in entry["where"]
    assert words in entry["detail"]
    assert rejected.stat().st_size < 100_000, "an excerpt of a long line is enough"
    assert files(tmp_path) - before == {out, rejected}


def test_quarantine_is_told_in_words(tmp_path, zhihui):
    source = second_line(b"[]")(tmp_path)
    done = zhihui("convert", source, tmp_path / "out.jsonl", "--on-error", "quarantine")
    assert done.status == 0
    assert "2 rows of 2 examples" in done.out
    assert "set aside: 1 (not_object)" in done.out
    assert "out.jsonl.rejected.jsonl" in done.out


def test_missing_file(tmp_path, zhihui):
    for on_error in ("stop", "quarantine"):
        done = zhihui("convert", tmp_path / "none.jsonl", tmp_path / "out.jsonl", "--on-error", on_error)
        assert done.status == 2
        assert done.err == f"zhihui: {tmp_path}/none.jsonl: no such file or folder\n"
    assert not files(tmp_path)


@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no rows"),
        (b"\n\n", "no rows"),
        (b"\xff\n", "not UTF-8"),
        (b'{"frage": 1}\n', "(frage) fit no known format"),
    ],
)
def test_a_file_without_a_usable_row(tmp_path, zhihui, data, words, on_error):
    source = tmp_path / "examples.jsonl"
    source.write_bytes(data)
    done = zhihui("convert", source, tmp_path / "out.jsonl", "--on-error", on_error)
    assert done.status == 2
    assert done.err.startswith(f"zhihui: {source}:1: ")
    assert done.err.count("\n") == 1
    assert words in done.err
    assert files(tmp_path) == {source}


def test_all_rows_set_aside_names_the_reasons(tmp_path, zhihui):
    source = tmp_path / "examples.jsonl"
    source.write_bytes(line(pos=[]) * 3)
    done = zhihui("convert", source, tmp_path / "out.jsonl", "--on-error", "quarantine")
    assert done.status == 2
    assert "3 no_positive" in done.err
    assert files(tmp_path) == {source}


def test_existing_target_is_kept_unless_told(tmp_path, zhihui):
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_bytes(line())
    out.write_text("mine")
    assert zhihui("convert", source, out).status == 2
    assert out.read_text() == "mine"
    assert zhihui("convert", source, out, "--overwrite").status == 0
    assert json.loads(out.read_text()) == GOOD


def test_a_failure_keeps_what_was_to_be_replaced(tmp_path, zhihui):
    source, out = second_line(b"[]")(tmp_path), tmp_path / "b.jsonl"
    out.write_text("mine")
    assert zhihui("convert", source, out, "--overwrite").status == 2
    assert out.read_text() == "mine"
    folder = beir(tmp_path)
    was = {path: path.read_bytes() for path in files(folder) if path.is_file()}
    assert zhihui("convert", source, folder, "--overwrite").status == 2
    assert {path: path.read_bytes() for path in files(folder) if path.is_file()} == was
    assert zhihui("convert", source, folder, "--overwrite", "--on-error", "quarantine").status == 0
    assert "感冒" in (folder / "queries.jsonl").read_text()
    assert files(tmp_path) == {*was, source, out, folder, folder / "qrels", tmp_path / "set.rejected.jsonl"}


def test_overwrite_never_takes_the_source_or_foreign_files(tmp_path, zhihui):
    folder = beir(tmp_path)
    inside = folder / "train.jsonl"
    inside.write_bytes(line())
    foreign = tmp_path / "home"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    plain = tmp_path / "plain"
    plain.write_text("")
    before = files(tmp_path)
    for arguments in (
        (inside, inside),
        (inside, folder),
        (folder, folder),
        (inside, foreign),
        (inside, plain, "--to", "beir"),
        (folder, foreign, "--to", "native"),
        (inside, "."),
        (inside, ".."),
        (foreign, foreign / "letter.txt"),
    ):
        done = zhihui("convert", *arguments, "--overwrite")
        assert done.status == 2, arguments
        assert done.err.count("\n") == 1
    assert files(tmp_path) == before
    assert inside.read_bytes() == line()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.jsonl", "b.txt", "--from", "native", "--to", "native"), "unknown kind of file"),
        (("a.jsonl", "b.jsonl", "--to", "csv"), "there are: native, sentence-transformers"),
        (("a.jsonl", "b.jsonl", "--split", "dev"), "leave it out"),
        (("a.jsonl", "b.jsonl", "--to", "beir"), "BEIR is a folder"),
        (("a.jsonl", "b.jsonl", "--negatives", "2"), "has 1 negatives, 2 are wanted"),
        (("a.jsonl", "b.jsonl", "--negatives", "-1"), "Invalid value"),
        (("a.jsonl", "b.jsonl", "--on-error", "ignore"), "Invalid value"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, zhihui, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_bytes(line())
    done = zhihui("convert", *arguments)
    assert done.status == 2
    assert words in done.err
    assert files(tmp_path) == {tmp_path / "a.jsonl"}


def test_uneven_negatives_name_the_target_and_the_mend(tmp_path, zhihui):
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_bytes(line() + line(neg=[]))
    done = zhihui("convert", source, out, "--to", "sentence-transformers")
    assert done.status == 2
    assert done.err.startswith(f"zhihui: {out}: row 2 has 0 negatives, row 1 has 1")
    assert "--negatives N" in done.err
    done = zhihui("convert", source, out, "--to", "sentence-transformers", "--negatives", 0)
    assert done.status == 0
    assert "negative_1" not in out.read_text()


def test_what_is_lost_is_told(tmp_path, zhihui):
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_bytes(line(source="门诊", prompt="") + line(source="门诊", note=1))
    done = zhihui("convert", source, out, "--to", "ms-swift")
    assert done.status == 0
    assert "ms-swift has no place for source: dropped in 2 examples" in done.out
    assert "no place for prompt: dropped in 1 examples" in done.out
    assert "no place for extra: dropped in 1 examples" in done.out


def test_a_split_of_a_retrieval_set(tmp_path, zhihui):
    folder = beir(tmp_path)
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td2\t2\nq2\td1\t0\n")
    out = tmp_path / "dev.jsonl"
    assert zhihui("convert", folder, out, "--split", "dev").status == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert (row["query"], row["pos"], row["neg"], row["pos_scores"]) == ("题", ["二"], ["一"], [2.0])
    done = zhihui("convert", folder, out, "--split", "train", "--overwrite")
    assert done.status == 2
    assert "there are: dev, test" in done.err
