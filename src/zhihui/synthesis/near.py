"""Near-duplicates among many short texts: an exact join on the Jaccard similarity of their character pairs.

Two sets that are alike at the threshold must share one of their rarest members, the longer the threshold the fewer
of them need looking at: the prefix filter of set-similarity joins (Chaudhuri et al. 2006; Bayardo et al. 2007).
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence

from zhihui.progress import track


def shingles(text: str) -> frozenset[str]:
    """Return the pairs of adjacent letters, digits and Chinese characters of a text, case and width aside."""
    word = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).lower()))
    return frozenset(word[place : place + 2] for place in range(max(1, len(word) - 1)))


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts' shingles, 0 to 1."""
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def near_duplicates(texts: Sequence[str], threshold: float) -> list[int | None]:
    """Return for each text the number of an earlier one that is kept and as similar as the threshold, or None.

    A text is kept if it has none. Of several the earliest is named.

    Args:
        texts: in order of preference.
        threshold: Jaccard similarity from which two are near-duplicates, above 0 and up to 1.
    """
    sets = [shingles(text) for text in texts]
    uses = Counter(each for members in sets for each in members)
    kept_with: dict[str, list[int]] = {}
    found: list[int | None] = []
    for number, members in enumerate(track(sets, total=len(sets), label="compare")):
        rarest = sorted(members, key=lambda each: (uses[each], each))
        prefix = rarest[: len(rarest) - math.ceil(threshold * len(rarest) - 1e-9) + 1]
        candidates = sorted({other for each in prefix for other in kept_with.get(each, ())})
        match = next((other for other in candidates if _alike(members, sets[other], threshold)), None)
        found.append(match)
        if match is None:
            for each in prefix:
                kept_with.setdefault(each, []).append(number)
    return found


def _alike(one: frozenset[str], other: frozenset[str], threshold: float) -> bool:
    if min(len(one), len(other)) < threshold * max(len(one), len(other)) - 1e-9:  # too few to be shared
        return False
    shared = len(one & other)
    return shared >= threshold * (len(one) + len(other) - shared) - 1e-9
