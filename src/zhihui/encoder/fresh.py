"""Fresh models: a tokenizer trained on given text and an untrained backbone of a named shape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.settings import EncoderSettings
from zhihui.encoder.tokens import ensure_eos
from zhihui.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of a Qwen2 backbone."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    """Width of the feed-forward layer."""
    vocabulary: int
    """Most tokens the tokenizer may learn."""
    whole_vocabulary: bool = True
    """Whether there is an embedding for every one of them even when the text taught fewer."""
    positions: int = 32768


SHAPES: dict[str, Shape] = {
    "tiny": Shape(hidden=64, layers=2, heads=4, kv_heads=4, inner=128, vocabulary=2048, whole_vocabulary=False),
    "micro": Shape(hidden=128, layers=2, heads=4, kv_heads=4, inner=256, vocabulary=8192, whole_vocabulary=False),
    "nano": Shape(hidden=256, layers=2, heads=8, kv_heads=8, inner=512, vocabulary=16384, whole_vocabulary=False),
    "qwen2-0.5b": Shape(hidden=896, layers=24, heads=14, kv_heads=2, inner=4864, vocabulary=151936),
    "qwen2-1.5b": Shape(hidden=1536, layers=28, heads=12, kv_heads=2, inner=8960, vocabulary=151936),
    "qwen2-7b": Shape(hidden=3584, layers=28, heads=28, kv_heads=4, inner=18944, vocabulary=152064),
}
"""`tiny` for tests, `micro` for ablations, `nano` for a laptop, and the published sizes of Qwen2."""


def build(
    shape: str,
    texts: Sequence[str],
    *,
    seed: int,
    settings: EncoderSettings | None = None,
    vocabulary: int | None = None,
    bidirectional: bool = True,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Encoder:
    """Build an untrained encoder.

    Shapes with as many key-value heads as heads (`tiny`, `micro`, `nano`) begin as a weighted bag of tokens, which
    already retrieves (see `init_as_bag_of_tokens`); the others begin with the usual normal distribution.

    Args:
        shape: a key of `SHAPES`.
        texts: what the tokenizer is trained on and token frequencies are counted in.
        seed: of the weights.
        settings: None for last-token pooling and the default prompts.
        vocabulary: most tokens to learn; None for what the amount of text supports, at most the shape's own.
        bidirectional: whether every token sees every other.
        device: where the weights are made and stay.
        dtype: of the weights.

    Raises:
        InputError: no such shape, no text, or a vocabulary too small for the bytes.
    """
    if shape not in SHAPES:
        raise InputError(f"shape {shape!r} is unknown; choose one of {', '.join(SHAPES)}")
    if not texts:
        raise InputError("a fresh model needs texts to train its tokenizer on; none were given")
    size = SHAPES[shape]
    settings = settings or EncoderSettings()
    prompt = settings.prompt("query")
    tokenizer = train_tokenizer(texts, vocabulary or min(size.vocabulary, supported_vocabulary(texts)), prompt=prompt)
    embeddings = max(size.vocabulary * size.whole_vocabulary, math.ceil(len(tokenizer) / 64) * 64)
    backbone = _backbone(size, embeddings, tokenizer, seed, bidirectional, device, dtype)
    if size.heads == size.kv_heads:
        weights = token_weights(tokenizer, texts, prompt=prompt, size=embeddings)
        init_as_bag_of_tokens(backbone, weights, eos=tokenizer.eos_token_id, seed=seed)
    return Encoder(backbone, tokenizer, settings, name=f"fresh-{shape}").eval()


def supported_vocabulary(texts: Iterable[str]) -> int:
    """Return how many tokens a text can teach: 10 √characters, at least 512.

    Distinct words grow with the square root of a text (Heaps' law). Beyond that BPE learns whole phrases, which no
    query shares; the factor is measured (docs/lab-log.md).
    """
    return max(512, round(10 * math.sqrt(sum(map(len, texts)))))


def train_tokenizer(texts: Iterable[str], vocabulary: int, *, prompt: str = "") -> Any:
    """Train a byte-level BPE tokenizer that transformers takes for Qwen2's own, ending every text with EOS.

    Args:
        texts: its training text.
        vocabulary: most tokens to learn, bytes included.
        prompt: a text that stands before every query: repeated until its words are tokens, so that it stays short.

    Raises:
        InputError: the vocabulary has no room for the 256 bytes and EOS.
    """
    from transformers import Qwen2Tokenizer

    if vocabulary < 257:
        raise InputError(f"vocabulary {vocabulary} is too small: the 256 bytes and EOS alone take 257")

    material = [*texts, *[prompt] * 100] if prompt else list(texts)
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(material, vocabulary, show_progress=False)
    tokenizer.model_max_length = 32768
    ensure_eos(tokenizer)
    return tokenizer


def token_weights(tokenizer: Any, texts: Sequence[str], *, prompt: str, size: int) -> Tensor:
    """Return a weight per token `[size]`: inverse document frequency ln(1 + N / df), EOS and prompt near nothing."""
    frequency = torch.zeros(size)
    for start in range(0, len(texts), 4096):
        for ids in tokenizer(list(texts[start : start + 4096]))["input_ids"]:
            frequency[torch.tensor(sorted(set(ids)))] += 1
    weights = torch.log1p(len(texts) / frequency.clamp(min=1))
    silent = set(tokenizer(prompt)["input_ids"]) if prompt else set()
    weights[sorted(silent | {tokenizer.eos_token_id})] = 1e-3
    return weights


def _backbone(
    size: Shape, embeddings: int, tokenizer: Any, seed: int, bidirectional: bool, device: str, dtype: torch.dtype
) -> Any:
    from transformers import Qwen2Config, Qwen2Model

    config = Qwen2Config(
        vocab_size=embeddings,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=size.positions,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        use_cache=False,
        is_causal=not bidirectional,
        dtype=dtype,
    )
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        previous = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                return Qwen2Model._from_config(config, attn_implementation="sdpa")
        finally:
            torch.set_default_dtype(previous)


@torch.no_grad()
def init_as_bag_of_tokens(backbone: Any, weights: Tensor, *, eos: int, seed: int) -> None:
    """Set a Qwen2 backbone's weights so that the last token's state is the weighted mean of random token vectors.

    A random projection of weighted term counts keeps their inner products (Johnson and Lindenstrauss 1984), so the
    model retrieves before it is trained, and training starts from there instead of from noise:

    - channel 0 of the embedding holds ln(weight); the other channels are random, those of EOS tiny.
    - in the first layer the query is a constant (its bias), the key is channel 0, both in the pair of dimensions that
      the rotary embedding turns slowest: attention is then softmax(ln(weight)), the same from every position.
    - values and output are the identity; every other output projection is zero, so all else is the residual.

    Args:
        backbone: Qwen2 with as many key-value heads as heads.
        weights: positive, per token `[V]`.
        eos: id of the token whose state is pooled.
        seed: of the random vectors.
    """
    config = backbone.config
    hidden, heads = config.hidden_size, config.num_attention_heads
    width = hidden // heads
    assert heads == config.num_key_value_heads, "the identity needs one value head per head"
    generator = torch.Generator().manual_seed(seed)
    signal = weights.log()
    table = torch.randn(len(weights), hidden, generator=generator)
    table[:, 0] = signal
    # The norm before attention scales rows to sqrt(hidden); rows of that norm pass it unchanged.
    rest = (hidden - signal.square()).clamp(min=1.0).sqrt()
    table[:, 1:] *= (rest / table[:, 1:].norm(dim=-1))[:, None]
    table[eos, 1:] *= 0.02  # enough that a text of no tokens has a direction: a zero vector cannot be normalised
    backbone.embed_tokens.weight.copy_(table * _EMBEDDING_SCALE)
    for number, layer in enumerate(backbone.layers):
        nn.init.zeros_(layer.mlp.down_proj.weight)
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        if number == 0:
            _attend_by_weight(layer.self_attn, width)
    backbone.norm.weight[0] = 0.0  # channel 0 has done its work; in the vector it would be a constant


def _attend_by_weight(attention: Any, width: int) -> None:
    slow = width // 2 - 1  # rotary pairs are (i, i + width / 2), the last the slowest
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    attention.q_proj.bias[slow::width] = math.sqrt(width)  # undoes the 1/sqrt(width) of attention
    attention.k_proj.weight[slow::width, 0] = 1.0
    nn.init.eye_(attention.v_proj.weight)
    attention.v_proj.weight[0, 0] = 0.0
    nn.init.eye_(attention.o_proj.weight)


_EMBEDDING_SCALE = 0.05
"""Small against the learning rate's steps, so that embeddings move in training; the norms take it out again."""
