from __future__ import annotations

from pathlib import Path

import pytest

from zhihui.errors import InputError
from zhihui.synthesis.grading import GRADE
from zhihui.synthesis.methods import METHODS, PROMPTS, read_book
from zhihui.synthesis.prompts import SHIPPED, SUFFIX, Book
from zhihui.synthesis.texts import Material

GOLDEN = Path(__file__).with_name("golden")


def rendered(book: Book, prompt) -> str:
    ask = book.ask(prompt, "id", **prompt.sample)
    return f"[{ask.template} {ask.role}]\n[system]\n{ask.system}\n[user]\n{ask.user}\n"


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.name)
def test_the_shipped_templates_render_as_they_did(prompt):
    expected = (GOLDEN / f"{prompt.name}.txt").read_text(encoding="utf-8")
    assert rendered(read_book(None), prompt) == expected, "a changed template needs a new version and golden file"


def test_every_shipped_template_belongs_to_a_prompt_of_a_method():
    files = {file.name.removesuffix(SUFFIX) for file in SHIPPED.iterdir()}
    assert files == {prompt.name for prompt in PROMPTS}
    assert {prompt for method in METHODS.values() for prompt in [p.name for p in method.prompts]} == files


def test_schemas_speak_chinese_to_the_teacher():
    for prompt in PROMPTS:
        schema = prompt.schema.model_json_schema()
        for owner in (schema, *schema.get("$defs", {}).values()):
            for name, field in owner["properties"].items():
                assert any("\u4e00" <= character <= "\u9fff" for character in field["description"]), name


OWN = """---
name: grade
version: 店铺-2
role: writer
---
{% block system %}评分{% endblock %}
{% block user %}{{ query }}{% for one in passages %}{{ one }}{% endfor %}{% endblock %}
"""


def own(tmp_path, text, name="grade"):
    (tmp_path / "own").mkdir(exist_ok=True)
    (tmp_path / "own" / f"{name}{SUFFIX}").write_text(text, encoding="utf-8")
    return tmp_path / "own"


def test_an_own_template_takes_the_place_of_the_shipped_one(tmp_path):
    book = read_book(own(tmp_path, OWN))
    ask = book.ask(GRADE, "7", query=Material("问", "查询"), passages=[Material("甲", "材料 1")])
    assert (ask.id, ask.template, ask.role, ask.system) == ("7", "grade@店铺-2", "writer", "评分")
    shipped = read_book(None)
    assert rendered(book, PROMPTS[0]) == rendered(shipped, PROMPTS[0])
    assert book.fingerprint([GRADE]) != shipped.fingerprint([GRADE])
    assert book.fingerprint([PROMPTS[0]]) == shipped.fingerprint([PROMPTS[0]])


def test_material_is_fenced_whatever_an_own_template_does_with_it(tmp_path):
    text = OWN.replace("{{ one }}", "{{ one | upper }}-{{ one ~ '' }}")
    ask = read_book(own(tmp_path, text)).ask(
        GRADE, "1", query=Material("问", "查询"), passages=[Material("a", "材料 1")]
    )
    assert ask.user.count("<材料 1 ") == ask.user.count("</材料 1 ") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("---\nname", "name"), ":1: no front matter"),
        (("role: writer", "role: [writer"), ":4: the front matter is not YAML"),
        (("name: grade", "name: query"), ":2: name is 'query'; the file is for 'grade'"),
        (("version: 店铺-2", "version:"), ":2: version is None; write a number or word"),
        (("role: writer", "role: clerk"), ":2: role is 'clerk'; use judge or writer"),
        (("role: writer", "role: writer\nrol: 1"), ":2: unknown key rol in the front matter; did you mean role?"),
        (("{% block system %}评分{% endblock %}", ""), ":1: no block system; write {% block system %}"),
        (("{% endfor %}", ""), ":7: not a template: "),
        (("{{ query }}", "{{ qurey }}"), ":7: unknown variable qurey; did you mean query?"),
        (("{{ query }}", ""), ":1: does not use query; put {{ query }}"),
        (("{{ one }}", "{{ one.txet }}"), ":7: cannot be filled in: "),
        (("{{ one }}", "{{ one.__class__.__mro__ }}"), ":7: cannot be filled in: "),
        (("{{ one }}", "{% include 'x' %}{{ one }}"), ":7: cannot be filled in: "),
    ],
    ids=str,
)
def test_a_broken_own_template_is_refused_in_one_line(tmp_path, change, message):
    folder = own(tmp_path, OWN.replace(*change))
    with pytest.raises(InputError) as refused:
        read_book(folder)
    assert f"{folder / 'grade.zh.jinja'}{message}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_folders_that_hold_no_template_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder of templates"):
        read_book(tmp_path / "absent")
    with pytest.raises(InputError, match=r"gradee.zh.jinja: no template is of this name; did you mean grade\?"):
        read_book(own(tmp_path, OWN, "gradee"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no template; name them query.zh.jinja, grade.zh.jinja"):
        read_book(tmp_path / "empty")
    (tmp_path / "own" / "gradee.zh.jinja").unlink()
    (tmp_path / "own" / "grade.zh.jinja").write_bytes("版本".encode("gb18030"))
    with pytest.raises(InputError, match=r"grade\.zh\.jinja: not UTF-8"):
        read_book(tmp_path / "own")
