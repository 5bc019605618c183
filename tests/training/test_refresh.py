from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_trainer import CONFIG

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.training.batches import BatchConfig
from zhihui.training.collate import Batches
from zhihui.training.processes import Processes
from zhihui.training.refresh import Notes, RefreshConfig, Reserves
from zhihui.training.trainer import train

EXAMPLES = [
    Example(query="问一", pos=["答一"], neg=[f"错{i}" for i in range(4)]),
    Example(query="问二", pos=["答二"], neg=["误0"]),
]


def reserves(**settings) -> Reserves:
    return Reserves(EXAMPLES, BatchConfig(size=2, negatives=2), RefreshConfig(every=1, **settings))


def note(found: Reserves, step: int, similarity: float, row: int = 0, slot: int = 0) -> None:
    found.note(Notes(step, torch.tensor([row]), torch.tensor([slot]), torch.tensor([similarity])))


def test_the_first_negatives_are_in_use():
    found = reserves()
    assert found.active(0) == [0, 1]
    assert found.active(1) == [0]


@pytest.mark.parametrize(
    ("first", "now", "replaced"),
    [(0.7, 0.6, True), (0.7, 0.62, False), (0.7, 0.8, False), (0.99, 0.82, False), (0.5, -0.9, False)],
)
def test_a_negative_goes_when_it_has_become_easy(first, now, replaced):
    found = reserves()
    note(found, 1, first, slot=1)
    note(found, 2, now, slot=1)
    assert found.refresh(Processes()) == replaced
    assert found.active(0) == ([0, 2] if replaced else [0, 1])


def test_a_fresh_negative_is_judged_by_its_own_first_similarity_until_the_reserve_is_used_up():
    found = reserves()
    for expected in (2, 3, 3):
        note(found, 1, 0.7)
        note(found, 2, 0.2)
        found.refresh(Processes())
        assert found.active(0)[0] == expected
        assert found.refresh(Processes()) == 0, "nothing is known yet of the fresh one"
    note(found, 3, 0.7, row=1)
    note(found, 4, 0.2, row=1)
    assert found.refresh(Processes()) == 0
    assert found.active(1) == [0], "there was no reserve"


def test_notes_count_in_the_order_of_their_steps():
    found = reserves()
    note(found, 2, 0.2)
    note(found, 1, 0.7)
    assert found.refresh(Processes()) == 1


def test_training_draws_what_is_in_use_and_replaces_it(model, examples, tmp_path):
    seen = []

    class Watched(Batches):
        def __getitem__(self, step):
            batch = super().__getitem__(step)
            seen.append((step, {row: self.reserves.active(row) for row in batch.rows}))
            return batch

    import zhihui.training.trainer as module

    before = module.Batches
    module.Batches = Watched
    try:
        config = replace(CONFIG, refresh=RefreshConfig(every=4, easing=1.0, bound=1.0))
        history = train(model, examples, config, tmp_path)
    finally:
        module.Batches = before
    assert [step for step, _ in history.refreshed] == [4, 8, 12, 16]
    assert sum(count for _, count in history.refreshed) > 5
    fresh = [step for step, active in seen for used in active.values() if 2 in used]
    assert fresh
    assert min(fresh) >= 8, "a first epoch has nothing to compare with"
    assert all(len(used) == 2 for _, active in seen for used in active.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": -1}, "every -1"),
        ({"easing": 0.9}, "easing 0.9 would replace what became harder"),
        ({"bound": 0.0}, "bound 0.0 is no cosine above 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RefreshConfig(**settings)
