from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.training.batches import BatchConfig, plan
from zhihui.training.near import Alike, folded, jaccard, sketch


def text(seed: int, length: int) -> str:
    return "".join(chr(0x4E00 + random.Random(seed * 1000 + i).randrange(2000)) for i in range(length))


def of(one: str, other: str) -> float:
    return jaccard(sketch(one), sketch(other))


def test_similarity_is_that_of_the_sets_of_three_characters():
    assert of("甲乙丙丁", "甲乙丙丁") == 1.0
    assert of("甲乙丙丁", "乙丙丁戊") == pytest.approx(1 / 3)
    assert of("甲乙丙", "丁戊己") == 0.0
    assert of("短", "短") == 1.0
    assert of("短", "长") == 0.0


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 400), changes=st.integers(0, 30), seed=st.integers(0, 10**6))
def test_what_is_found_is_what_comparing_all_would_find(length, changes, seed):
    draw = random.Random(seed)
    first = text(seed, length)
    other = list(first)
    for _ in range(changes):
        other[draw.randrange(length)] = chr(0x8000 + draw.randrange(500))
    alike = Alike(0.8)
    alike.add([sketch(text(seed + 1, 50)), sketch(first)])
    assert alike.has([sketch("".join(other))]) == (of(first, "".join(other)) >= 0.8)


def test_texts_are_folded_before_they_are_compared():
    assert folded("  GPU　顯卡\n２块") == "gpu 显卡 2块"


def test_near_duplicates_do_not_meet_in_a_batch_and_none_is_lost():
    long = text(1, 200)
    twins = [long, long[:-1] + "变", "开" + long, long.replace(long[100], "改", 1)]
    positives = [*twins, *(text(seed, 200) for seed in range(2, 14))]
    examples = [Example(query=f"问{i}号", pos=[positive], source="a") for i, positive in enumerate(positives)]
    met = set()
    for seed in range(10):
        for batch in plan(examples, BatchConfig(size=4), epochs=1, seed=seed):
            assert len(set(batch) & set(range(len(twins)))) <= 1
            met |= set(batch) & set(range(len(twins)))
    assert met == set(range(len(twins)))
    loose = BatchConfig(size=4, near_duplicates=None)
    plans = [plan(examples, loose, epochs=1, seed=seed) for seed in range(10)]
    together = [len(set(batch) & set(range(len(twins)))) for batches in plans for batch in batches]
    assert max(together) > 1, "without the threshold they would have met"


def test_queries_that_differ_in_script_or_width_do_not_meet():
    queries = ["顯卡怎么选", "显卡怎么选", "ＣＰＵ怎么选", "cpu怎么选"]
    queries += [f"问题{i}" for i in range(8)]
    examples = [Example(query=query, pos=[text(i, 30)]) for i, query in enumerate(queries)]
    for seed in range(10):
        for batch in plan(examples, BatchConfig(size=4), epochs=1, seed=seed):
            assert not {0, 1} <= set(batch)
            assert not {2, 3} <= set(batch)


def test_the_plan_is_the_same_in_every_process():
    """Python's own hashes differ from process to process."""
    import subprocess
    import sys

    code = (
        "from zhihui.records import Example; from zhihui.training.batches import BatchConfig, plan;"
        "rows = [Example(query=f'问{i}', pos=[f'答{i // 2}']) for i in range(20)];"
        "print(plan(rows, BatchConfig(size=4), epochs=2, seed=1))"
    )
    command = [sys.executable, "-c", code]
    found = {
        subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_a_threshold_out_of_bounds_is_refused():
    with pytest.raises(InputError, match=r"near_duplicates 0\.0"):
        BatchConfig(near_duplicates=0.0)
