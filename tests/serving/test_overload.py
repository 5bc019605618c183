from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
from openai import InternalServerError, OpenAI, RateLimitError
from serving_client import call, serving, until
from serving_models import TEXTS, BrokenModel, WaitingModel, like

from zhihui.serving import service as service_module


def post(url, inputs, **headers):
    return call(url, "/embed", {"inputs": inputs}, headers=headers)


def test_mixed_calls_at_once_get_the_encoders_vectors(url, encoder):
    draw = np.random.default_rng(3)
    asked = [[TEXTS[n] for n in draw.integers(0, len(TEXTS), size)] for size in (1, 40, 2, 1, 90, 7, 1, 25) * 4]

    expected_alone = [encoder.encode_queries(TEXTS), encoder.encode_documents(TEXTS)]
    assert np.abs(expected_alone[0] - expected_alone[1]).max() > 0.1, "the prompt must matter"
    with ThreadPoolExecutor(12) as pool:
        # The reference is not safe for threads; it is computed after the answers.
        answers = list(
            pool.map(lambda n: call(url, "/embed", {"inputs": asked[n], "prompt_name": _name(n)}), range(32))
        )
    for number, answer in enumerate(answers):
        expected = encoder.encode(asked[number], role=_name(number))
        assert np.abs(np.float32(answer.json) - expected).max() < 1e-6


def _name(number):
    return "query" if number % 2 == 0 else "document"


def test_overload_is_refused_at_once_and_passes(model):
    waiting = like(model, WaitingModel)
    text = TEXTS[-1]
    tokens = len(model.encoder.tokenize([text], role="document")[0])
    with serving(waiting, queue_tokens=10 * tokens, small_call_tokens=20) as (url, service):
        with ThreadPoolExecutor(100) as pool:
            calls = [pool.submit(post, url, text) for _ in range(100)]
            until(lambda: sum(each.done() for each in calls) >= 85)
            refused = [each.result() for each in calls if each.done()]
            assert {reply.status for reply in refused} == {429}
            assert all(1 <= int(reply.headers["retry-after"]) <= 30 for reply in refused)
            assert service.admission.waiting <= 11 * tokens
            waits = len(service.queue)
            small = pool.submit(post, url, "")
            until(lambda: len(service.queue) > waits or small.done())
            assert not small.done(), "small calls still have room"
            waiting.gate.set()
            statuses = [each.result().status for each in calls]
            assert small.result().status == 200
        assert 5 <= statuses.count(200) <= 11
        assert statuses.count(200) + statuses.count(429) == 100
        assert service.admission.waiting == 0
        assert len(service.queue) == 0
        assert post(url, text).status == 200


def test_the_openai_client_waits_as_told_and_is_then_answered(model):
    waiting = like(model, WaitingModel)
    with serving(waiting, queue_tokens=10, small_call_tokens=0) as (url, _):
        first = threading.Thread(target=post, args=(url, TEXTS[1] * 3))
        first.start()
        until(waiting.began.is_set)
        impatient = OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        with pytest.raises(RateLimitError) as refused:
            impatient.embeddings.create(model="zh", input=TEXTS[0])
        assert int(refused.value.response.headers["retry-after"]) == 1
        threading.Timer(0.3, waiting.gate.set).start()
        begun = time.monotonic()
        answer = OpenAI(base_url=f"{url}/v1", api_key="any").embeddings.create(model="zh", input=TEXTS[0])
        assert len(answer.data) == 1
        assert time.monotonic() - begun >= 1, "it came back when it was told to, and no sooner"
        first.join()


def test_a_client_that_leaves_takes_its_work_along(model):
    waiting = like(model, WaitingModel)
    with serving(waiting, token_budget=8) as (url, service):
        body = json.dumps({"inputs": TEXTS[:6] * 20}).encode()
        raw = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
        raw.sendall(
            b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % len(body)
            + body
        )
        until(waiting.began.is_set)
        raw.close()
        until(lambda: service.admission.waiting == 0)
        assert len(service.queue) == 0, "what had not begun is out of the queue, not passed over later"
        waiting.gate.set()
        assert post(url, TEXTS[0]).status == 200
        assert sum(waiting.batches) < 60, "a batch was under way; what had not begun was dropped"
        assert 'err="499"' in call(url, "/metrics").content.decode()


def test_a_call_that_takes_too_long_is_given_up(model):
    waiting = like(model, WaitingModel)
    with serving(waiting, token_budget=8) as (url, service):
        reply = post(url, TEXTS[:6] * 20, **{"x-request-timeout": "0.1"})
        assert reply.status == 503
        assert "no answer within 0.1 s" in reply.message
        assert "retry-after" in reply.headers
        assert service.admission.waiting == 0
        waiting.gate.set()
        assert post(url, TEXTS[0]).status == 200
        assert sum(waiting.batches) < 60


def test_health_goes_through_the_worker(model, monkeypatch):
    monkeypatch.setattr(service_module, "_PROBE_SECONDS", 0.1)
    waiting = like(model, WaitingModel)
    with serving(waiting) as (url, _):
        assert call(url, "/health").status == 503
        assert call(url, "/ready").status == 200
        waiting.gate.set()
        until(lambda: call(url, "/health").status == 200)


def test_what_the_model_fails_on_is_a_500_and_the_next_call_is_served(model, encoder):
    lengths = [len(ids) for ids in encoder.tokenize(TEXTS, role="document")]
    broken = like(model, BrokenModel, raises=lengths[0], never_finite=lengths[1], finite_in_fp32=lengths[2])
    with serving(broken) as (url, _):
        client = OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        for text in TEXTS[:2]:
            with pytest.raises(InternalServerError) as failed:
                client.embeddings.create(model="zh", input=[TEXTS[3], text])
            assert failed.value.code == "model_failure"
        found = np.float32(post(url, TEXTS[2:4]).json)
        assert np.abs(found - encoder.encode_queries(TEXTS[2:4], instruction="")).max() < 1e-6
        assert call(url, "/health").status == 200


def test_draining_answers_what_is_under_way_and_sends_others_away(model):
    waiting = like(model, WaitingModel)
    with serving(waiting) as (url, service), ThreadPoolExecutor(1) as pool:
        kept = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        kept.request("GET", "/ready")
        kept.getresponse().read()
        under_way = pool.submit(post, url, TEXTS)
        until(waiting.began.is_set)
        service.draining = True
        refused = post(url, TEXTS[0])
        assert (refused.status, refused.json["error_type"]) == (503, "Unhealthy")
        assert "retry-after" in refused.headers
        assert call(url, "/ready").status == 503
        assert call(url, "/metrics").status == 200
        waiting.gate.set()
        assert under_way.result().status == 200
        kept.close()
