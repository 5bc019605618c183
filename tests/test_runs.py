from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhihui import runs
from zhihui.errors import InputError, RunFailure
from zhihui.runs import Manifest, atomic_open, fingerprint, fingerprint_path, read_json, run_stage, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def stage(out: Path, source: Path, *, config: object = None, overwrite: bool = False) -> tuple[Manifest, bool]:
    """Run a stage that copies a file; returns its manifest and whether it worked."""
    worked = []

    def work(folder: Path) -> dict[str, int]:
        worked.append(folder)
        (folder / "copy.txt").write_text(source.read_text())
        return {"rows": 1}

    settings = {"seed": 1} if config is None else config
    return run_stage("copy", out, work, inputs={"text": source}, config=settings, overwrite=overwrite), bool(worked)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "source.txt"
    path.parent.mkdir()
    path.write_text("一行中文\n")
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --------------------------------------------------------------------------- stages


def test_a_finished_stage_has_its_files_and_manifest_only(tmp_path, source):
    manifest, worked = stage(tmp_path / "out", source)
    assert worked
    assert not manifest.reused
    assert names(tmp_path / "out") == {"copy.txt", "manifest.json"}
    assert names(tmp_path) == {"in", "out"}
    written = read_json(tmp_path / "out" / "manifest.json")
    assert written["inputs"] == {"text": fingerprint_path(source)}
    assert written["config"] == {"seed": 1}
    assert written["counts"] == {"rows": 1}
    assert written["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "reused" not in written


def test_the_same_work_is_done_once(tmp_path, source):
    first, _ = stage(tmp_path / "out", source)
    before = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    again, worked = stage(tmp_path / "out", source)
    assert not worked
    assert again.reused
    assert again == first
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == before


def test_another_config_is_refused_by_the_names_of_its_settings(tmp_path, source):
    stage(tmp_path / "out", source, config={"seed": 1, "count": 4, "name": "a"})
    with pytest.raises(
        InputError, match=r"out: holds a finished copy run with other settings \(count, seed\)"
    ) as error:
        stage(tmp_path / "out", source, config={"seed": 2, "name": "a"})
    assert "--overwrite" in str(error.value)


def test_a_config_that_is_no_mapping_is_refused_too(tmp_path, source):
    stage(tmp_path / "out", source, config=[1])
    with pytest.raises(InputError, match=r"other settings \(config\)"):
        stage(tmp_path / "out", source, config=[2])


def test_other_inputs_are_refused_and_replaced_when_told(tmp_path, source):
    stage(tmp_path / "out", source)
    source.write_text("另一行\n")
    with pytest.raises(InputError, match="holds a finished copy run with other inputs"):
        stage(tmp_path / "out", source)
    assert (tmp_path / "out" / "copy.txt").read_text() == "一行中文\n"
    _, worked = stage(tmp_path / "out", source, overwrite=True)
    assert worked
    assert (tmp_path / "out" / "copy.txt").read_text() == "另一行\n"
    assert names(tmp_path) == {"in", "out"}


def test_the_run_of_another_stage_is_refused(tmp_path, source):
    stage(tmp_path / "out", source)
    with pytest.raises(InputError, match="holds a finished copy run; choose another folder"):
        run_stage("mine", tmp_path / "out", lambda folder: {}, inputs={"text": source}, config={"seed": 1})


def test_overwrite_replaces_runs_and_nothing_else(tmp_path, source):
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    file = tmp_path / "file"
    file.write_text("")
    for out in (home, file):
        with pytest.raises(InputError, match="was not made by zhihui"):
            stage(out, source, overwrite=True)
    assert (home / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("out", [".", "..", "a/.."])
def test_a_run_needs_a_name(tmp_path, monkeypatch, source, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="give it a name"):
        stage(Path(out), source)


def test_an_empty_folder_may_be_used(tmp_path, source):
    (tmp_path / "out").mkdir()
    stage(tmp_path / "out", source)
    assert (tmp_path / "out" / "copy.txt").is_file()


def test_a_missing_input_leaves_nothing(tmp_path, source):
    with pytest.raises(InputError, match="no such file or folder"):
        stage(tmp_path / "out", tmp_path / "none.txt")
    assert names(tmp_path) == {"in"}


def test_a_manifest_of_something_else_is_refused(tmp_path, source):
    (tmp_path / "out").mkdir()
    for content in ("{", "[]", '{"name": "web app"}'):
        (tmp_path / "out" / "manifest.json").write_text(content)
        with pytest.raises(InputError, match=r"manifest\.json: not"):
            stage(tmp_path / "out", source, overwrite=True)


KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from zhihui.runs import atomic_open, run_stage

    out, count, kill_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    def work(folder):
        done = [n for n in range(count) if (folder / f"{n}.txt").exists()]
        print("found", len(done))
        for n in range(len(done), count):
            with atomic_open(folder / f"{n}.txt") as stream:
                stream.write(str(n))
                stream.flush()
                if n == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        return {"files": count, "found": len(done)}

    run_stage("count", out, work, inputs={}, config={"count": count})
    """
)


def killed_at(out: Path, count: int, kill_at: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", KILLED, str(out), str(count), str(kill_at)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def test_a_stage_killed_in_the_middle_goes_on(tmp_path):
    out = tmp_path / "out"
    assert killed_at(out, 5, 3).returncode == -signal.SIGKILL
    assert not out.exists()
    ended = killed_at(out, 5, -1)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "found 3\n"
    assert names(out) == {*(f"{n}.txt" for n in range(5)), "manifest.json"}, "no torn file is left"
    assert [(out / f"{n}.txt").read_text() for n in range(5)] == list("01234")
    assert names(tmp_path) == {"out"}
    assert killed_at(out, 5, 0).stdout == "", "finished work is not done again"


def test_a_killed_attempt_at_other_work_is_not_gone_on_from(tmp_path):
    assert killed_at(tmp_path / "out", 5, 3).returncode == -signal.SIGKILL
    assert killed_at(tmp_path / "out", 4, -1).stdout == "found 0\n"
    assert read_json(tmp_path / "out" / "manifest.json")["counts"] == {"files": 4, "found": 0}


def test_bad_input_leaves_nothing_unless_an_earlier_attempt_had_work(tmp_path, source):
    def work(folder: Path) -> dict[str, int]:
        (folder / "half.txt").write_text("半")
        raise error

    error: Exception = InputError("bad row")
    with pytest.raises(InputError, match="bad row"):
        run_stage("copy", tmp_path / "out", work, inputs={"text": source}, config={})
    assert names(tmp_path) == {"in"}
    error = RunFailure("cut short")
    with pytest.raises(RunFailure):
        run_stage("copy", tmp_path / "out", work, inputs={"text": source}, config={})
    error = InputError("bad row")
    with pytest.raises(InputError):
        run_stage("copy", tmp_path / "out", work, inputs={"text": source}, config={})
    assert (tmp_path / ".out.partial" / "half.txt").is_file()


def test_a_failing_stage_keeps_its_work_and_shows_no_folder(tmp_path, source):
    def fail(folder: Path) -> dict[str, int]:
        (folder / "half.txt").write_text("half")
        raise OSError("disk full")

    def go_on(folder: Path) -> dict[str, int]:
        assert (folder / "half.txt").read_text() == "half"
        return {}

    with pytest.raises(OSError, match="disk full"):
        run_stage("copy", tmp_path / "out", fail, inputs={"text": source}, config={})
    assert not (tmp_path / "out").exists()
    run_stage("copy", tmp_path / "out", go_on, inputs={"text": source}, config={})
    assert names(tmp_path / "out") == {"half.txt", "manifest.json"}


@pytest.mark.parametrize("cut", ["rename", "replace_folder"])
def test_killed_after_the_work_before_the_folder_is_in_place(tmp_path, monkeypatch, source, cut):
    """Killed between any two of the last steps: the work is not lost, whatever was replaced."""
    stage(tmp_path / "out", source, config={"seed": 0})

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if cut == "replace_folder":
            patch.setattr(runs, "replace_folder", die)
        else:
            real = Path.rename
            patch.setattr(Path, "rename", lambda path, new: die() if new.name == "out" else real(path, new))
        with pytest.raises(Killed):
            stage(tmp_path / "out", source, overwrite=True)
    _, worked = stage(tmp_path / "out", source, overwrite=True)
    assert not worked
    assert names(tmp_path / "out") == {"copy.txt", "manifest.json"}
    assert read_json(tmp_path / "out" / "manifest.json")["config"] == {"seed": 1}
    assert names(tmp_path) == {"in", "out"}


# --------------------------------------------------------------------------- lock


def test_two_processes_do_not_share_a_folder(tmp_path, source):
    with (tmp_path / ".out.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunFailure, match="another zhihui process is writing there"):
            stage(tmp_path / "out", source)
    stage(tmp_path / "out", source)
    assert names(tmp_path) == {"in", "out"}


def test_a_stage_holds_the_lock_while_it_works(tmp_path, source):
    def work(folder: Path) -> dict[str, int]:
        with pytest.raises(RunFailure):
            stage(tmp_path / "out", source)
        return {}

    run_stage("outer", tmp_path / "out", work, inputs={}, config={})


def test_the_lock_file_of_a_holder_that_just_left_guards_nothing(tmp_path, monkeypatch, source):
    """The holder removes its file between our opening and our locking it: we must lock the new one."""
    real, times = fcntl.flock, []

    def flock(file: object, how: int) -> None:
        times.append(how)
        if len(times) == 1:
            (tmp_path / ".out.lock").unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    stage(tmp_path / "out", source)
    assert len(times) == 2


# --------------------------------------------------------------------------- files


def write_half(path: Path, mode: str) -> None:
    with atomic_open(path, mode) as stream:
        stream.write("half" if mode == "w" else b"half")
        stream.flush()
        assert not path.exists() or path.read_text() == "old"
        raise ZeroDivisionError


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_atomic_open_leaves_nothing_after_an_error(tmp_path, mode):
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path / "new" / "file.txt", mode)
    assert names(tmp_path / "new") == set()


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_atomic_open_keeps_the_old_file_after_an_error(tmp_path, mode):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_half(path, mode)
    assert path.read_text() == "old"
    with atomic_open(path) as stream:
        stream.write("新\n")
    assert path.read_bytes() == "新\n".encode()
    assert names(tmp_path) == {"file.txt"}


@given(value=JSON)
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_read_json_says_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "none.json")
    for content in (b"{", b"\xff"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.json: not valid JSON"):
            read_json(tmp_path / "bad.json")


# --------------------------------------------------------------------------- fingerprints


@dataclass(frozen=True)
class Settings:
    seed: int
    folder: Path


def test_a_dataclass_counts_as_its_dict():
    assert fingerprint(Settings(1, Path("a"))) == fingerprint({"folder": "a", "seed": 1})
    assert fingerprint(Settings(1, Path("a"))) != fingerprint(Settings(2, Path("a")))
    with pytest.raises(TypeError, match="cannot write object as JSON"):
        fingerprint(object())


@given(value=st.dictionaries(st.text(), JSON, max_size=4))
def test_the_order_of_keys_does_not_count(value):
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))
    assert fingerprint(value) == fingerprint(json.loads(json.dumps(value)))


def test_fingerprint_of_a_folder(tmp_path):
    def folder(name: str, **files: str) -> str:
        (tmp_path / name / "sub").mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / name / "sub" / file).write_text(text)
        return fingerprint_path(tmp_path / name)

    one = folder("one", a="x", b="y")
    assert one == folder("two", b="y", a="x")
    assert one != folder("three", a="y", b="x")
    assert one != folder("four", a="xy", b="")
    os.rename(tmp_path / "one" / "sub" / "a", tmp_path / "one" / "sub" / "c")
    assert one != fingerprint_path(tmp_path / "one")


def test_work_done_twice_has_one_fingerprint(tmp_path, source):
    """Or else every later stage would have to be done again after an earlier one, though nothing changed."""
    stage(tmp_path / "one", source)
    stage(tmp_path / "two", source)
    manifest = read_json(tmp_path / "two" / "manifest.json")
    write_json(tmp_path / "two" / "manifest.json", {**manifest, "seconds": 99.0})
    assert fingerprint_path(tmp_path / "one") == fingerprint_path(tmp_path / "two")
