"""Metrics for Prometheus, named as TEI names them; the labels are few and fixed, so memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from zhihui.serving.call import Call
from zhihui.serving.queue import Unit

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536, 262144)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, waiting_calls: Callable[[], int], waiting_tokens: Callable[[], int]) -> None:
        """Make them; the two functions are asked when somebody reads the metrics."""
        into = self._registry = CollectorRegistry()
        self._requests = Counter("te_request_count", "Calls that came in.", ["method"], registry=into)
        self._successes = Counter("te_request_success", "Calls that were answered.", ["method"], registry=into)
        self._failures = Counter("te_request_failure", "Calls that were refused or failed.", ["err"], registry=into)
        self._duration = Histogram(
            "te_request_duration", "Seconds from arrival to answer.", ["method"], buckets=_SECONDS, registry=into
        )
        self._stages = {
            stage: Histogram(f"te_request_{stage}_duration", f"Seconds of {stage}.", buckets=_SECONDS, registry=into)
            for stage in ("tokenization", "queue", "inference", "search")
        }
        self._length = Histogram("te_request_input_length", "Tokens of a call.", buckets=_TOKENS, registry=into)
        self._truncated = Counter("te_request_truncated_inputs", "Texts that were cut.", registry=into)
        self._batch_size = Histogram("te_batch_next_size", "Texts of a batch.", buckets=_COUNTS, registry=into)
        self._batch_tokens = Histogram("te_batch_next_tokens", "Tokens of a batch.", buckets=_TOKENS, registry=into)
        Gauge("te_queue_size", "Calls that wait.", registry=into).set_function(waiting_calls)
        Gauge("te_queue_tokens", "Tokens that wait or are computed.", registry=into).set_function(waiting_tokens)

    def batch(self, units: Sequence[Unit]) -> None:
        """Count a batch that is about to be computed."""
        self._batch_size.observe(len(units))
        self._batch_tokens.observe(sum(unit.job.costs[unit.index] for unit in units))

    def answered(self, call: Call, status: int) -> None:
        """Count a call that is over."""
        self._requests.labels(call.route).inc()
        self._duration.labels(call.route).observe(call.age)
        if status >= 400:
            self._failures.labels(str(status)).inc()
            return
        self._successes.labels(call.route).inc()
        if "tokens" in call.facts:
            self._length.observe(call.facts["tokens"])
            self._truncated.inc(call.facts["truncated"])
        for stage, seconds in call.seconds.items():
            self._stages[stage].observe(seconds)

    def shown(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self._registry)
