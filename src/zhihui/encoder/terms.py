"""Term models: a tokenizer of characters and the untrained weights of a term sketch, both counted in given text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.modeling_terms import STEPS, ZERO, TermsConfig, TermsModel, unpacked
from zhihui.encoder.settings import EncoderSettings
from zhihui.errors import InputError, require

TERMS = "terms"
"""The name of this shape, beside those of `SHAPES`."""
PASSAGE = "<|passage|>"
"""Stands before a passage: its vector is lengthened, as passages of any length are to be comparable."""
PROMPTS = {"query": "", "document": PASSAGE}
PAD, UNKNOWN = "[PAD]", "[UNK]"
BUCKETS = 2**19
"""Hashed pairs of neighbouring tokens; 474,525 of them occur in 44 million characters (docs/lab-log.md)."""
FREQUENT_TOKENS, FREQUENT_PAIRS = 10_000, 22_000
"""Terms with an embedding of their own, as many as int16 counts; 16,000 more found nothing more (docs/lab-log.md)."""
_LATIN = re.compile(r"[a-z0-9]+")
_PIECES = 8000
_WINDOW = 20_000
"""Texts tokenized at once: bounds memory."""


def register() -> None:
    """Let transformers load term models by this package's own code, without running a folder's."""
    from transformers import AutoConfig, AutoModel

    AutoConfig.register(TermsConfig.model_type, TermsConfig, exist_ok=True)
    AutoModel.register(TermsConfig, TermsModel, exist_ok=True)


def build(
    texts: Sequence[str], *, seed: int, settings: EncoderSettings | None = None, vocabulary: int | None = None
) -> Encoder:
    """Build an untrained term model: terms weigh their inverse document frequency, and embeddings are random.

    Args:
        texts: what the tokenizer is made of and document frequencies are counted in.
        seed: of the embeddings.
        settings: None for this shape's own; prompts are always its own, unless others than the default are given.
        vocabulary: most characters to keep, the most frequent first; None for all that occur three times.

    Raises:
        InputError: no text, or room for no character.
        MissingExtra: OpenCC is not installed.
    """
    if not texts:
        raise InputError("a fresh model needs texts to count terms in; none were given")
    if vocabulary is not None and vocabulary < 1:
        raise InputError(f"vocabulary {vocabulary} has room for no character; use at least 1, or leave it out")
    register()
    settings = settings or EncoderSettings()
    if settings.prompts == EncoderSettings().prompts:
        settings = replace(settings, prompts=PROMPTS)
    tokenizer, folded = _tokenizer(texts, vocabulary)
    config = TermsConfig(
        vocab_size=len(tokenizer),
        buckets=BUCKETS,
        rows=1 + FREQUENT_TOKENS + FREQUENT_PAIRS,
        passage_token_id=tokenizer.convert_tokens_to_ids(PASSAGE),
        unknown_token_id=tokenizer.convert_tokens_to_ids(UNKNOWN),
    )
    backbone = TermsModel(config)
    backbone.folded.copy_(torch.from_numpy(folded))
    _fill(backbone, _frequencies(backbone, tokenizer, texts), count=len(texts), seed=seed)
    return Encoder(backbone, tokenizer, settings, name=f"fresh-{TERMS}", packable=False).eval()


def pack(backbone: TermsModel) -> None:
    """Round the embeddings to four bits a number, in place: an eighth of their bytes in fp32.

    Each term's are divided by their largest, which its emphasis takes up: the vectors change by the rounding alone.
    """
    with torch.no_grad():
        table = backbone.embedding.float()
        scale = (table.abs().amax(1) * STEPS / (ZERO - 1)).clamp(min=torch.finfo(torch.float32).tiny)
        steps = (table / scale[:, None] * STEPS).round().to(torch.int8) + ZERO
        low, high = steps.to(torch.uint8).chunk(2, dim=1)
        backbone.emphasis += scale.log()
    del backbone.embedding
    backbone.register_buffer("embedding", low | high << 4)
    backbone.config.packed = True


def unpack(backbone: TermsModel) -> None:
    """Make parameters of packed embeddings, in place, which can be trained; the vectors are the same."""
    table = unpacked(backbone.embedding).to(backbone.weight.dtype)
    del backbone.embedding
    backbone.embedding = nn.Parameter(table)
    backbone.config.packed = False


def _tokenizer(texts: Sequence[str], vocabulary: int | None) -> tuple[Any, NDArray[np.int32]]:
    """Return a tokenizer of characters and Latin pieces, and the simplified form of each token (0: says nothing)."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.BertNormalizer(lowercase=True, strip_accents=True)]
    )
    simplified = require("opencc", extra="mine", purpose="a term model").OpenCC("t2s").convert
    kept = _characters(texts, normalizer, vocabulary)
    # Traditional forms are known even where the texts are all simplified: they share the simplified one's terms.
    known = set(kept)
    han = map(chr, range(0x3400, 0xA000))
    variants = [char for char in han if char not in known and simplified(char) in known and simplified(char) != char]
    tokens = list(dict.fromkeys([PAD, UNKNOWN, PASSAGE, *_latin_pieces(texts), *kept, *variants]))
    ids = {token: number for number, token in enumerate(tokens)}
    model = models.WordPiece(vocab=ids, unk_token=UNKNOWN, continuing_subword_prefix="##", max_input_chars_per_word=64)
    fast = Tokenizer(model)
    fast.normalizer = normalizer
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token=PAD, unk_token=UNKNOWN, extra_special_tokens=[PASSAGE]
    )
    tokenizer.model_max_length = 8192
    folded = [
        ids.get(simplified(token), number) if number > 2 and any(map(str.isalnum, token)) else 0
        for number, token in enumerate(tokens)
    ]
    return tokenizer, np.array(folded, dtype=np.int32)


