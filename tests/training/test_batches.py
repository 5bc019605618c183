from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.training.batches import BatchConfig, draw, plan


def rows(**sizes: int) -> list[Example]:
    return [
        Example(query=f"{name}问{i}", pos=[f"{name}答{i}"], neg=[f"{name}错{i}-{j}" for j in range(3)], source=name)
        for name, size in sizes.items()
        for i in range(size)
    ]


def sources(examples: list[Example], batches: list[list[int]]) -> list[set[str | None]]:
    return [{examples[row].source for row in batch} for batch in batches]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(8, 40), min_size=1, max_size=4),
    size=st.integers(2, 8),
    mixing=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 5),
)
def test_every_batch_is_full_of_one_data_set_and_without_equal_texts(sizes, size, mixing, seed):
    examples = rows(**{f"s{n}": count for n, count in enumerate(sizes)})
    batches = plan(examples, BatchConfig(size=size, mixing=mixing), epochs=2, seed=seed)
    assert batches
    for batch, found in zip(batches, sources(examples, batches), strict=True):
        assert len(batch) == size
        assert len(set(batch)) == size
        assert len(found) == 1


def test_a_pass_takes_every_row_once_but_for_the_rest_that_fills_no_batch():
    examples = rows(a=37)
    batches = plan(examples, BatchConfig(size=8), epochs=1, seed=0)
    taken = [row for batch in batches for row in batch]
    assert len(batches) == 4
    assert len(set(taken)) == 32


def test_rows_with_an_equal_query_or_positive_never_meet():
    examples = rows(a=12)
    twins = [Example(query=examples[0].query, pos=["别的答"], source="a"), Example(query="别的问", pos=examples[1].pos)]
    twins[1].source = "a"
    examples += twins
    met = Counter()
    for seed in range(20):
        for batch in plan(examples, BatchConfig(size=6), epochs=1, seed=seed):
            assert not {0, 12} <= set(batch)
            assert not {1, 13} <= set(batch)
            met.update(row for row in batch if row >= 12)
    assert met[12] > 3, "the twins must be used, not lost"
    assert met[13] > 3


def test_the_plan_depends_on_the_seed_alone_and_epochs_differ():
    examples = rows(a=40, b=24)
    config = BatchConfig(size=8)
    first = plan(examples, config, epochs=2, seed=3)
    assert first == plan(examples, config, epochs=2, seed=3)
    assert first != plan(examples, config, epochs=2, seed=4)
    half = len(first) // 2
    assert first[:half] != first[half:]
    assert first[:half] == plan(examples, config, epochs=1, seed=3), "more epochs must not change the earlier ones"


@pytest.mark.parametrize(("mixing", "expected"), [(1.0, {"a": 8, "b": 2}), (0.0, {"a": 5, "b": 5})])
def test_mixing_gives_the_shares(mixing, expected):
    examples = rows(a=64, b=16)
    batches = plan(examples, BatchConfig(size=8, mixing=mixing), epochs=1, seed=0)
    assert Counter(found.pop() for found in sources(examples, batches)) == expected


def test_weights_give_the_shares_and_must_name_the_sets():
    examples = rows(a=64, b=16)
    batches = plan(examples, BatchConfig(size=8, weights={"a": 1, "b": 4}), epochs=1, seed=0)
    assert Counter(found.pop() for found in sources(examples, batches)) == {"a": 2, "b": 8}
    with pytest.raises(InputError, match=r"weights names \['a'\], the data sets are \['a', 'b'\]"):
        plan(examples, BatchConfig(size=8, weights={"a": 1}), epochs=1, seed=0)


def test_a_set_drawn_twice_as_often_is_gone_through_again_in_another_order():
    examples = rows(a=64, b=16)
    batches = plan(examples, BatchConfig(size=8, mixing=0.0), epochs=1, seed=0)
    of_b = sorted(tuple(sorted(batch)) for batch in batches if batch[0] >= 64)
    assert len(of_b) == 5
    assert len(set(of_b)) > 2
    counts = Counter(row for batch in of_b for row in batch)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_too_few_rows_are_refused_by_the_name_of_the_set():
    with pytest.raises(InputError, match="data set b: its 3 rows give no batch of 8"):
        plan(rows(a=20, b=3), BatchConfig(size=8), epochs=1, seed=0)
    same = [Example(query="同一个问题", pos=[f"答{i}"]) for i in range(20)]
    with pytest.raises(InputError, match="distinct texts"):
        plan(same, BatchConfig(size=8), epochs=1, seed=0)


def test_draws_are_seeded_without_repetition_and_new_each_step():
    example = Example(query="问", pos=["甲", "乙", "丙"], neg=[f"错{i}" for i in range(10)])
    config = BatchConfig(size=2, negatives=4, positives=2)
    draws = [draw(example, config, seed=0, step=step) for step in range(20)]
    assert draws == [draw(example, config, seed=0, step=step) for step in range(20)]
    for positives, negatives in draws:
        assert len(set(positives)) == 2
        assert len(set(negatives)) == 4
    assert len({tuple(negatives) for _, negatives in draws}) > 10
    assert draws != [draw(example, config, seed=1, step=step) for step in range(20)]


def test_what_there_is_too_little_of_is_taken_whole():
    example = Example(query="问", pos=["甲"], neg=["错1", "错2"])
    positives, negatives = draw(example, BatchConfig(size=2, negatives=4, positives=3), seed=0, step=0)
    assert positives == [0]
    assert sorted(negatives) == [0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 1}, "batch size 1 has no in-batch negatives"),
        ({"negatives": -1}, "negatives -1"),
        ({"positives": 0}, "positives 0"),
        ({"query_tokens": 1}, "query_tokens 1 leaves no room"),
        ({"passage_tokens": 0}, "passage_tokens 0 leaves no room"),
        ({"mixing": 1.5}, "mixing 1.5 is out of range"),
        ({"weights": {"a": 0.0}}, "share of 0 or less"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        BatchConfig(**settings)
