"""Writers that are killed, wait, or find the disk full, and readers they do not disturb."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from word_encoder import WordEncoder

from zhihui.encoder import CachedEncoder
from zhihui.errors import InputError, RunFailure
from zhihui.search import generations, open_index, writing
from zhihui.search.generations import current, only_writer, open_generation

# Imports once. At a line it writes the index in a child and says its process id; at the next, how the child ended. Till
# then the id is nobody else's.
WRITER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from word_encoder import WordEncoder
from zhihui.ranking import segment
from zhihui.search import update_index
segment("押金")  # the dictionary is read here and not in every child
docs, index, model = sys.argv[2:]
while sys.stdin.readline():
    child = os.fork()
    if child == 0:
        update_index([Path(docs)], Path(index), model=model, encoder=WordEncoder())
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
NAMES = ["租房", "买房", "借车", "用水", "用电", "网络", "搬家", "维修", "清洁", "停车", "宠物", "家具"]


def version(docs, number):
    """Write documents of which every passage says the version."""
    for name in NAMES:  # lines that differ in numbers alone would be boilerplate
        (docs / f"{name}.txt").write_text(f"关于{name}的第{number}版，说明押金如何退还。\n")


def versions_found(folder):
    with open_index(folder) as index:
        hits = index.search("押金如何退还", encoder=WordEncoder(), top_k=100)
        assert len(hits) == len(index) == 12
        assert {hit.source for hit in hits} == {f"{name}.txt" for name in NAMES}
        return {int(hit.text[hit.text.index("第") + 1 : hit.text.index("版")]) for hit in hits}


@pytest.fixture
def writer(docs, tmp_path, model):
    """Start writing the index in a process of its own, and wait until it has ended."""
    command = [sys.executable, "-c", WRITER, Path(__file__).parent, docs, tmp_path / "index", model]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask():
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ask, ask


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_index(writer, docs, tmp_path):
    start, ended = writer
    for file in (*docs.glob("*.md"), *docs.glob("*.txt"), docs / "sub" / "rows.jsonl"):
        file.unlink()
    version(docs, 0)
    start()
    assert ended() == 0
    began = time.monotonic()
    version(docs, 1)
    start()
    assert ended() == 0
    lasts = time.monotonic() - began
    assert versions_found(tmp_path / "index") == {1}
    generator = random.Random(0)
    last, killed = 1, 0
    for number in range(2, 22):
        version(docs, number)
        child = start()
        time.sleep(generator.uniform(0, lasts))
        os.kill(child, signal.SIGKILL)
        killed += ended() == -signal.SIGKILL
        (found,) = versions_found(tmp_path / "index")
        assert found in (last, number)
        last = found
    assert killed >= 5
    start()
    assert ended() == 0
    assert versions_found(tmp_path / "index") == {21}
    assert len(os.listdir(tmp_path / "index")) == 2, "nothing of the killed ones is left"


def test_what_a_killed_writer_left_is_no_hindrance_and_goes(write, docs, tmp_path):
    index = tmp_path / "index"
    (index / ".building" / "read").mkdir(parents=True)
    (index / ".building" / "vectors.npy").write_bytes(b"torn")
    (index / "generation-000001").mkdir()  # renamed, and then killed
    (index / ".current.json.123.partial").write_text("{")
    with pytest.raises(InputError, match="not an index"):
        open_index(index)
    assert write(docs).changed
    assert sorted(os.listdir(index)) == ["current.json", "generation-000001"]


def test_a_reader_keeps_its_generation_until_it_closes(write, docs, tmp_path):
    write(docs)
    index = tmp_path / "index"
    with open_index(index) as reader:
        before = reader.search("押金", encoder=WordEncoder(), mode="dense")
        (docs / "rent.md").unlink()
        write(docs)
        assert not reader.is_current
        # Words and columns are read from disk only now.
        assert [hit.source for hit in reader.search("押金", mode="bm25", filters="source = rent.md")] == ["rent.md"] * 2
        assert reader.search("押金", encoder=WordEncoder(), mode="dense") == before
        (docs / "train.txt").unlink()
        write(docs)
        assert sorted(os.listdir(index)) == ["current.json", "generation-000001", "generation-000003"]
    with open_index(index) as reader:
        assert reader.is_current
        assert len(reader) == 2
    (docs / "more.txt").write_text("泡绿茶的水温不要超过八十五度。")
    write(docs)
    assert sorted(os.listdir(index)) == ["current.json", "generation-000004"]


def test_a_generation_that_goes_while_it_is_opened_is_not_missed(write, docs, tmp_path, monkeypatch):
    write(docs)
    old = current(tmp_path / "index")
    (docs / "rent.md").unlink()
    write(docs)
    asked = iter([old])
    monkeypatch.setattr(generations, "current", lambda index: next(asked, None) or current(index))
    found = open_generation(tmp_path / "index")
    os.close(found.lock)
    assert found.folder.name == "generation-000002"


def test_the_second_writer_is_refused_by_the_number_of_the_first(write, docs, tmp_path):
    with only_writer(tmp_path / "index"), pytest.raises(RunFailure) as refused:
        write(docs)
    assert str(refused.value).endswith(f"index: process {os.getpid()} is writing it; wait until it is done")
    assert not (tmp_path / "index").exists()
    assert write(docs).changed


def test_the_lock_of_a_dead_process_holds_nobody_up(write, docs, tmp_path):
    (tmp_path / ".index.lock").write_text("1\n")
    assert write(docs).changed
    assert not (tmp_path / ".index.lock").exists()


@pytest.mark.parametrize("moment", ["embed", "bm25", "describe"])
def test_a_full_disk_leaves_the_old_index(write, docs, tmp_path, monkeypatch, moment):
    write(docs)
    (docs / "train.txt").write_text("泡绿茶的水温不要超过八十五度。")

    def full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    what = {"embed": (CachedEncoder, "encode_documents"), "bm25": (writing.BM25, "save")}
    monkeypatch.setattr(*what.get(moment, (writing, "write_json")), full)
    with pytest.raises(RunFailure, match="the disk is full; the index is as it was: make room and run again"):
        write(docs)
    monkeypatch.undo()
    with open_index(tmp_path / "index") as index:
        assert any("高铁" in index.row(number)["text"] for number in range(len(index)))
    encoder = WordEncoder()
    assert write(docs, encoder=encoder).changed
    assert len(encoder.encoded) == (1 if moment == "embed" else 0), "what was encoded was kept"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda index: (index / "current.json").unlink(), "not an index; write one with zhihui index"),
        (lambda index: (index / "current.json").write_text('{"format": 2}'), "has format 2, this zhihui reads 1"),
        (lambda index: (index / "current.json").write_text("[]"), "not an index"),
        (
            lambda index: (index / "current.json").write_text('{"format": 1, "generation": "../x"}'),
            "names no generation",
        ),
        (lambda index: (index / "generation-000001").rename(index / "x"), "it names is not there"),
        (lambda index: (index / "generation-000001" / "vectors.npy").unlink(), "damaged"),
        (lambda index: (index / "generation-000001" / "vectors.npy").write_bytes(b"x"), "damaged"),
        (lambda index: (index / "generation-000001" / "description.json").write_text('{"format": 1}'), "damaged"),
        (
            lambda index: np.save(index / "generation-000001" / "vectors.npy", np.zeros((3, 32), dtype=np.float32)),
            "damaged ([3, 32] vectors, 5 passages, not [5, 32])",
        ),
    ],
    ids=["no", "newer", "list", "outside", "moved", "absent", "torn", "undescribed", "short"],
)
def test_what_is_no_index_or_damaged_is_said(write, docs, tmp_path, spoil, message):
    write(docs)
    spoil(tmp_path / "index")
    with pytest.raises(InputError) as refused:
        open_index(tmp_path / "index")
    assert message in str(refused.value)


def test_a_damaged_index_is_rebuilt(write, docs, tmp_path):
    write(docs)
    (tmp_path / "index" / "generation-000001" / "vectors.npy").unlink()
    with pytest.raises(InputError, match=r"damaged .*--rebuild"):
        write(docs)
    assert write(docs, rebuild=True).description.passages == 5


def test_readers_lock_the_folder_and_not_the_index(write, docs, tmp_path):
    write(docs)
    with open_index(tmp_path / "index"), open_index(tmp_path / "index"):
        descriptor = os.open(tmp_path / "index" / "generation-000001", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    pointer = json.loads((tmp_path / "index" / "current.json").read_text())
    assert pointer == {"format": 1, "generation": "generation-000001"}
