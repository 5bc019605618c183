"""`zhihui mine` over Ray: the negatives of one machine, also where a worker dies."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from ray_texts import TEXTS

from zhihui.distributed.workers import RayWorkers
from zhihui.encoder.devices import open_on
from zhihui.errors import InputError
from zhihui.ranking import exact
from zhihui.records import Example, read_examples, write_examples

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path):
    write_examples(tmp_path / "data.jsonl", [Example(query=text[:9], pos=[text]) for text in TEXTS])
    return tmp_path / "data.jsonl"


def test_the_negatives_are_those_of_one_machine(cluster, zhihui, model, data, tmp_path):
    common = ["mine", data, "--model", model, "--method", "dense:1-20:5", "--method", "bm25:1-9:2", "--ratio", 0.999]
    zhihui(*common, "--out", tmp_path / "here", "--seed", 3)
    shown = zhihui(*common, "--out", tmp_path / "there", "--seed", 3, "--ray", "local")
    assert "30 examples, 30 passages searched" in shown
    here, there = (list(read_examples(tmp_path / place / "train.jsonl")) for place in ("here", "there"))
    assert [example.neg for example in there] == [example.neg for example in here]
    assert all(len(example.neg) > 2 for example in there), "the dense miner found some too"
    for one, other in zip(here, there, strict=True):
        for left, right in zip(one.meta["negatives"], other.meta["negatives"], strict=True):
            assert left | {"score": 0} == right | {"score": 0}
            assert left["score"] == pytest.approx(right["score"], abs=2e-6)


def test_a_worker_that_dies_is_replaced(cluster, mortal, model, tmp_path):
    expected = open_on("cpu", model=str(model)).encode_documents(TEXTS)
    with closing(RayWorkers(cluster, mortal(dies=1, at="第13句"), chunk=8)) as workers:
        vectors = workers.encode_documents(TEXTS)
        assert (tmp_path / "log" / "died-0").exists()
        np.testing.assert_allclose(vectors, expected, atol=1e-6, rtol=0)
        whole = exact.search(expected, expected, 7)
        np.testing.assert_array_equal(workers.search(expected, expected, 7).indices, whole.indices)
        workers._ray.kill(workers._actors[0], no_restart=False)
        np.testing.assert_array_equal(workers.search(expected, expected, 7).indices, whole.indices)
        with pytest.raises(InputError, match="both must be"):
            workers.search(expected[:, :3], expected, 7)
