"""Preparing: the texts of a call become token ids, cut where they are too long, and what was cut is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zhihui.encoder.tokens import ending_token, tokenize
from zhihui.errors import InputError
from zhihui.serving.models import ServedModel
from zhihui.serving.prompting import Prompting
from zhihui.serving.refusals import bad_input

Direction = Literal["left", "right"]
Input = str | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """What is done with texts that are too long."""

    allowed: bool = True
    """Whether they are cut; else the call is refused."""
    direction: Direction = "right"
    """The side of the text that goes; prompt and EOS stay."""
    length: int | None = None
    """Tokens left, prompt and EOS included; None or -1 takes the model's most."""

    def limit(self, model: ServedModel) -> int:
        """Return the tokens a text may have.

        Raises:
            Refusal: 400, more than the model reads, or too few.
        """
        most = model.encoder.settings.max_length
        if self.length is None or self.length == -1:
            return most
        if not 2 <= self.length <= most:
            message = f"truncate_prompt_tokens {self.length} is out of range; use 2 to {most}, or -1 for {most}"
            raise bad_input(message, param="truncate_prompt_tokens")
        return self.length


def prepare(
    model: ServedModel, inputs: Sequence[Input], prompting: Prompting, cutting: Cutting
) -> tuple[list[list[int]], int]:
    """Return the token ids of each input, and how many inputs were cut.

    Args:
        model: whose tokenizer it is.
        inputs: texts, or all of them token ids.
        prompting: what stands before a text.
        cutting: what is done with long ones.

    Raises:
        Refusal: 400, an input that cannot be read, or one that is too long and may not be cut.
    """
    limit = cutting.limit(model)
    with model.tokenizing:
        if inputs and not isinstance(inputs[0], str):
            rows, cut = _from_ids(model, [list(each) for each in inputs if not isinstance(each, str)], limit, cutting)
        else:
            rows, cut = _from_texts(
                model, [each for each in inputs if isinstance(each, str)], prompting, limit, cutting
            )
    empty = next((number for number, row in enumerate(rows) if not row), None)
    if empty is not None:
        raise bad_input(f"input {empty} has no token for {model.name}; give it a word", param="input")
    return rows, cut


def _from_texts(
    model: ServedModel, texts: Sequence[str], prompting: Prompting, limit: int, cutting: Cutting
) -> tuple[list[list[int]], int]:
    tokenizer = model.encoder.tokenizer
    settings, role, instruction = prompting

    def ids(some: Sequence[str], length: int) -> list[list[int]]:
        return tokenize(tokenizer, replace(settings, max_length=length), some, role=role, instruction=instruction)

    try:
        rows = ids(texts, limit + 1)  # one more, by which a text that is cut is told from one that just fits
        long = [number for number, row in enumerate(rows) if len(row) > limit]
        if long:
            _check_allowed(long, limit, cutting)
            for number, row in zip(long, ids([texts[number] for number in long], limit), strict=True):
                rows[number] = row
                if cutting.direction == "left":
                    rows[number] = _cut_left(tokenizer, prompting.text, texts[number], limit)
    except InputError as error:  # the prompt leaves no room
        raise bad_input(str(error), param="instruction") from None
    return rows, len(long)


def _cut_left(tokenizer: object, prompt: str, text: str, limit: int) -> list[int]:
    """Return the token ids of a text without its beginning; prompt and special tokens stay."""
    whole = tokenizer(  # type: ignore[operator]
        prompt + text, truncation=False, verbose=False, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    marks = zip(whole["offset_mapping"], whole["special_tokens_mask"], strict=True)
    cuttable = [place for place, ((_, end), special) in enumerate(marks) if not special and end > len(prompt)]
    gone = {*cuttable[: len(whole["input_ids"]) - limit]}
    return [token for place, token in enumerate(whole["input_ids"]) if place not in gone]


def _from_ids(
    model: ServedModel, rows: Sequence[list[int]], limit: int, cutting: Cutting
) -> tuple[list[list[int]], int]:
    """Take token ids of the model's own tokenizer; the token that ends every text is added where it is absent."""
    vocabulary = int(model.encoder.backbone.config.vocab_size)
    end = ending_token(model.encoder.tokenizer)
    ending = [] if end is None else [end]
    bodies = [row[:-1] if ending and row[-1:] == ending else row for row in rows]
    for number, body in enumerate(bodies):
        if any(not 0 <= token < vocabulary for token in body):
            message = (
                f"input {number} holds a token id beyond the {vocabulary} of {model.name}; are they of another "
                "tokenizer? Send texts (LangChain: check_embedding_ctx_length=False)"
            )
            raise bad_input(message, param="input")
    room = limit - len(ending)
    long = [number for number, body in enumerate(bodies) if len(body) > room]
    if long:
        _check_allowed(long, limit, cutting)
    left = cutting.direction == "left"
    return [(body[-room:] if left else body[:room]) + ending for body in bodies], len(long)


def _check_allowed(long: Sequence[int], limit: int, cutting: Cutting) -> None:
    if not cutting.allowed:
        message = f"input {long[0]} has more than {limit} tokens; shorten it, or let it be cut with truncate: true"
        raise bad_input(message, param="input")
