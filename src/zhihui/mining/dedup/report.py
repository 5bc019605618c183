"""The report of a dedup: how many went, why, because of which set, and some of them to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhihui.mining.dedup.verdicts import REASONS, Verdict
from zhihui.runs import atomic_open

_SHOWN = 5
"""Examples of each reason."""
_LETTERS = 60
"""Characters of a text that are shown."""
_EXPLAINED = {
    "query_in_evaluation": "the query is a text of an evaluation set",
    "positive_in_evaluation": "a positive is a text of an evaluation set",
    "query_near_evaluation": "the query is a near-duplicate of a text of an evaluation set",
    "positive_near_evaluation": "a positive is a near-duplicate of a text of an evaluation set",
    "duplicate": "query and positives are those of an earlier example",
    "near_duplicate": "query and positives are near-duplicates of an earlier example's",
}


class Tally:
    """What the report tells, collected as the verdicts come."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.sets: Counter[str] = Counter()
        """Examples that went because of each evaluation set."""
        self._similarities: Counter[int] = Counter()
        """Removed examples by similarity, in twentieths."""
        self._shown: dict[str, list[Verdict]] = {}

    def add(self, verdict: Verdict) -> None:
        """Count an example that goes."""
        self.reasons[verdict.reason] += 1
        self._similarities[int(verdict.similarity * 20 + 1e-9)] += 1
        if verdict.set is not None:
            self.sets[verdict.set] += 1
        shown = self._shown.setdefault(verdict.reason, [])
        if len(shown) < _SHOWN:
            shown.append(verdict)

    def write(self, path: Path, counts: Mapping[str, Any], threshold: float) -> None:
        """Write the report in Markdown."""
        gone = sum(self.reasons.values())
        share = f"{gone / counts['examples']:.1%}"
        lines = [
            "# Dedup",
            "",
            f"{counts['examples']:,} examples, {gone:,} removed ({share}), {counts['kept']:,} kept.",
        ]
        lines += [f"Near-duplicates share {threshold:.0%} or more of their runs of four characters (Jaccard); script,"]
        lines += ["case, width, white space and punctuation do not count.", "", "## Why", ""]
        rows = [(reason, f"{self.reasons[reason]:,}", _EXPLAINED[reason]) for reason in REASONS]
        lines += _table(("reason", "examples", "meaning"), rows)
        if counts["protected"]:
            lines += ["", "## Evaluation sets", ""]
            sets = [(name, f"{texts:,}", f"{self.sets[name]:,}") for name, texts in counts["protected"].items()]
            lines += _table(("set", "protected texts", "examples removed"), sets)
        if gone:
            lines += ["", "## How similar", ""]
            steps = [(_range(step), f"{n:,}") for step, n in sorted(self._similarities.items(), reverse=True)]
            lines += _table(("similarity", "examples"), steps)
        for reason in REASONS:
            if reason in self._shown:
                lines += ["", f"## {reason}: the first {len(self._shown[reason])}", ""]
                shown = [
                    (f"{one.similarity:.3f}", _cell(one.text), _cell(one.matched), _cell(one.id))
                    for one in self._shown[reason]
                ]
                lines += _table(("similarity", "removed", "matches", "id of the match"), shown)
        with atomic_open(path) as stream:
            stream.write("\n".join(lines) + "\n")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _range(step: int) -> str:
    return "1" if step == 20 else f"{step / 20:.2f} to {(step + 1) / 20:.2f}"


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= _LETTERS else line[:_LETTERS] + "…"
