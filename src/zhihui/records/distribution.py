"""Distributions of whole numbers, and what is counted over a stream of texts."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from zhihui.errors import InputError, MissingExtra
from zhihui.records.script import SCRIPTS, ScriptTable, script_table

_WORD = re.compile(r"\w")
_TOKEN_BATCH = 512


class Distribution:
    """Counts of whole numbers; the memory grows with the distinct values only."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, value: int) -> None:
        """Count a value."""
        self.counts[value] += 1

    def summary(self) -> dict[str, float] | None:
        """Return mean, 5th, 50th and 95th percentile (nearest rank) and maximum; None without values."""
        total = self.counts.total()
        if not total:
            return None
        mean = sum(value * count for value, count in self.counts.items()) / total
        ranks = {f"p{p}": self._at(math.ceil(total * p / 100)) for p in (5, 50, 95)}
        return {"mean": round(mean, 2), **ranks, "max": max(self.counts)}

    def _at(self, rank: int) -> int:
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= rank:
                return value
        raise AssertionError(f"rank {rank} is beyond the {seen} values")


class Seen:
    """Counts things seen before, remembering 16 bytes of each."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        self.count = 0
        self.duplicates = 0

    def add(self, *parts: str) -> None:
        """Count a thing made of texts."""
        digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self.count += 1
        self.duplicates += digest in self._digests
        self._digests.add(digest)


class TextStatistics:
    """What is counted over the queries, or over the passages, of a data set.

    Args:
        near_empty_below: a text with fewer letters, digits or Chinese characters counts as near-empty.
        tokens: counts tokens when given.
    """

    def __init__(self, *, near_empty_below: int, tokens: TokenCounter | None) -> None:
        self._near_empty_below = near_empty_below
        self._near_empty = 0
        self._seen = Seen()
        self._chars = Distribution()
        self._tokens = tokens
        self._token_lengths = Distribution()
        self._waiting: list[str] = []
        self._scripts: Counter[str] = Counter()
        self._table = _table_if_installed()

    def add(self, text: str) -> None:
        """Count a text."""
        self._seen.add(text)
        self._chars.add(len(text))
        letters = islice(_WORD.finditer(text), self._near_empty_below)
        self._near_empty += sum(1 for _ in letters) < self._near_empty_below
        if self._table is not None:
            self._scripts[self._table.of(text)] += 1
        if self._tokens is not None:
            self._waiting.append(text)
            if len(self._waiting) == _TOKEN_BATCH:
                self._count_tokens()

    def summary(self) -> dict[str, Any]:
        """Return the counts; `script` are shares of the texts, None where OpenCC is not installed."""
        self._count_tokens()
        count = self._seen.count
        shares = {script: round(self._scripts[script] / max(count, 1), 4) for script in SCRIPTS}
        return {
            "count": count,
            "duplicates": self._seen.duplicates,
            "near_empty": self._near_empty,
            "chars": self._chars.summary(),
            "tokens": self._token_lengths.summary(),
            "script": None if self._table is None else shares,
        }

    def _count_tokens(self) -> None:
        if self._tokens is not None and self._waiting:
            for length in self._tokens.lengths(self._waiting):
                self._token_lengths.add(length)
            self._waiting.clear()


class TokenCounter:
    """Counts the tokens of bare texts: no prompt, no special tokens, nothing cut off.

    Raises:
        InputError: the folder has no usable tokenizer.json.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        if not file.is_file():
            raise InputError(f"{folder}: no tokenizer.json; give the folder of a model or tokenizer")
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise InputError(f"{file}: not a tokenizer: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def lengths(self, texts: list[str]) -> list[int]:
        """Return the number of tokens of each text."""
        return [len(each.ids) for each in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _table_if_installed() -> ScriptTable | None:
    try:
        return script_table()
    except MissingExtra:
        return None
