"""The one function that turns text into token ids, for training, evaluation, search and serving alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import processors

from zhihui.encoder.settings import EncoderSettings, Role
from zhihui.errors import InputError


def tokenize(
    tokenizer: Any,
    settings: EncoderSettings,
    texts: Sequence[str],
    *,
    role: Role,
    instruction: str | Sequence[str | None] | None = None,
) -> list[list[int]]:
    """Return the token ids of each text, unpadded: prompt, text cut to fit, EOS (as the tokenizer's template says).

    A text that gives no token at all is one unknown token.

    Args:
        tokenizer: a fast HF tokenizer, made ready by `ensure_eos` where the model pools its last token.
        settings: prompts and `max_length`.
        texts: the bare texts.
        role: whose prompt stands before them.
        instruction: a task in words instead of the model's own prompt; one for all, or one per text.

    Raises:
        ValueError: an instruction was given for documents, or there are not as many instructions as texts.
        InputError: a prompt fills `max_length`, so that nothing of a text would be left.
    """
    own = [instruction] * len(texts) if instruction is None or isinstance(instruction, str) else instruction
    if len(own) != len(texts):
        raise ValueError(f"{len(own)} instructions for {len(texts)} texts; give one for all, or one for each")
    prompts = [settings.prompt(role, each) for each in own]
    prompted = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
    if not prompted:
        return []
    for prompt in sorted({*prompts} - {""}):
        _check_room(tokenizer, prompt, settings.max_length)
    ids: list[list[int]] = tokenizer(
        prompted,
        truncation=True,
        max_length=settings.max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    if all(ids):
        return ids
    # Where nothing ends a text, one without a token would have no state to pool.
    filler = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    return ids if filler is None else [each or [filler] for each in ids]


def _check_room(tokenizer: Any, prompt: str, max_length: int) -> None:
    """Refuse a prompt after which every text would be cut to nothing, and all vectors would be one."""
    length = len(tokenizer(prompt)["input_ids"])
    if length >= max_length:
        start = prompt if len(prompt) <= 40 else f"{prompt[:40]}..."
        raise InputError(
            f"the prompt {start!r} takes {length} tokens with EOS and max_length is {max_length}: nothing of a text "
            "would be left; raise max_length or shorten the prompt"
        )


def ensure_eos(tokenizer: Any) -> None:
    """Make a decoder's tokenizer end every text with EOS, in its own template, so that every later loader does too.

    A template that already ends a text with some special token is left alone: that is what the model was trained on.

    Raises:
        InputError: the tokenizer has no EOS token, or is not a fast tokenizer.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("the model has no tokenizer.json (a fast tokenizer); convert it once with transformers")
    if ending_token(tokenizer) is not None:
        return
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer names no EOS token; last-token pooling needs one (tokenizer_config.json)")
    start = [tokenizer.bos_token] if tokenizer("字")["input_ids"][:1] == [tokenizer.bos_token_id] else []
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*start, "$A", tokenizer.eos_token]),
        pair=" ".join([*start, "$A", tokenizer.eos_token, "$B:1", f"{tokenizer.eos_token}:1"]),
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in {*start, tokenizer.eos_token}],
    )
    if ending_token(tokenizer) != tokenizer.eos_token_id:
        raise InputError("the tokenizer does not keep EOS at the end of a text; last-token pooling needs it there")


def ending_token(tokenizer: Any) -> int | None:
    """Return the id of the special token that ends every text, also a cut one; None when there is none."""
    whole = tokenizer("信息检索模型")["input_ids"]
    cut = tokenizer("信息检索模型" * 8, truncation=True, max_length=4)["input_ids"]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    same = whole[-1:] == cut[-1:] and len(cut) == 4
    return int(whole[-1]) if same and whole[-1] in special else None
