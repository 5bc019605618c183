"""What is asked of a corpus's passages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zhihui.errors import InputError

Fold = Literal["none", "simplified", "traditional"]
ScriptWanted = Literal["any", "simplified", "traditional"]


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """Settings of cleaning, filtering and cutting.

    Raises:
        InputError: a value out of bounds.
    """

    size: int = 256
    """Tokens of a passage at most, or characters where no model is given. The title counts, up to half of it."""
    overlap: int = 1
    """Whole sentences a passage repeats of the one before it in the same section, where they fit."""
    least: int = 8
    """Letters, digits and Chinese characters a passage and its title have at least; less says nothing."""
    min_chinese: float = 0.0
    """Share of Chinese characters among a passage's letters, at least; 0 keeps every language."""
    script: ScriptWanted = "any"
    """Passages in the other Chinese script are left out; mixed ones and those of either script stay."""
    fold: Fold = "none"
    """Script every text is brought to; traditional is as Taiwan writes it."""
    nfkc: bool = False
    """Whether compatibility forms (full-width letters, ①, ㎡) become plain ones; Chinese punctuation stays."""
    repeated: float = 0.5
    """Lines at the top or foot of this share of the files, and of three at least, are boilerplate; 1 keeps them."""
    join: bool = True
    """Whether lines that were wrapped at a fixed width are joined again, in plain text and PDF."""
    field: str | None = None
    """Key of the text in rows (JSON lines, Parquet, CSV); None takes the obvious one."""

    def __post_init__(self) -> None:
        if self.size < 16:
            raise InputError(f"size {self.size} is too small; a sentence needs some room, use at least 16")
        if self.overlap < 0:
            raise InputError(f"overlap {self.overlap} is negative; use 0 for none")
        if self.least < 1:
            raise InputError(f"least {self.least} is too small; a passage has at least 1 character")
        if not 0 <= self.min_chinese <= 1:
            raise InputError(f"min_chinese {self.min_chinese} is out of range; it is a share, 0 to 1")
        if not 0 < self.repeated <= 1:
            raise InputError(f"repeated {self.repeated} is out of range; it is a share above 0, up to 1")
        if self.script != "any" and self.fold != "none":
            raise InputError("script and fold exclude each other: texts that are folded are all in one script")
        for name, value, known in (
            ("script", self.script, ("any", "simplified", "traditional")),
            ("fold", self.fold, ("none", "simplified", "traditional")),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is unknown; choose {', '.join(known[:-1])} or {known[-1]}")
