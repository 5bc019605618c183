from __future__ import annotations

import pytest
import torch

from zhihui.errors import InputError
from zhihui.training.memory import Memory, MemoryConfig

NOTHING = torch.tensor([], dtype=torch.long)


def passages(*keys: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors that hold their key, and the keys."""
    found = torch.tensor(keys)
    return found[:, None].float() + torch.tensor([0.0, 0.5]), found


def held(memory: Memory, source: str = "a", step: int = 99, present: torch.Tensor = NOTHING) -> list[int]:
    found = memory.recall(source, step, present)
    if found is None:
        return []
    assert torch.equal(found.vectors[:, 0], found.keys.float()), "vectors and keys must stay together"
    return found.keys.tolist()


def test_first_in_is_first_out():
    memory = Memory(MemoryConfig(size=4))
    for step in (1, 2, 3):
        memory.remember("a", step, *passages(10 * step, 10 * step + 1))
    assert held(memory) == [20, 21, 30, 31]


def test_each_data_set_has_its_own():
    memory = Memory(MemoryConfig(size=4))
    memory.remember("a", 1, *passages(1, 2))
    memory.remember("b", 2, *passages(3))
    assert held(memory, "a") == [1, 2]
    assert held(memory, "b") == [3]
    assert held(memory, "c") == []


def test_nothing_is_remembered_of_the_warm_up():
    memory = Memory(MemoryConfig(size=4, warmup=2))
    for step in (1, 2, 3):
        memory.remember("a", step, *passages(step))
    assert held(memory) == [3]


def test_what_is_stale_is_not_used():
    memory = Memory(MemoryConfig(size=8, staleness=2))
    for step in (1, 2, 3):
        memory.remember("a", step, *passages(step))
    assert held(memory, step=4) == [2, 3]
    assert held(memory, step=5) == [3]
    assert held(memory, step=6) == []


def test_of_equal_texts_the_newest_stays_and_the_batch_has_its_own():
    memory = Memory(MemoryConfig(size=8))
    memory.remember("a", 1, *passages(1, 2, 3))
    vectors, keys = passages(2, 2, 4)
    vectors[0] += 100  # an older vector of the same text
    memory.remember("a", 2, vectors, keys)
    assert held(memory) == [1, 3, 2, 4]
    assert held(memory, present=torch.tensor([3, 4])) == [1, 2]


def test_it_is_read_back_as_it_was_written(tmp_path):
    memory, other = Memory(MemoryConfig(size=8)), Memory(MemoryConfig(size=8))
    memory.remember("中文/名 字", 1, *passages(1, 2))
    memory.remember("", 2, *passages(3))
    memory.write(tmp_path)
    other.read(tmp_path, torch.device("cpu"))
    for source in ("中文/名 字", ""):
        one, two = memory.recall(source, 5, NOTHING), other.recall(source, 5, NOTHING)
        assert one is not None
        assert two is not None
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    Memory(MemoryConfig(size=8)).write(tmp_path)
    other.read(tmp_path, torch.device("cpu"))
    assert held(other, "") == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": -1}, "size -1"),
        ({"size": 8, "warmup": -1}, "warmup -1"),
        ({"size": 8, "staleness": 0}, "staleness 0 forgets all at once"),
        ({"warmup": 5}, "give it a size"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MemoryConfig(**settings)
