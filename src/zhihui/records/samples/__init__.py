"""Looking at data: a page of sampled examples with what was counted over all of them."""

from __future__ import annotations

from zhihui.records.samples.page import write_page

__all__ = ["write_page"]
