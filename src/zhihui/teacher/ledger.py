"""What those who ask need of a cache, wherever its file is."""

from __future__ import annotations

from typing import Protocol

from zhihui.teacher.cache import Begun, Spending, Stored
from zhihui.teacher.config import Budget
from zhihui.teacher.reply import Reply


class Ledger(Protocol):
    """Replies, claims and spending: `Cache`, or what stands for one whose file another process holds."""

    def find(self, key: str) -> Reply | None:
        """Return the reply to a request, or None."""

    def add(self, replies: list[Stored]) -> int:
        """Keep replies that came another way; return how many were not there."""

    def begin(self, key: str, *, run: str, worst: Spending, budget: Budget, lasts: float) -> Begun:
        """Book a call at its worst case and claim its request, if nothing speaks against it."""

    def settle(self, reply: Stored, *, run: str, correction: Spending) -> None:
        """Keep the reply of a call that `begin` opened and set right what was booked for it."""

    def refund(self, *, run: str, worst: Spending) -> None:
        """Take back what was booked for a call that was surely not charged."""

    def release(self, key: str) -> None:
        """Give up a claim."""

    def release_all(self) -> None:
        """Give up all claims of this asker."""

    def taken(self, key: str) -> bool:
        """Whether somebody else is asking this."""

    def others_ask(self) -> bool:
        """Whether, at the last refusal, others of the run had calls under way, which may cost less than was booked."""

    def spent(self, run: str) -> Spending:
        """Return what a run has spent, calls under way or lost at their worst case."""

    def close(self) -> None:
        """Need it no more."""
