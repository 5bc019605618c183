"""Texts that the workers encode."""

from __future__ import annotations

TEXTS = [f"第{number}句：红茶用{60 + number}度的水泡，" + "绿茶用八十度，" * (number % 4) for number in range(30)]
