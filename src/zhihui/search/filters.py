"""Filters: conditions on passages' metadata, as a user writes them.

    source = handbook.md
    year >= 2020 and lang in (zh, "zh-Hant")

A condition is FIELD OPERATOR VALUE with = != < <= > >= or in; conditions are joined by `and`. A field's kind says how a
value is read: `year = 007` is the number 7 where the field holds numbers. Text is compared by its characters' codes, so
that dates written 2024-05-01 are in order. A passage without the field meets no condition on it, != included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from zhihui.config import did_you_mean
from zhihui.errors import InputError, require
from zhihui.search.description import FieldKind

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in")
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"[^"]*"|'[^']*') | (?P<operator>==|!=|<=|>=|=|<|>) | (?P<mark>[(),])
        | (?P<word>[^\s"'(),=!<>]+) | (?P<other>\S)
    )""",
    re.VERBOSE,
)
_SQL = {"=": "=", "!=": "<>"}
_FLAGS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


class Condition(NamedTuple):
    """One comparison; its values are of the field's kind."""

    field: str
    operator: str
    values: tuple[str | int | float | bool, ...]
    """One, or for `in` at least one."""


def parse_filters(filters: str | Sequence[str] | None, fields: Mapping[str, FieldKind]) -> tuple[Condition, ...]:
    """Return the conditions in some texts, all of which a passage has to meet.

    Raises:
        InputError: a text that cannot be read, an unknown field, or a value of another kind than the field's.
    """
    texts = [filters] if isinstance(filters, str) else filters or []
    return tuple(condition for text in texts for condition in _Parser(text, fields).conditions())


class _Parser:
    def __init__(self, text: str, fields: Mapping[str, FieldKind]) -> None:
        self._text, self._fields = text, fields
        self._tokens = [(str(m.lastgroup), m[0].strip()) for m in _TOKEN.finditer(text) if m.lastgroup]

    def conditions(self) -> list[Condition]:
        found = [self._condition()]
        while self._tokens:
            kind, token = self._tokens.pop(0)
            if kind != "word" or token.lower() != "and":
                self._refuse(f"{token} is not expected there; join conditions with and, quote a value with spaces")
            found.append(self._condition())
        return found

    def _condition(self) -> Condition:
        field = self._next("a field", "word", "quoted")
        if field not in self._fields:
            self._refuse(f"no field {field!r}; {did_you_mean(field, self._fields)}")
        operator = self._next(f"one of {' '.join(OPERATORS)} after {field}", "operator", "word").lower()
        operator = "=" if operator == "==" else operator
        if operator not in OPERATORS:
            self._refuse(f"{operator!r} after {field} is no comparison; there are {' '.join(OPERATORS)}")
        kind = self._fields[field]
        if kind == "flag" and operator not in ("=", "!=", "in"):
            self._refuse(f"{field} is true or false; compare it with = or !=")
        texts = self._list(field) if operator == "in" else [self._value(field, operator)]
        return Condition(field, operator, tuple(self._typed(field, kind, text) for text in texts))

    def _list(self, field: str) -> list[str]:
        bracket = bool(self._tokens) and self._tokens[0][1] == "("
        if bracket:
            self._tokens.pop(0)
        found = [self._value(field, "in")]
        while self._tokens and self._tokens[0] == ("mark", ","):
            self._tokens.pop(0)
            found.append(self._value(field, "in"))
        if bracket and self._next("a comma or )", "mark") != ")":
            self._refuse("the list is not closed; write FIELD in (A, B)")
        return found

    def _value(self, field: str, operator: str) -> str:
        return self._next(f"a value after {field} {operator}", "word", "quoted")

    def _next(self, what: str, *kinds: str) -> str:
        kind, token = self._tokens.pop(0) if self._tokens else ("end", "the end")
        if kind not in kinds:
            self._refuse(f"{what} is expected where {token} is")
        return token[1:-1] if kind == "quoted" else token

    def _typed(self, field: str, kind: FieldKind, text: str) -> str | int | float | bool:
        if kind == "text":
            return text
        if kind == "flag":
            if text.lower() not in _FLAGS:
                self._refuse(f"{field} is true or false, not {text!r}")
            return _FLAGS[text.lower()]
        try:
            number = float(text)
        except ValueError:
            self._refuse(f"{field} holds numbers; {text!r} is none")
        if number != number or abs(number) == float("inf"):
            self._refuse(f"{field} holds numbers; {text!r} is none that can be compared")
        return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else number

    def _refuse(self, reason: str) -> NoReturn:
        raise InputError(f"filter {self._text!r}: {reason}")


def to_mask(conditions: Sequence[Condition], columns: Any) -> Any:
    """Return which passages meet the conditions, `[N]` of bool.

    Args:
        conditions: at least one.
        columns: as `read_columns` returns them.
    """
    compute = require("pyarrow.compute", extra="search", purpose="filtering by metadata")
    arrow = require("pyarrow", extra="search", purpose="filtering by metadata")
    functions = {
        "=": compute.equal,
        "!=": compute.not_equal,
        "<": compute.less,
        "<=": compute.less_equal,
        ">": compute.greater,
        ">=": compute.greater_equal,
    }
    met = None
    for field, operator, values in conditions:
        column = columns[field]
        if operator == "in":
            parts = [compute.equal(column, arrow.scalar(value)) for value in values]
            found = parts[0]
            for part in parts[1:]:
                found = compute.or_(found, part)
        else:
            found = functions[operator](column, arrow.scalar(values[0]))
        met = found if met is None else compute.and_(met, found)
    return compute.fill_null(met, False).to_numpy()


def to_sql(conditions: Sequence[Condition], names: Mapping[str, str]) -> str:
    """Return the conditions in SQL.

    Args:
        conditions: at least one.
        names: field -> column.
    """
    return " AND ".join(f"({_sql(condition, names[condition.field])})" for condition in conditions)


def _sql(condition: Condition, name: str) -> str:
    values = [_literal(value) for value in condition.values]
    if condition.operator == "in":
        return f"{name} IN ({', '.join(values)})"
    return f"{name} {_SQL.get(condition.operator, condition.operator)} {values[0]}"


def _literal(value: str | int | float | bool) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)
