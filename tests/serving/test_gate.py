from __future__ import annotations

import json
import logging
import socket
from urllib.parse import quote, urlsplit

import pytest
from serving_client import call, serving, until
from serving_models import WaitingModel, like

from zhihui.errors import InputError
from zhihui.serving.keys import Keys, read_keys
from zhihui.serving.limits import Bucket
from zhihui.serving.logs import JsonLines

KEYS = ("key-of-the-first", "key-of-the-second")
SECRET = "机密的合同条款"


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def log():
    """The lines that the server writes."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in ("zhihui.serving", "uvicorn", "uvicorn.error", "asyncio")]
    for each in loggers:
        each.addHandler(handler)
        each.setLevel(logging.INFO)
    yield lines
    for each in loggers:
        each.removeHandler(handler)
        each.setLevel(logging.NOTSET)


# --------------------------------------------------------------------------- keys


def test_only_a_key_opens_and_the_status_routes_need_none(model, log):
    with serving(model, keys=KEYS) as (url, _):
        for headers in ({}, bearer("wrong-key-altogether"), bearer(KEYS[0][:-1]), {"authorization": KEYS[0]}):
            reply = call(url, "/v1/embeddings", {"input": "好"}, headers=headers)
            assert reply.status == 401
            assert reply.json["error"]["code"] == "invalid_api_key"
            assert reply.headers["www-authenticate"] == "Bearer"
        assert call(url, "/embed", {"inputs": "好"}).json["error_type"] == "Unauthorized"
        for key in KEYS:
            assert call(url, "/v1/embeddings", {"input": "好"}, headers=bearer(key)).status == 200
        assert [call(url, path).status for path in ("/health", "/ready", "/metrics")] == [200] * 3
        assert [call(url, path).status for path in ("/info", "/v1/models", "/openapi.json")] == [401] * 3
    answered = [json.loads(line) for line in log if '"status":200' in line]
    assert [each["key"] for each in answered] == [1, 2]
    assert not [line for line in log for key in (*KEYS, "wrong-key") if key in line]


def test_keys_from_a_file_and_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHIHUI_API_KEYS", "from-the-env-1, from-the-env-2")
    file = tmp_path / "keys"
    file.write_text("# ours\nfrom-the-file  # of the search team\n\n")
    keys = read_keys(file)
    assert [keys.number(f"Bearer from-the-{end}") for end in ("env-1", "env-2", "file", "moon")] == [1, 2, 3, None]
    assert keys.number("bearer from-the-file") == 3
    assert keys.number(None) is None
    assert keys.number("Basic from-the-file") is None
    monkeypatch.delenv("ZHIHUI_API_KEYS")
    assert Keys([]).number(None) == 0
    for content, message in (("short", "has 5 characters"), ("# none", "holds no key"), ("twice-same\n" * 2, "twice")):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            read_keys(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_keys(tmp_path / "none")


# --------------------------------------------------------------------------- limits


def test_a_bucket_refills_steadily_and_lends_once():
    now = [0.0]
    bucket = Bucket(60, lambda: now[0])
    bucket.take(90)
    assert bucket.wait() == pytest.approx(31)
    now[0] += 30.5
    assert bucket.wait() == pytest.approx(0.5)
    now[0] += 0.5
    assert bucket.wait() == 0
    now[0] += 1e6
    bucket.take(60)
    assert bucket.wait() == pytest.approx(1), "it never holds more than a minute's worth"


def test_each_key_has_its_own_limits(model):
    with serving(model, keys=KEYS, requests_per_minute=2) as (url, _):
        first = [call(url, "/v1/embeddings", {"input": "好"}, headers=bearer(KEYS[0])) for _ in range(3)]
        assert [reply.status for reply in first] == [200, 200, 429]
        assert first[2].json["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(first[2].headers["retry-after"]) <= 31
        assert call(url, "/v1/embeddings", {"input": "好"}, headers=bearer(KEYS[1])).status == 200
        assert call(url, "/health").status == 200
    with serving(model, tokens_per_minute=8) as (url, _):
        statuses = [call(url, "/embed", {"inputs": "租房押金不退怎么办？" * 3}).status for _ in range(2)]
        assert statuses == [200, 429]


# --------------------------------------------------------------------------- size


def test_a_body_beyond_the_bound_is_a_413_however_it_is_sent(model):
    with serving(model, max_body_bytes=2000, max_held_bytes=4000) as (url, _):
        at_most = json.dumps({"inputs": "好"}).encode().ljust(2000)
        assert call(url, "/embed", at_most).status == 200
        too_much = call(url, "/embed", at_most + b" ")
        assert too_much.status == 413
        assert "2000 bytes" in too_much.message
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=20) as raw:
            raw.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(3):
                raw.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
            raw.sendall(b"0\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_never_ends_is_given_up(model):
    with serving(model, timeout=0.2) as (url, _):
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=20) as raw:
            raw.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            assert raw.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert call(url, "/embed", {"inputs": "好"}).status == 200


def test_calls_beyond_the_bound_are_told_to_come_back(model):
    waiting = like(model, WaitingModel)
    with (
        serving(waiting, max_calls=1) as (url, _),
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=20) as raw,
    ):
        raw.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n")
        raw.sendall(b'{"inputs": "ab"}')
        until(waiting.began.is_set)
        refused = call(url, "/embed", {"inputs": "好"})
        assert (refused.status, refused.json["error_type"]) == (429, "Overloaded")
        waiting.gate.set()
        assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")


# --------------------------------------------------------------------------- bad requests, and what is told of them

BAD = {
    "not JSON": b"{",
    "not UTF-8": b'{"input": "\xff\xfe"}',
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "deep": b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge number": b'{"input": "a", "dimensions": ' + b"9" * 5000 + b"}",
    "infinity": b'{"input": "a", "dimensions": 1e999}',
    "NaN": b'{"input": "a", "dimensions": NaN}',
    "half a pair": b'{"input": "\\ud83d", "inputs": "\\ud83d", "query": "\\ud83d", "texts": ["a"]}',
    "half a pair in a name": b'{"input": "a", "inputs": "a", "query": "a", "texts": ["a"], "model": "\\ud83d"}',
    "a null text": b'{"input": [null], "inputs": [null], "query": "a", "texts": [null]}',
    "mixed": b'{"input": ["a", 1], "inputs": ["a", 1], "query": "a", "texts": ["a", 1]}',
    "negative ids": b'{"input": [-1], "inputs": [-1], "query": 1, "texts": ["a"]}',
    "no ids": b'{"input": [[]], "inputs": [[]], "query": 1, "texts": ["a"]}',
    "a long name": b'{"input": "a", "inputs": "a", "query": "a", "texts": ["a"], "model": "' + b"m" * 50_000 + b'"}',
    "a secret in a wrong place": f'{{"input": {{"t": "{SECRET}"}}, "inputs": {{"t": "{SECRET}"}}, "query": '
    f'["{SECRET}"], "texts": "{SECRET}", "model": ["{SECRET}"]}}'.encode(),
    "a very long text": b'{"input": "' + b"a" * 1_000_001 + b'", "inputs": "' + b"a" * 1_000_001 + b'", "query": 1}',
}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/rerank", "/v1/rerank", "/similarity", "/tokenize"])
def test_no_bad_request_is_a_5xx_or_is_repeated(url, log, path):
    for name, body in BAD.items():
        reply = call(url, path, body)
        assert 400 <= reply.status < 500, (name, reply.content)
        assert len(reply.message) < 500, name
        assert SECRET not in reply.content.decode()
    assert call(url, "/embed", {"inputs": "好"}).status == 200
    assert SECRET not in "".join(log)


def test_a_body_that_is_not_marked_as_json(url):
    reply = call(url, "/v1/embeddings", {"input": "好"}, headers={"content-type": "text/plain"})
    assert reply.status == 400
    assert "Content-Type: application/json" in reply.message


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/embeddings", 405), ("POST", "/nope", 404), ("DELETE", "/embed", 405), ("POST", "/v1/nope", 404)],
)
def test_wrong_routes(url, method, path, status):
    reply = call(url, path, b"{}", method=method)
    assert reply.status == status
    assert isinstance(reply.json["error"], dict) == path.startswith("/v1/")


def test_texts_are_logged_only_where_that_is_asked_for(model, log):
    for log_texts in (False, True):
        log.clear()
        with serving(model, log_texts=log_texts) as (url, _):
            call(url, "/v1/embeddings", {"input": [SECRET], "instruction": SECRET + SECRET})
            call(url, "/rerank", {"query": SECRET, "texts": ["a"]})
            call(url, f"/{quote(SECRET)}", b"{}")
        # The server of the tests before may still write of its last call when this one starts.
        began = next(number for number, line in enumerate(log) if '"event":"ready"' in line)
        calls = [json.loads(line) for line in log[began:] if '"event":"call"' in line]
        assert len(calls) == 3
        assert calls[0]["inputs"] == 1
        assert calls[0]["tokens"] > 0
        assert {"id", "status", "ms", "queue_ms", "inference_ms", "tokenization_ms"} <= calls[0].keys()
        assert (SECRET in "".join(log)) == log_texts


def test_a_wrong_timeout_header(url):
    for value in ("soon", "-1", "nan", "inf"):
        assert call(url, "/embed", {"inputs": "好"}, headers={"x-request-timeout": value}).status == 400
    assert call(url, "/embed", {"inputs": "好"}, headers={"x-request-timeout": "30"}).status == 200


def test_metrics_count_what_happened(model):
    with serving(model) as (url, _):
        call(url, "/v1/embeddings", {"input": ["好", "长" * 3000]})
        call(url, "/embed", {"inputs": []})
        for number in range(5):
            call(url, f"/scan{number}", b"{}")
        lines = call(url, "/metrics").content.decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert found['te_request_count_total{method="/v1/embeddings"}'] == "1.0"
    assert found['te_request_failure_total{err="400"}'] == "1.0"
    assert found['te_request_count_total{method="other"}'] == "5.0", "strangers' paths are one label"
    assert found["te_request_truncated_inputs_total"] == "1.0"
    assert found["te_queue_size"] == found["te_queue_tokens"] == "0.0"
    assert found["te_batch_next_size_sum"] == "2.0"