def _characters(texts: Sequence[str], normalizer: Any, most: int | None) -> list[str]:
    """Return the characters other than Latin letters and digits that occur three times, the most frequent first."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for char, number in raw.items():
        for form in normalizer.normalize_str(char).strip():
            counts[form] += number
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [char for char, number in ordered if number >= 3 and not _LATIN.fullmatch(char)][:most]


def _latin_pieces(texts: Iterable[str]) -> list[str]:
    """Return pieces that spell every Latin word: learned ones after single letters and digits."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words: Counter[str] = Counter()
    for text in texts:
        words.update(_LATIN.findall(text.lower()))
    learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN, continuing_subword_prefix="##"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    first = [*letters, *(f"##{letter}" for letter in letters)]
    # Of pairs equally frequent the trainer joins those of lower ids first, and gives letters within words their ids in
    # the order of a hash map, which is another in each run, unless they have them beforehand.
    trainer = trainers.WordPieceTrainer(
        vocab_size=_PIECES, min_frequency=5, continuing_subword_prefix="##", show_progress=False, special_tokens=first
    )
    # A word that is everywhere need not be counted a million times to be learned.
    learner.train_from_iterator((" ".join([word] * min(n, 200)) for word, n in sorted(words.items())), trainer)
    learned = learner.get_vocab()
    return list(dict.fromkeys([*first, *sorted(learned, key=learned.__getitem__)]))


def _frequencies(backbone: TermsModel, tokenizer: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return in how many texts each term occurs."""
    config = backbone.config
    size = config.vocab_size + config.buckets
    frequency = np.zeros(size, dtype=np.int64)
    for term, text in _counted(backbone, tokenizer, texts):
        distinct = np.unique(text * size + term)
        frequency += np.bincount(distinct % size, minlength=size)
    return frequency


def _counted(
    backbone: TermsModel, tokenizer: Any, texts: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the terms of many texts at a time, and which of them each belongs to."""
    for start in range(0, len(texts), _WINDOW):
        window = list(texts[start : start + _WINDOW])
        encoded = tokenizer(window, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
        for rows in (order[first : first + 256] for first in range(0, len(order), 256)):
            width = max(1, *(len(encoded[row]) for row in rows))
            ids = torch.tensor([encoded[row] + [0] * (width - len(encoded[row])) for row in rows])
            term, text = backbone.terms(ids)
            yield term.numpy(), text.numpy()


def _fill(backbone: TermsModel, frequency: NDArray[np.int64], *, count: int, seed: int) -> None:
    """Set the weights: idf of BM25, an embedding for each frequent term, and the length of a usual passage."""
    config = backbone.config
    idf = np.log(1 + (count - frequency + 0.5) / (frequency + 0.5))
    pairs = slice(config.vocab_size, None)
    weight = idf / idf[pairs].mean()
    row = np.zeros(len(frequency), dtype=np.int16)
    tokens = np.argsort(-frequency[: config.vocab_size], kind="stable")[:FREQUENT_TOKENS]
    frequent = config.vocab_size + np.argsort(-frequency[pairs], kind="stable")[:FREQUENT_PAIRS]
    chosen = np.concatenate([tokens, frequent])
    chosen = chosen[frequency[chosen] > 0]
    row[chosen] = np.arange(1, len(chosen) + 1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        backbone.weight.copy_(torch.from_numpy(np.log(np.maximum(weight, 1e-3))))
        backbone.row.copy_(torch.from_numpy(row))
        shape = backbone.embedding.shape
        backbone.embedding.copy_(torch.randn(shape, generator=generator) / shape[1] ** 0.5)
        # The root mean square of the texts' norms, terms counted once: what is added to a passage is as long as that.
        backbone.length.fill_(float(np.log((frequency * weight**2).sum() / count) / 2))
