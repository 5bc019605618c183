from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from serving_client import until
from serving_models import BrokenModel, like

from zhihui.errors import RunFailure
from zhihui.serving.admission import Admission
from zhihui.serving.models import served
from zhihui.serving.queue import Job, Queue
from zhihui.serving.refusals import Refusal
from zhihui.serving.worker import Worker


class Echo:
    """Gives each unit back as its row."""

    name = "echo"

    def compute(self, units, worker, *, exact=False):
        return np.float32([[unit] for unit in units])


def job(target, costs, *, small=False):
    return Job(target, [*range(len(costs))], costs, small=small)


def indices(batch):
    return [unit.index for unit in batch]


def test_batches_hold_tokens_and_not_texts():
    queue, target = Queue(), Echo()
    queue.add(job(target, [3, 9, 4, 12, 1]))
    taken = [indices(queue.take(10)) for _ in range(3)]
    assert taken == [[3], [1], [2, 0, 4]], "longest first; one longer than the budget goes alone"
    assert len(queue) == 0


def test_small_calls_pass_large_ones_and_fill_up_with_them():
    queue, target = Queue(), Echo()
    large, small = job(target, [4, 4, 4]), job(target, [2], small=True)
    queue.add(large)
    queue.add(small)
    batch = queue.take(10)
    assert [unit.job for unit in batch] == [small, large, large]
    assert [unit.job for unit in queue.take(10)] == [large]


def test_a_large_call_is_not_starved():
    queue, target = Queue(), Echo()
    large = job(target, [8])
    queue.add(large)
    heads = []
    for _ in range(20):
        queue.add(job(target, [8], small=True))
        heads.append(queue.take(8)[0].job)
    assert 0 < heads.index(large) < 15


def test_a_batch_is_of_one_model():
    queue, first, second = Queue(), Echo(), Echo()
    jobs = [job(target, [1]) for target in (first, second, first)]
    for each in jobs:
        queue.add(each)
    assert [unit.job for unit in queue.take(10)] == [jobs[0], jobs[2]]
    assert [unit.job for unit in queue.take(10)] == [jobs[1]]


def test_what_is_dropped_is_not_handed_out():
    queue, target = Queue(), Echo()
    gone, stays = job(target, [4] * 9), job(target, [4])
    queue.add(gone)
    queue.add(stays)
    queue.take(8)
    queue.drop(gone)
    assert [unit.job for unit in queue.take(8)] == [stays]
    assert gone.done.cancelled()
    assert len(queue) == 0


def test_two_workers_share_one_queue_and_end_when_it_closes():
    queue, target = Queue(), Echo()
    workers = [Worker(n, queue, 7) for n in range(2)]
    jobs = [job(target, [1 + n % 5 for n in range(60)]) for _ in range(8)]
    for each in jobs:
        queue.add(each)
    for worker in workers:
        worker.start()
    for each in jobs:
        assert each.done.result(timeout=10).tolist() == [[n] for n in range(60)]
    queue.close()
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


@pytest.fixture
def worker():
    queue = Queue()
    one = Worker(0, queue, 1000)
    one.start()
    yield queue
    queue.close()
    one.join(10)


def rows(lengths):
    return [[5] * length for length in lengths]


def batch_of(queue, target, *lengths):
    """Let several one-text calls be computed as one batch."""
    jobs = [Job(target, rows([length]), [length]) for length in lengths]
    with queue._changed:
        for each in jobs:
            queue.add(each)
    return jobs


def test_one_bad_text_costs_nobody_else_an_answer(worker, model, encoder):
    broken = like(model, BrokenModel, raises=3)
    for _ in range(3):  # and again: the worker is still there
        good, bad, other = batch_of(worker, broken, 2, 3, 4)
        expected = model.compute(rows([2, 4]), 0)
        assert np.abs(good.done.result(10) - expected[0]).max() < 1e-6
        assert np.abs(other.done.result(10) - expected[1]).max() < 1e-6
        with pytest.raises(RunFailure, match="failed on this input"):
            bad.done.result(10)


def test_what_is_not_finite_is_tried_in_fp32_and_never_answered(worker, model):
    broken = like(model, BrokenModel, never_finite=3, finite_in_fp32=4)
    good, never, second = batch_of(worker, broken, 2, 3, 4)
    expected = model.compute(rows([2, 4]), 0)
    assert np.abs(good.done.result(10) - expected[0]).max() < 1e-6
    assert np.abs(second.done.result(10) - expected[1]).max() < 1e-6
    with pytest.raises(RunFailure, match="not finite"):
        never.done.result(10)


def test_fp32_and_back_leaves_half_precision_weights_as_they_were(encoder):
    half = copy.deepcopy(encoder).half()
    before = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    wide = served([half]).compute(rows([5]), 0, exact=True)
    assert np.abs(wide - served([encoder]).compute(rows([5]), 0)).max() < 2e-3
    assert half.dtype == torch.float16
    assert all(torch.equal(tensor, before[name]) for name, tensor in half.state_dict().items())


def test_admission_keeps_room_for_small_calls_and_never_leaks():
    admission = Admission(100)
    with admission.place(90, small=False) as place:
        place.correct(95)
        with pytest.raises(Refusal) as refused, admission.place(1, small=False):
            pass
        assert refused.value.status == 429
        assert 1 <= refused.value.retry_after <= 30
        with admission.place(10, small=True):
            assert admission.waiting == 105
            with pytest.raises(Refusal), admission.place(1, small=True):
                pass
    assert admission.waiting == 0
    with admission.place(10**9, small=False):  # larger than the bound, and nothing else waits
        assert admission.waiting == 10**9
    assert admission.waiting == 0


def test_closing_does_not_wait_for_work_that_never_began():
    queue = Queue()
    waiting = threading.Thread(target=queue.take, args=(8,))
    waiting.start()
    queue.close()
    until(lambda: not waiting.is_alive())
