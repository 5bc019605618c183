"""The pool negatives are drawn from, and which of its passages are positives of a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zhihui.ranking.folding import fold
from zhihui.records import Example, Passage


def normalized(text: str) -> str:
    """Return what two texts have in common that differ in script, letter case, width or white space only.

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    return "".join(fold(text).split())


class Pool:
    """The distinct passages of a corpus, numbered in an order that depends on their texts alone."""

    def __init__(self, passages: Mapping[str, Passage]) -> None:
        keys = {key: normalized(passage.full) for key, passage in passages.items()}
        distinct: dict[str, str] = {}
        for key, passage in passages.items():
            distinct[keys[key]] = min(distinct.get(keys[key], passage.full), passage.full)
        order = sorted(distinct)
        number = {text: index for index, text in enumerate(order)}
        self.texts = [distinct[text] for text in order]
        """Title and text of each passage."""
        self.merged = len(passages) - len(order)
        """Passages left out because another has the same normalised text."""
        self._by_id = {key: number[text] for key, text in keys.items()}
        self._by_text = {text: {index} for text, index in number.items()}
        for key, passage in passages.items():
            # A positive may have been written down without its title.
            if passage.title:
                self._by_text.setdefault(normalized(passage.text), set()).add(self._by_id[key])

    def __len__(self) -> int:
        return len(self.texts)

    def find(self, text: str) -> set[int]:
        """Return the passages with this text, with or without their titles, after normalisation."""
        return self._by_text.get(normalized(text), set())

    def positives(self, example: Example) -> set[int]:
        """Return the passages that are positives of an example, by text or by `meta["pos_ids"]`."""
        listed = example.meta.get("pos_ids")
        ids = listed if isinstance(listed, list) else []
        found = {self._by_id[key] for key in ids if isinstance(key, str) and key in self._by_id}
        return found.union(*(self.find(text) for text in example.pos))


class KnownPositives:
    """All passages that must not become negatives of a query: an equal query's positives count as well."""

    def __init__(self, examples: Iterable[Example], pool: Pool) -> None:
        self._pool = pool
        self._by_query: dict[str, set[int]] = {}
        for example in examples:
            self._by_query.setdefault(normalized(example.query), set()).update(pool.positives(example))

    def of(self, query: str) -> set[int]:
        """Return the positives of a query; a passage that is the query itself is one."""
        return self._by_query.get(normalized(query), set()) | self._pool.find(query)
