"""Preflight: what a run is about to train on, as the model will see it, and what it will cost, before it starts.

Texts cut short, a missing EOS, a doubled prompt, a positive among its own negatives: each ruins a run without a word,
and each is plain to see here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.settings import EncoderSettings, Role
from zhihui.encoder.tokens import ending_token, tokenize
from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.training.batches import plan
from zhihui.training.collate import Batches
from zhihui.training.config import TrainConfig
from zhihui.training.costs import Memory, measure_chunk, step_memory, step_seconds

SAMPLE = 5000
"""Examples whose texts are tokenized for the lengths; more hardly move a percentile."""
_UNCUT = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A text as the model sees it."""

    role: Role
    prompt: str
    """What was put before it."""
    ids: list[int]
    text: str
    """The token ids decoded, special tokens included."""
    ends_with_eos: bool | None
    """Whether its last token is the special token that ends every text; None for a model that needs none."""
    cut: int
    """Tokens that were cut off."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the texts of a role are, in tokens, prompt and EOS included, before they are cut."""

    texts: int
    limit: int
    """Tokens a text is cut to."""
    cut: float
    """Share that is longer."""
    half: int
    """Median."""
    most: int
    """95th percentile."""
    longest: int


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is known of a run before it starts."""

    seen: list[Seen]
    queries: Lengths
    passages: Lengths
    examples: int
    without_negatives: int
    """Examples that bring no hard negative."""
    answers_itself: int
    """Examples of which a positive is the query."""
    contradicts_itself: int
    """Examples of which a positive is among the negatives."""
    doubled: int
    """Examples whose query and first positive occurred before."""
    steps_per_epoch: int
    steps: int
    tokens_per_step: int
    """Of the texts that are encoded, each distinct one once; the mean of a few steps."""
    shared: bool
    """Whether processes share out weights, gradients and moments; `memory` counts them whole."""
    memory: Memory | None
    """None where nothing was measured."""
    seconds: float | None
    """Of all steps, without evaluations and checkpoints; None where nothing was measured."""


def preflight(
    encoder: Encoder,
    examples: Sequence[Example],
    config: TrainConfig,
    *,
    batches: Sequence[list[int]] | None = None,
    show: int = 2,
    measure: bool = True,
) -> Preflight:
    """Look at a run before it starts; nothing is changed.

    Args:
        encoder: the starting model, with its adapters if it has any.
        examples: the data.
        config: the run.
        batches: its plan, where it is made already.
        show: examples to tokenize for the eye.
        measure: whether to compute one chunk, for the estimates of memory and time.

    Raises:
        InputError: there are no examples, or the data cannot fill the batches.
    """
    if not examples:
        raise InputError("no examples to train on; give at least one batch of them")
    if batches is None:
        batches = plan(examples, config.batches, epochs=config.epochs, seed=config.seed)
    data = Batches(encoder, examples, batches, config.batches, seed=config.seed)
    draw = random.Random(config.seed)
    looked_at = sorted(draw.sample(range(len(examples)), min(SAMPLE, len(examples))))
    sample = [examples[number] for number in looked_at]
    steps = sorted({0, len(batches) // 2, len(batches) - 1})
    tokens = [sum(map(len, {tuple(ids) for ids in data[step].sequences})) for step in steps]
    per_step = round(sum(tokens) / len(tokens))
    memory = seconds = None
    if measure:
        batch = data[0]
        chunk = measure_chunk(encoder, sorted({tuple(ids) for ids in batch.sequences}), config)
        count = sum(batch.queries)
        memory = step_memory(
            encoder, chunk, config, tokens=per_step, queries=count, passages=len(batch.sequences) - count
        )
        seconds = len(batches) * step_seconds(chunk, config, tokens=per_step)
    return Preflight(
        seen=[each for example in sample[:show] for each in _seen(encoder, example, config)],
        queries=_lengths(encoder, sample, config, "query"),
        passages=_lengths(encoder, sample, config, "document"),
        examples=len(examples),
        without_negatives=sum(not example.neg for example in examples),
        answers_itself=sum(_same(example.query) in map(_same, example.pos) for example in examples),
        contradicts_itself=sum(bool({*map(_same, e.pos)} & {*map(_same, e.neg)}) for e in examples),
        doubled=len(examples) - len({(_same(e.query), _same(e.pos[0])) for e in examples}),
        steps_per_epoch=len(batches) // config.epochs,
        steps=len(batches),
        tokens_per_step=per_step,
        shared=config.shard,
        memory=memory,
        seconds=seconds,
    )


def _same(text: str) -> str:
    return " ".join(text.split())


def _settings(encoder: Encoder, config: TrainConfig, role: Role) -> EncoderSettings:
    limit = config.batches.query_tokens if role == "query" else config.batches.passage_tokens
    longest = encoder.settings.max_length
    return replace(encoder.settings, max_length=longest if limit is None else min(limit, longest))


def _instruction(example: Example, config: TrainConfig) -> str | None:
    own = config.batches.sets.get(example.source or "")
    return example.prompt if example.prompt is not None or own is None else own.instruction


def _ids(
    encoder: Encoder, settings: EncoderSettings, examples: Sequence[Example], config: TrainConfig, role: Role
) -> list[list[int]]:
    """Return the token ids of the queries, or of all passages, of some examples."""
    if role == "document":
        texts = [text for example in examples for text in (*example.pos, *example.neg)]
        return tokenize(encoder.tokenizer, settings, texts, role=role)
    instructions = [_instruction(example, config) for example in examples]
    texts = [example.query for example in examples]
    return tokenize(encoder.tokenizer, settings, texts, role=role, instruction=instructions)


def _lengths(encoder: Encoder, examples: Sequence[Example], config: TrainConfig, role: Role) -> Lengths:
    settings = _settings(encoder, config, role)
    uncut = replace(settings, max_length=_UNCUT)
    lengths = np.array([len(ids) for ids in _ids(encoder, uncut, examples, config, role)])
    return Lengths(
        texts=len(lengths),
        limit=settings.max_length,
        cut=float((lengths > settings.max_length).mean()),
        half=int(np.percentile(lengths, 50, method="higher")),
        most=int(np.percentile(lengths, 95, method="higher")),
        longest=int(lengths.max()),
    )


def _seen(encoder: Encoder, example: Example, config: TrainConfig) -> list[Seen]:
    """Return an example's query, first positive and first negative."""
    short = replace(example, pos=example.pos[:1], neg=example.neg[:1], pos_scores=None, neg_scores=None)
    end = ending_token(encoder.tokenizer)
    needs_end = encoder.has_layers
    found = []
    roles: tuple[Role, ...] = ("query", "document")
    for role in roles:
        settings = _settings(encoder, config, role)
        prompt = settings.prompt(role, _instruction(example, config) if role == "query" else None)
        whole = _ids(encoder, replace(settings, max_length=_UNCUT), [short], config, role)
        for ids, uncut in zip(_ids(encoder, settings, [short], config, role), whole, strict=True):
            text = encoder.tokenizer.decode(ids, skip_special_tokens=False)
            ends = end is not None and ids[-1] == end if needs_end else None
            cut = len(uncut) - len(ids)
            found.append(Seen(role=role, prompt=prompt, ids=ids, text=text, ends_with_eos=ends, cut=cut))
    return found


