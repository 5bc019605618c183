from __future__ import annotations

import re
from pathlib import Path

import pytest
from serving_client import call, serving

import zhihui.serving.page_routes as routes

PAGE = Path(routes.__file__).parent / "page"
FILES = sorted(path.name for path in PAGE.iterdir())


def test_the_page_and_its_files_need_no_key_and_load_nothing_from_elsewhere(model):
    with serving(model, keys=("a-good-key-1",), requests_per_minute=1) as (url, _):
        assert call(url, "/info").status == 401
        replies = {path: call(url, path) for path in ("/", *(f"/page/{name}" for name in FILES))}
    for path, reply in replies.items():
        assert reply.status == 200, path
        assert reply.headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert replies["/"].content == replies["/page/index.html"].content
    assert replies["/"].headers["content-type"] == "text/html; charset=utf-8"
    assert replies["/page/main.js"].headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["/page/none.js", "/page/", "/page/../app.py", "/page/%2e%2e%2fapp.py"])
def test_nothing_else_is_given_away(url, path):
    assert call(url, path).status == 404


@pytest.mark.parametrize("name", FILES)
def test_texts_never_become_markup(name):
    written = (PAGE / name).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", written)
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=|javascript:", written)
    assert "//" not in re.sub(r"^ *//.*$|http://www\.w3\.org/2000/svg| // .*$", "", written, flags=re.MULTILINE)


def test_both_languages_say_the_same():
    english, chinese = re.split(r"^  zh: \{$", (PAGE / "words.js").read_text(encoding="utf-8"), flags=re.MULTILINE)
    said = [
        dict(re.findall(r'^    "([\w.]+)": *((?:.|\n      )*?),$', part, re.MULTILINE)) for part in (english, chinese)
    ]
    assert [*said[0]] == [*said[1]]
    assert len(said[0]) > 50
    for key, words in said[0].items():
        assert {*re.findall(r"\{\d\}", words)} == {*re.findall(r"\{\d\}", said[1][key])}, key
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    scripts = "".join((PAGE / name).read_text(encoding="utf-8") for name in FILES if name.endswith(".js"))
    asked = re.findall(r'data-(?:say|label|hint)="([\w.]+)"', html) + re.findall(r'\bsay\("([\w.]+)"', scripts)
    assert {*asked} <= {*said[0]}
