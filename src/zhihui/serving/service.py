"""Service: what the routes ask for. Texts in, vectors out, through admission, tokenization, queue and workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request

from zhihui.errors import RunFailure
from zhihui.serving.admission import Admission
from zhihui.serving.call import Call, call_of
from zhihui.serving.config import ServeConfig
from zhihui.serving.indexes import Indexes
from zhihui.serving.limits import Limits
from zhihui.serving.metrics import Metrics
from zhihui.serving.models import Models, ServedModel
from zhihui.serving.preparing import Cutting, Input, prepare
from zhihui.serving.prompting import Prompting
from zhihui.serving.queue import Job, Queue
from zhihui.serving.refusals import Refusal, bad_input
from zhihui.serving.reranking import ServedReranker
from zhihui.serving.worker import Worker

_SLICE = 16_384
"""Characters tokenized at once, or one longer text; between slices a small call may pass a large one."""
_OVERHEAD = 16
"""Tokens by which prompt and EOS may lengthen a text, in the estimate made before it is tokenized."""
_PROBE_SECONDS = 10.0


class Group(NamedTuple):
    """Inputs of a call that get the same prompt."""

    inputs: Sequence[Input]
    prompting: Prompting


@dataclass(frozen=True)
class Embedded:
    """The vectors of a call."""

    vectors: NDArray[np.float32]
    """`[N, D]`, groups one after another, in the order given."""
    tokens: int
    headers: dict[str, str]


class Service:
    """Models at work; `start` before the first call, `close` after the last."""

    def __init__(
        self,
        models: Models,
        config: ServeConfig | None = None,
        *,
        reranker: ServedReranker | None = None,
        indexes: Indexes | None = None,
        keys: int = 0,
    ) -> None:
        """Take loaded models.

        Args:
            models: those that embed.
            config: settings.
            reranker: a cross-encoder for the rerank routes; None ranks by the default model's cosine.
            indexes: those that are searched.
            keys: how many API keys there are, each with limits of its own.
        """
        self.models, self.reranker = models, reranker
        self.indexes = indexes or Indexes({}, models)
        self.config = config or ServeConfig()
        self.queue = Queue()
        self.admission = Admission(self.config.queue_tokens)
        self.metrics = Metrics(lambda: len(self.queue), lambda: self.admission.waiting)
        self.limits = Limits(
            keys,
            requests_per_minute=self.config.requests_per_minute,
            tokens_per_minute=self.config.tokens_per_minute,
        )
        self.draining = False
        """Whether the server is ending: calls under way are answered, new ones refused."""
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="zhihui-tokenize")
        count = len(models.default.copies)
        self._workers = [Worker(n, self.queue, models.default.budget, self.metrics.batch) for n in range(count)]

    @property
    def device(self) -> str:
        """Where is computed, in a word."""
        return self.models.default.encoder.device.type

    def start(self) -> None:
        """Warm every model up on every device, and let the workers work."""
        for model in self.models:
            for number in range(len(model.copies)):
                _warm_up(model, number)
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """End the workers after the batches they are at; what waits is not computed."""
        self.queue.close()
        for worker in self._workers:
            worker.join()
        self._tokenizing.shutdown(cancel_futures=True)
        self.indexes.close()

    # ----------------------------------------------------------------------- calls

    async def embed(
        self, request: Request, model: ServedModel, groups: Sequence[Group], cutting: Cutting | None = None
    ) -> Embedded:
        """Return the vectors of a call's inputs.

        Raises:
            Refusal: too many inputs, an input that cannot be read, overload, lateness, or a model that fails.
            ClientDisconnect: nobody waits for the answer any more.
        """
        call, cutting = call_of(request), cutting or Cutting()
        inputs = [each for group in groups for each in group.inputs]
        texts = [each for each in inputs if isinstance(each, str)]
        self.check_count(len(inputs))
        self.check_lengths(texts)
        most = model.encoder.settings.max_length
        estimate = sum(min(most, len(each) + _OVERHEAD) for each in inputs)
        self._keep_texts(call, texts)
        with self.admission.place(estimate, small=self._is_small(estimate)) as place:
            ids, truncated = await self._prepared(call, model, groups, cutting)
            costs = [len(row) for row in ids]
            tokens = sum(costs)
            place.correct(tokens)
            self.limits.spend(call.key, tokens)
            characters = sum(map(len, texts))
            call.count(model=model.name, inputs=len(ids), characters=characters, tokens=tokens, truncated=truncated)
            vectors = await self._computed(request, Job(model, ids, costs, small=self._is_small(tokens)))
        return Embedded(vectors, tokens, call.headers(self.device))

    async def score(
        self, request: Request, query: str, passages: Sequence[str], instruction: str | None
    ) -> tuple[NDArray[np.float32], int, dict[str, str]]:
        """Return the cross-encoder's scores of passages `[N]`, the tokens read, and headers.

        Raises:
            Refusal: as `embed` has it.
            ClientDisconnect: nobody waits for the answer any more.
        """
        assert self.reranker is not None, "the routes ask only where there is one"
        call = call_of(request)
        self.check_count(len(passages))
        self.check_lengths([query, *passages])
        self._keep_texts(call, [query, *passages])
        costs = self.reranker.costs(query, passages)
        with self.admission.place(sum(costs), small=self._is_small(sum(costs))) as place:
            units = [(query, passage, instruction) for passage in passages]
            job = Job(self.reranker, units, costs, small=self._is_small(sum(costs)))
            rows = await self._computed(request, job)
            tokens = int(rows[:, 1].sum())
            place.correct(tokens)
            self.limits.spend(call.key, tokens)
            characters = len(passages) * len(query) + sum(map(len, passages))
            name, count = self.reranker.name, len(passages)
            call.count(model=name, inputs=count, characters=characters, tokens=tokens, truncated=0)
        return rows[:, 0], tokens, call.headers(self.device)

    async def probe(self) -> None:
        """Compute one token, ahead of all that waits: what answers this answers anything.

        Raises:
            Refusal: 503, the workers do not answer.
        """
        model = self.models.default
        job = Job(model, [[0]], [1], small=True)
        self.queue.add(job, first=True)
        try:
            await asyncio.wait_for(asyncio.wrap_future(job.done), _PROBE_SECONDS)
        except (TimeoutError, RunFailure):
            raise Refusal(503, "the worker does not answer", code="unhealthy", retry_after=5) from None
        finally:
            self.queue.drop(job)

    def check_count(self, count: int) -> None:
        """Check how many texts a call has.

        Raises:
            Refusal: 400, none or too many.
        """
        if not 1 <= count <= self.config.max_inputs:
            raise bad_input(f"{count} texts in one call; send 1 to {self.config.max_inputs}", param="input")

    def check_lengths(self, texts: Sequence[str]) -> None:
        """Check how long texts are: a tokenizer reads a text whole before it cuts it, and all wait for it.

        Raises:
            Refusal: 400, one is too long.
        """
        longest = max(map(len, texts), default=0)
        if longest > self.config.max_characters:
            message = f"a text has {longest} characters; send at most {self.config.max_characters} a text"
            raise bad_input(message, param="input")

    async def run(self, function: Any, *arguments: Any) -> Any:
        """Run something that uses a tokenizer, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, function, *arguments)

    # ----------------------------------------------------------------------- stages

    def _is_small(self, tokens: int) -> bool:
        return tokens <= self.config.small_call_tokens

    def _keep_texts(self, call: Call, texts: Sequence[str]) -> None:
        if self.config.log_texts:
            call.texts = list(texts)

    async def _prepared(
        self, call: Call, model: ServedModel, groups: Sequence[Group], cutting: Cutting
    ) -> tuple[list[list[int]], int]:
        """Return the token ids of all groups and how many inputs were cut."""
        begun = time.monotonic()
        rows: list[list[int]] = []
        truncated = 0
        for group in groups:
            for part in _slices(group.inputs):
                ids, cut = await self.run(prepare, model, part, group.prompting, cutting)
                rows += ids
                truncated += cut
                if call.remaining == 0:
                    raise late(call)
        call.seconds["tokenization"] = time.monotonic() - begun
        return rows, truncated

    async def _computed(self, request: Request, job: Job) -> NDArray[np.float32]:
        """Wait for the rows of a job; what is not yet begun is dropped when nobody waits for it any more."""
        call = call_of(request)
        answer = asyncio.wrap_future(job.done)
        gone = asyncio.ensure_future(_until_gone(request))
        self.queue.add(job)
        try:
            either: list[asyncio.Future[Any]] = [answer, gone]
            await asyncio.wait(either, timeout=call.remaining, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                rows = await answer
                started = job.started or time.monotonic()
                call.seconds |= {"queue": started - job.entered, "inference": time.monotonic() - started}
                return rows
            if gone.done():
                raise ClientDisconnect
            raise late(call)
        except RunFailure as error:
            raise Refusal(500, str(error), code="model_failure") from None
        finally:
            self.queue.drop(job)
            gone.cancel()
            answer.cancel()


def _slices(inputs: Sequence[Input]) -> Iterator[Sequence[Input]]:
    start = size = 0
    for end, each in enumerate(inputs):
        if size and size + len(each) > _SLICE:
            yield inputs[start:end]
            start, size = end, 0
        size += len(each)
    yield inputs[start:]


def late(call: Call) -> Refusal:
    """Return the refusal of a call whose time is over."""
    message = f"no answer within {call.timeout:g} s; send fewer texts, or try again later"
    return Refusal(503, message, code="timeout", retry_after=2)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _warm_up(model: ServedModel, worker: int) -> None:
    """Compute a batch of each kind: kernels are chosen and memory is taken before the first call."""
    longest = min(model.encoder.settings.max_length, model.budget)
    for count, length in ((1, 1), (2, min(16, longest)), (max(1, model.budget // longest), longest)):
        model.compute([[0] * length] * count, worker)
