"""Chunking: a section's text in passages of even size that begin and end with whole sentences."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

from zhihui.corpus.lengths import Lengths
from zhihui.corpus.sentences import MIDDLE, Sentence, split_pauses, split_sentences

_LONGEST_TOKEN = 8  # characters a piece has for each token of room when it is cut hard; longer ones are tried shorter


class Span(NamedTuple):
    """A passage's place in its section's text."""

    start: int
    end: int


def chunk(text: str, *, size: int, overlap: int, lengths: Lengths) -> list[Span]:
    """Return the places of a text's passages, in order; without overlap they are the text up to white space.

    A sentence is cut only if it alone exceeds the size: at commas, else wherever it must. There are as few passages
    as greedy filling needs, of as even a length as that number allows; where a paragraph ends in the second half of
    one, the passage ends too.

    Args:
        text: of one section.
        size: of a passage at most, in what `lengths` counts.
        overlap: whole sentences a passage repeats of the one before it, fewer where they would not leave room.
        lengths: counts characters or tokens.
    """
    if not text.strip():
        return []
    if lengths.of([text])[0] <= size:
        return [Span(len(text) - len(text.lstrip()), len(text.rstrip()))]
    sentences, measured = _of_size(text, split_sentences(text), size, lengths)
    return _Packer(text, sentences, measured, overlap, lengths).pack(size)


# --------------------------------------------------------------------------- sentences that are too long


def _of_size(text: str, sentences: list[Sentence], size: int, lengths: Lengths) -> tuple[list[Sentence], list[int]]:
    """Return the sentences, those over the size in parts that are not, and their lengths."""
    measured = lengths.of([text[one.start : one.end] for one in sentences])
    if max(measured) <= size:
        return sentences, measured
    found: list[Sentence] = []
    for sentence, length in zip(sentences, measured, strict=True):
        if length <= size:
            found.append(sentence)
            continue
        parts = _parts(text, sentence.start, sentence.end, size, lengths)
        found += [Sentence(start, end, MIDDLE) for start, end in parts]
        found[-1] = found[-1]._replace(ends=sentence.ends)
    return found, lengths.of([text[one.start : one.end] for one in found])


def _parts(text: str, start: int, end: int, size: int, lengths: Lengths) -> list[tuple[int, int]]:
    """Cut a sentence at its pauses, as many parts together as fit, and a part that is still too long anywhere."""
    found: list[tuple[int, int]] = []
    for first, last in split_pauses(text, start, end):
        if found and lengths.of([text[found[-1][0] : last].rstrip()])[0] <= size:
            found[-1] = (found[-1][0], last)
            continue
        bare = first + len(text[first:last].rstrip())
        while lengths.of([text[first:bare]])[0] > size:
            cut = _longest(text, first, bare, size, lengths)
            found.append((first, cut))
            first = cut
        found.append((first, last))
    return [(first, first + len(text[first:last].rstrip())) for first, last in found]


def _longest(text: str, start: int, end: int, size: int, lengths: Lengths) -> int:
    """Return where a piece is cut so that it fits: a long one, not always the longest."""
    low, high = start + 1, min(end - 1, start + size * _LONGEST_TOKEN)
    while low < high:
        middle = (low + high + 1) // 2
        if lengths.of([text[start:middle]])[0] <= size:
            low = middle
        else:
            high = middle - 1
    return low


# --------------------------------------------------------------------------- sentences into passages


class _Packer:
    def __init__(
        self, text: str, sentences: list[Sentence], measured: list[int], overlap: int, lengths: Lengths
    ) -> None:
        self._text, self._sentences, self._overlap, self._lengths = text, sentences, overlap, lengths
        self._before = [0, *accumulate(measured)]
        self._largest = max(measured)

    def pack(self, size: int) -> list[Span]:
        fewest = len(self._filled(size))
        low, high = self._largest, size
        while low < high:  # the smallest limit that needs no more passages makes them even
            middle = (low + high) // 2
            if len(self._filled(middle)) <= fewest:
                high = middle
            else:
                low = middle + 1
        return [Span(*self._place(first, last)) for first, last in self._filled(high, exactly=size)]

    def _filled(self, limit: int, *, exactly: int | None = None) -> list[tuple[int, int]]:
        """Return passages as ranges of sentences.

        Args:
            limit: for the sum of the sentences' lengths, which is near the passage's own.
            exactly: also hold each passage's own length to this.
        """
        total = len(self._sentences)
        found: list[tuple[int, int]] = []
        first = done = 0
        while done < total:
            last = max(done + 1, bisect_right(self._before, self._before[first] + limit) - 1)
            while exactly is not None and self._length(first, last) > exactly and last - first > 1:
                if last > done + 1:
                    last -= 1
                else:
                    first += 1  # rather less overlap than none of the new
            if last < total:
                last = self._at_paragraph(first, done, last, limit)
            found.append((first, last))
            first, done = max(last - self._overlap, first + 1), last
        return found

    def _at_paragraph(self, first: int, done: int, last: int, limit: int) -> int:
        """Return where the strongest end lies in the second half of what would fit, the last of equals."""
        half = self._before[first] + limit / 2
        ends = [end for end in range(done + 1, last + 1) if self._before[end] >= half] or [last]
        return max(ends, key=lambda end: (self._sentences[end - 1].ends, end))

    def _place(self, first: int, last: int) -> tuple[int, int]:
        return self._sentences[first].start, self._sentences[last - 1].end

    def _length(self, first: int, last: int) -> int:
        start, end = self._place(first, last)
        return self._lengths.of([self._text[start:end]])[0]
