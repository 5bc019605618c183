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

    Args:
        tokenizer: a fast HF tokenizer, made ready by `ensure_eos` where the model pools its last token.
        settings: prompts and `max_length`.
        texts: the bare texts.
        role: whose prompt stands before them.
        instruction: a task in words instead of the model's own prompt; one for all, or one per text.
    """
    if instruction is None or isinstance(instruction, str):
        prompt = settings.prompt(role, instruction)
        prompted = [prompt + text for text in texts] if prompt else list(texts)
    else:
        prompted = [settings.prompt(role, own) + text for own, text in zip(instruction, texts, strict=True)]
    if not prompted:
        return []
    ids: list[list[int]] = tokenizer(
        prompted,
        truncation=True,
        max_length=settings.max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    return ids


def ensure_eos(tokenizer: Any) -> None:
    """Make a decoder's tokenizer end every text with EOS, in its own template, so that every later loader does too.

    Raises:
        InputError: the tokenizer has no EOS token, or is not a fast tokenizer.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("the model has no tokenizer.json (a fast tokenizer); convert it once with transformers")
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer names no EOS token; last-token pooling needs one (tokenizer_config.json)")
    if ends_with_eos(tokenizer):
        return
    start = [tokenizer.bos_token] if tokenizer("字")["input_ids"][0] == tokenizer.bos_token_id else []
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*start, "$A", tokenizer.eos_token]),
        pair=" ".join([*start, "$A", tokenizer.eos_token, "$B:1", f"{tokenizer.eos_token}:1"]),
        special_tokens=[
            (token, tokenizer.convert_tokens_to_ids(token)) for token in {*start, tokenizer.eos_token}
        ],
    )
    if not ends_with_eos(tokenizer):
        raise InputError("the tokenizer does not keep EOS at the end of a text; it cannot be used with last-token pooling")


def ends_with_eos(tokenizer: Any) -> bool:
    """Tell whether a text ends with EOS, also when it is cut."""
    whole = tokenizer("信息检索模型")["input_ids"]
    cut = tokenizer("信息检索模型" * 8, truncation=True, max_length=4)["input_ids"]
    return bool(whole[-1] == cut[-1] == tokenizer.eos_token_id and len(cut) == 4)
