from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path

import pytest

from zhihui.errors import InputError
from zhihui.records import BadRow, RejectLog, read_rows, suffix_of, write_rows


def rows(path: Path, **options: object) -> list[tuple[str, dict[str, object]]]:
    return [(row.where.removeprefix(f"{path}:"), row.data) for row in read_rows(path, **options)]


def test_blank_lines_bom_and_line_ends_are_no_matter(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": "\\ud83d\\ude00"}\n{"a": 3}')
    assert rows(path) == [("1", {"a": 1}), ("4", {"a": "😀"}), ("5", {"a": 3})]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_limit_counts_the_line_without_its_end(tmp_path, end):
    path = tmp_path / "a.jsonl"
    line = b'{"a": "x"}'
    path.write_bytes(line + end)
    assert rows(path, max_line_bytes=len(line)) == [("1", {"a": "x"})]
    with pytest.raises(BadRow, match=r"a\.jsonl:1: the line is longer than 9 bytes"):
        rows(path, max_line_bytes=len(line) - 1)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("extra", range(4))
def test_lines_are_numbered_rightly_around_a_long_one(tmp_path, end, extra):
    path = tmp_path / "a.jsonl"
    path.write_bytes(end.join([b'{"a": 1}', b'{"a": "' + b"x" * (11 + extra) + b'"}', b'{"a": 3}', b""]))
    with RejectLog(tmp_path / "rejected.jsonl") as rejects:
        found = rows(path, max_line_bytes=20, rejects=rejects)
    assert found[0] == ("1", {"a": 1})
    assert found[-1] == ("3", {"a": 3})
    assert rejects.counts == ({"line_too_long": 1} if extra else {})


def test_deep_nesting_is_a_fault_of_the_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n")
    with pytest.raises(BadRow, match="not JSON"):
        rows(path)


def test_rows_before_the_damage_of_a_gzip_file_are_used(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n')
    path.write_bytes(whole + b"garbage")
    rejects = RejectLog(None)
    assert rows(path, rejects=rejects) == [("1", {"a": 1}), ("2", {"a": 2})]
    assert rejects.counts == {"broken_gzip": 1}
    path.write_bytes(b"no gzip at all")
    with pytest.raises(BadRow, match=r"a\.jsonl\.gz:1: damaged gzip"):
        rows(path)


def test_damaged_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    write_rows(path, [{"a": "问题" * 50 + str(n)} for n in range(2000)])
    whole = path.read_bytes()
    for damaged in (whole[:-100], b"", b"PAR1", whole[:200] + bytes(400) + whole[600:]):
        path.write_bytes(damaged)
        with pytest.raises(BadRow, match=r"a\.parquet:\d+: not readable as Parquet"):
            rows(path)
        rejects = RejectLog(None)
        rows(path, rejects=rejects)
        assert rejects.counts == {"broken_parquet": 1}


def test_nan_in_parquet_is_set_aside(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    day = datetime.date(2024, 6, 1)
    table = pyarrow.table({"a": [1.0, float("nan"), None], "b": [[0.5], [1.0], [2.0]], "day": [day] * 3})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(BadRow, match=r"a\.parquet:2: holds NaN"):
        rows(path)
    with RejectLog(tmp_path / "rejected.jsonl") as rejects:
        found = rows(path, rejects=rejects)
    assert found == [("1", {"a": 1.0, "b": [0.5], "day": day}), ("3", {"b": [2.0], "day": day})]
    (entry,) = map(json.loads, (tmp_path / "rejected.jsonl").read_text().splitlines())
    assert (entry["where"], entry["reason"]) == (f"{path}:2", "not_json")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf"), [float("nan")], "\ud83d", datetime.date(2024, 6, 1)])
def test_what_json_cannot_hold_is_not_written(tmp_path, suffix, value):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(InputError, match="cannot be written"):
        write_rows(path, [{"a": 1}, {"b": value}])
    assert list(tmp_path.iterdir()) == []


def test_columns_of_mixed_types_survive_parquet(tmp_path):
    written = [
        {"a": 1, "b": [True]},
        {"a": "x", "b": [1, 2]},
        {"a": 2**70},
        {"a": {"k": None}},
        {"a": [None, []]},
    ]
    write_rows(tmp_path / "a.parquet", written)
    assert [row.data for row in read_rows(tmp_path / "a.parquet")] == written


def test_unknown_suffix(tmp_path):
    assert suffix_of(Path("a.b.jsonl.gz")) == ".jsonl.gz"
    with pytest.raises(InputError, match=r"a\.csv: unknown kind of file; name it \.jsonl, \.jsonl\.gz or \.parquet"):
        suffix_of(Path("a.csv"))


# --------------------------------------------------------------------------- rejects


def test_a_reject_log_without_rejects_leaves_no_file_and_removes_an_old_one(tmp_path):
    path = tmp_path / "rejected.jsonl"
    path.write_text("of an earlier run")
    with RejectLog(path):
        pass
    assert not path.exists()


def test_a_reject_log_keeps_the_old_file_when_the_run_fails(tmp_path):
    path = tmp_path / "rejected.jsonl"
    path.write_text("of an earlier run")
    log = RejectLog(path)

    def fail() -> None:
        with log:
            log.add({"a": 1}, "reason", "file:1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "of an earlier run"
    assert [file.name for file in tmp_path.iterdir()] == ["rejected.jsonl"]


def test_a_reject_log_can_be_read_again(tmp_path):
    path = tmp_path / "rejected.jsonl"
    with RejectLog(path) as log:
        log.add({"a": "中"}, "one", "file:1", detail="why")
        log.add({"a": "\ud83d"}, "two", "file:2")
        log.add("x" * 5000, "two", "file:3")
    assert log.counts == {"one": 1, "two": 2}
    first, second, third = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first == {"where": "file:1", "reason": "one", "detail": "why", "row": {"a": "中"}}
    assert second["row"] == {"a": "\ud83d"}
    assert len(third["text"]) == 1000


def test_simple_columns_are_plain_parquet(tmp_path):
    """Other tools read our files: text, numbers and lists of them are columns of their own types."""
    import pyarrow.parquet

    write_rows(tmp_path / "a.parquet", [{"query": "问", "pos": ["答"], "pos_scores": [0.5], "rank": 1, "meta": {}}])
    schema = pyarrow.parquet.read_schema(tmp_path / "a.parquet")
    types = {field.name: str(field.type).replace("element", "item") for field in schema}
    assert types == {
        "query": "string",
        "pos": "list<item: string>",
        "pos_scores": "list<item: double>",
        "rank": "int64",
        "meta": "string",
    }
