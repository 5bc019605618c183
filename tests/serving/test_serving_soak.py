"""What takes a while: random requests from the schema, and a minute of ten times too much."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from serving_client import call, serving
from serving_models import TEXTS, WaitingModel, like

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_no_request_that_the_schema_allows_is_a_5xx(search_url):
    import schemathesis

    schema = schemathesis.openapi.from_dict(call(search_url, "/openapi.json").json)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 14
    for operation in operations:
        statuses = statuses_of(operation, search_url)
        assert 200 in statuses, operation.label
        assert {str(status) for status in statuses} <= {*operation.definition.raw["responses"]}, operation.label


def statuses_of(operation, url):
    """Return how random requests to one route were answered."""
    from hypothesis import HealthCheck, Phase, given, settings

    statuses = set()

    @settings(
        max_examples=60,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case):
        response = case.call(base_url=url, timeout=30)
        assert response.status_code < 500, response.text
        statuses.add(response.status_code)

    check()
    return statuses


def test_a_minute_of_ten_times_too_much(model, encoder):
    slow = like(model, WaitingModel, seconds=0.02)
    process = psutil.Process()
    texts = TEXTS[:4] * 4
    expected = encoder.encode_queries(texts, instruction="")
    statuses: list[int] = []
    held: list[int] = []
    with serving(slow, queue_tokens=4000) as (url, service):
        slow.gate.set()
        end = time.monotonic() + 60

        def keep_asking(_):
            while time.monotonic() < end:
                reply = call(url, "/embed", {"inputs": texts})
                statuses.append(reply.status)
                if reply.status == 200:
                    assert np.abs(np.float32(reply.json) - expected).max() < 1e-6
                else:
                    assert 1 <= int(reply.headers["retry-after"]) <= 30

        def watch_memory():
            while time.monotonic() < end - 1:
                held.append(process.memory_info().rss)
                time.sleep(1)

        with ThreadPoolExecutor(64) as pool:
            watch = threading.Thread(target=watch_memory)
            watch.start()
            list(pool.map(keep_asking, range(64)))
            watch.join()
        assert {*statuses} == {200, 429}
        assert statuses.count(200) > 200
        assert statuses.count(429) > statuses.count(200), "it was not overloaded"
        assert held[-1] - held[15] < 64 * 2**20
        assert (service.admission.waiting, len(service.queue)) == (0, 0)
        assert [call(url, "/embed", {"inputs": texts}).status for _ in range(5)] == [200] * 5