# --------------------------------------------------------------------------- for the eye


def show(found: Preflight) -> str:
    """Return a preflight as lines of text; all but the last line are the same for the same run."""
    lines = []
    for one in found.seen:
        end = {True: ", ends with EOS", False: ", NO EOS AT ITS END", None: ""}[one.ends_with_eos]
        cut = f", {one.cut} tokens cut off" if one.cut else ""
        lines += [f"{one.role}, {len(one.ids)} tokens{end}{cut}", f"  {one.text!r}", f"  {_shortened(one.ids)}"]
    for name, each in (("queries", found.queries), ("passages", found.passages)):
        lines.append(
            f"{name}: {each.texts:,}, half of them up to {each.half} tokens, 95% up to {each.most}, the longest "
            f"{each.longest}; {each.cut:.1%} are cut to {each.limit}"
        )
    lines.append(f"examples: {found.examples:,}, of which")
    counts = {
        "bring no hard negative": found.without_negatives,
        "have their query as a positive": found.answers_itself,
        "have a positive among their negatives": found.contradicts_itself,
        "were there before": found.doubled,
    }
    lines += [f"  {count:,} ({count / found.examples:.1%}) {what}" for what, count in counts.items()]
    lines.append(
        f"steps: {found.steps:,}, {found.steps_per_epoch:,} an epoch, about {found.tokens_per_step:,} tokens each"
    )
    if found.memory is not None:
        whole = "; weights, gradients and optimizer before they are shared out" if found.shared else ""
        parts = ", ".join(f"{name} {_size(size)}" for name, size in vars(found.memory).items())
        lines.append(f"memory: about {_size(found.memory.total)} a process ({parts}){whole}")
    if found.seconds is not None:
        lines.append(f"time: about {_duration(found.seconds)} without evaluations")
    return "\n".join(lines)


def _shortened(ids: Sequence[int]) -> str:
    shown = [*map(str, ids)] if len(ids) <= 24 else [*map(str, ids[:12]), "...", *map(str, ids[-6:])]
    return " ".join(shown)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
