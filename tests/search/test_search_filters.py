"""Filters: what can be written, and what is said of what cannot."""

from __future__ import annotations

import pytest

from zhihui.errors import InputError
from zhihui.search.columns import ColumnWriter, read_columns
from zhihui.search.filters import Condition, parse_filters, to_mask, to_sql

FIELDS = {"source": "text", "year": "number", "draft": "flag", "部门": "text"}
ROWS = [
    {"source": "a.md", "year": 2020, "draft": True, "部门": "it's"},
    {"source": "b c.md", "year": 2023, "draft": False},
    {"source": "a.md", "year": 2019.5},
    {"year": 2023, "部门": "财务"},
]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("source=a.md", [Condition("source", "=", ("a.md",))]),
        ("source == 'b c.md'", [Condition("source", "=", ("b c.md",))]),
        ('部门 != "财务 一"', [Condition("部门", "!=", ("财务 一",))]),
        ("year>=2020 and year<2024", [Condition("year", ">=", (2020,)), Condition("year", "<", (2024,))]),
        ("year in (2020, 1e3)", [Condition("year", "in", (2020, 1000.0))]),
        ("source IN a.md,'b, c.md'", [Condition("source", "in", ("a.md", "b, c.md"))]),
        ("draft=TRUE AND source='a' and draft!=no", [Condition("draft", "=", (True,)), Condition("source", "=", ("a",)),
                                                     Condition("draft", "!=", (False,))]),
        ("source = 2020-05-01", [Condition("source", "=", ("2020-05-01",))]),
        ("source = and", [Condition("source", "=", ("and",))]),
        ("year = -3", [Condition("year", "=", (-3,))]),
        ("year < 99999999999999999999", [Condition("year", "<", (1e20,))]),
    ],
)  # fmt: skip
def test_conditions_are_read(text, wanted):
    found = parse_filters(text, FIELDS)
    assert list(found) == wanted
    assert [type(value) for each in found for value in each.values] == [type(v) for each in wanted for v in each.values]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "filter '': a field is expected where the end is"),
        ("source", "one of = != < <= > >= in after source is expected where the end is"),
        ("source=", "a value after source = is expected where the end is"),
        ("sorce=a", "no field 'sorce'; did you mean source?"),
        ("source like a", "'like' after source is no comparison; there are = != < <= > >= in"),
        ("source=my file.md", "file.md is not expected there; join conditions with and, quote a value with spaces"),
        ("source='a", "a value after source = is expected where ' is"),
        ("source=a or source=b", "or is not expected there"),
        ("source=a and", "a field is expected where the end is"),
        ("year > new", "year holds numbers; 'new' is none"),
        ("year > nan", "year holds numbers; 'nan' is none that can be compared"),
        ("draft = maybe", "draft is true or false, not 'maybe'"),
        ("draft < true", "draft is true or false; compare it with = or !="),
        ("year in (1, 2", "a comma or ) is expected where the end is"),
        ("year in ()", "a value after year in is expected where ) is"),
    ],
)
def test_what_cannot_be_read_is_said(text, message):
    with pytest.raises(InputError) as refused:
        parse_filters([text], FIELDS)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("source = a.md", [True, False, True, False]),
        ("source != a.md", [False, True, False, False]),
        ("source > a.md", [False, True, False, False]),
        ("year >= 2020", [True, True, False, True]),
        ("year = 2019.5", [False, False, True, False]),
        ("draft != true", [False, True, False, False]),
        ("source in (a.md, 'b c.md') and year < 2023", [True, False, True, False]),
        ("""部门 = "it's" """, [True, False, False, False]),
        ("year in (2023, 2020) and 部门 = 财务", [False, False, False, True]),
    ],
)
def test_who_meets_them_is_known_to_arrow_and_to_lancedb(tmp_path, text, wanted):
    columns = ColumnWriter()
    for row in ROWS:
        columns.add("", row)
    kinds = columns.write(tmp_path)
    assert kinds == {**FIELDS, "title": "text"}
    table = read_columns(tmp_path)
    conditions = parse_filters(text, kinds)
    assert to_mask(conditions, table).tolist() == wanted

    lancedb = pytest.importorskip("lancedb")
    names = {name: f"c{number}" for number, name in enumerate(table.column_names)}
    plain = table.rename_columns(list(names.values())).append_column("row", [list(range(len(ROWS)))])
    stored = lancedb.connect(str(tmp_path / "db")).create_table("t", data=plain)
    found = stored.search().where(to_sql(conditions, names)).to_arrow()["row"].to_pylist()
    assert sorted(found) == [number for number, met in enumerate(wanted) if met]


def test_a_field_of_several_kinds_holds_text(tmp_path):
    columns = ColumnWriter()
    for value in (1, "zwei", True, None, ["list"], 2**70):
        columns.add("t", {"mixed": value, "big": 2**70, "flag": value is None})
    kinds = columns.write(tmp_path)
    assert kinds == {"mixed": "text", "big": "number", "flag": "flag", "title": "text"}
    assert read_columns(tmp_path)["mixed"].to_pylist() == ["1", "zwei", "true", None, None, str(2**70)]
    assert to_mask(parse_filters("big > 1e20 and flag = no", kinds), read_columns(tmp_path)).sum() == 5
