"""What is known to answer what: pairs that no loss may push apart, found without comparing everything to everything.

A passage answers a query when its text or id is that of a positive of the query, or of another query of equal text.
From this one relation follows what is no negative of a row (q, d):

    passage d'                   d' answers q
    query q' against q           a positive of q' (or of an equal query) answers q
    query q' against d           d answers q'
    positive d' against d        some query is answered by both
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from zhihui.training.loss.config import Term
from zhihui.training.loss.layout import Layout, Rows

Kind = Literal["query_passage"] | Term
"""What a row is compared with: its query or positive, before the underscore, with all queries or passages."""


class Masked(NamedTuple):
    """How many of the rows' negatives were dropped, for a log; each a scalar."""

    known: Tensor
    """Known answers: equal texts and ids."""
    near: Tensor
    """Others, nearer to the query than its positive by more than the margin."""
    curated: Tensor
    """How many of both were the query's own hard negatives."""


class Pairs(NamedTuple):
    """Pairs of a row and a column, each once."""

    row: Tensor
    column: Tensor


class Groups(NamedTuple):
    """A relation between groups `0..G-1` and their members."""

    start: Tensor
    """Where each group's members begin, and the last end `[G + 1]`."""
    member: Tensor

    @classmethod
    def of(cls, group: Tensor, member: Tensor, count: int) -> Groups:
        """Group members, of which there are `count` groups."""
        start = torch.zeros(count + 1, dtype=torch.long, device=group.device)
        start[1:] = torch.bincount(group, minlength=count).cumsum(0)
        return cls(start, member[group.argsort(stable=True)])

    def follow(self, pairs: Pairs, members: int) -> Pairs:
        """Return the pairs of each row and the members, of `members` there are, of the groups in its columns."""
        begin = self.start[pairs.column]
        size = self.start[pairs.column + 1] - begin
        index = torch.repeat_interleave(size)
        place = torch.arange(len(index), device=index.device) - (size.cumsum(0) - size)[index]
        code = torch.unique(pairs.row[index] * members + self.member[begin[index] + place])
        return Pairs(code // members, code % members)


class Known:
    """The relation of a batch."""

    def __init__(self, layout: Layout, rows: Rows) -> None:
        """Find what answers what; `rows` are those of all queries."""
        self.layout, self.rows = layout, rows
        question, self.question = torch.unique(layout.query_key, return_inverse=True)
        given = layout.passage_key.reshape(len(layout.owner), -1)
        text, self.text = torch.unique(given, return_inverse=True)  # [N, K]
        self.questions, self.texts, self.width = len(question), len(text), given.shape[1]
        asked = self.question[rows.query].repeat_interleave(self.width)
        answered = self.text[rows.positive].flatten()
        self.texts_of_question = Groups.of(asked, answered, self.questions)
        self.questions_of_text = Groups.of(answered, asked, self.texts)
        number = torch.arange(len(layout.owner), device=given.device).repeat_interleave(self.width)
        self.passages_of_text = Groups.of(self.text.flatten(), number, self.texts)
        number = torch.arange(len(rows.query), device=given.device).repeat_interleave(self.width)
        self.positives_of_text = Groups.of(answered, number, self.texts)
        number = torch.arange(len(self.question), device=given.device)
        self.queries_of_question = Groups.of(self.question, number, self.questions)

    def pairs(self, kind: Kind, rows: Rows) -> Pairs:
        """Return the pairs of some rows and what is no negative of them, itself included.

        Columns are passages for `query_passage`, all rows (for their positives) for `passage_passage`, else queries.
        """
        row = torch.arange(len(rows.query), device=rows.query.device)
        if kind.startswith("query"):
            texts = self.texts_of_question.follow(Pairs(row, self.question[rows.query]), self.texts)
        else:
            texts = Pairs(row.repeat_interleave(self.width), self.text[rows.positive].flatten())
        if kind == "query_passage":
            return self.passages_of_text.follow(texts, len(self.layout.owner))
        questions = self.questions_of_text.follow(texts, self.questions)
        if kind != "passage_passage":
            return self.queries_of_question.follow(questions, len(self.question))
        return self.positives_of_text.follow(self.texts_of_question.follow(questions, self.texts), len(self.rows.query))

    def count(self, kind: Kind, pairs: Pairs, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return how many pairs would have been negatives, and how many of these the query's own; scalars."""
        query = rows.query[pairs.row]
        if kind == "query_passage":
            mine = self.layout.owner[pairs.column] == query
            itself = mine & self.layout.is_positive[pairs.column]
            return (~itself).sum(), (mine & ~itself).sum()
        of = self.rows.query[pairs.column] if kind == "passage_passage" else pairs.column
        return (of != query).sum(), torch.zeros((), dtype=torch.long, device=query.device)
