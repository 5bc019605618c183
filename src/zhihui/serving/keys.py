"""API keys: read once, compared in constant time, shown to nobody."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from zhihui.errors import InputError

VARIABLE = "ZHIHUI_API_KEYS"
"""Environment variable that holds keys, separated by commas or spaces."""
_SHORTEST = 8


class Keys:
    """The keys that open a server; none at all leaves it open."""

    def __init__(self, keys: list[str]) -> None:
        """Keep the digests of keys; the keys themselves are forgotten.

        Raises:
            InputError: a key is too short, is given twice, or cannot be sent in a header.
        """
        for number, key in enumerate(keys, start=1):
            if len(key) < _SHORTEST:
                raise InputError(f"API key {number} has {len(key)} characters; use at least {_SHORTEST}")
            if not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(f"API key {number} has characters that no header carries; use letters and digits")
        if len({*keys}) < len(keys):
            raise InputError("an API key is given twice; keep one")
        self._digests = [_digest(key) for key in keys]

    def __len__(self) -> int:
        return len(self._digests)

    def number(self, authorization: str | None) -> int | None:
        """Return which key an `Authorization: Bearer KEY` header holds, counted from 1, 0 if none is needed; else None.

        Every key is compared, so the time tells neither which one matched nor how far.
        """
        if not self._digests:
            return 0
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return matches.index(True) + 1 if any(matches) and scheme.lower() == "bearer" else None


def read_keys(file: Path | None) -> Keys:
    """Read keys from a file, one a line ("#" begins a comment), and from the environment.

    Raises:
        InputError: no such file, a file without a key, or a key that cannot be used.
    """
    keys = os.environ.get(VARIABLE, "").replace(",", " ").split()
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({type(error).__name__}); give a text file of keys") from None
        found = [key for line in lines if (key := line.partition("#")[0].strip())]
        if not found:
            raise InputError(f"{file}: holds no key; write one a line")
        keys += found
    return Keys(keys)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", errors="replace")).digest()
