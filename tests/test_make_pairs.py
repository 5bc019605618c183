"""scripts/make_pairs.py: every reader on a made-up clone, the same bytes each time, a user's mistake in one line."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from zhihui.config import read_yaml
from zhihui.records import read_examples, read_rows

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import make_pairs  # noqa: E402  # scripts are no package
import pairs_readers  # noqa: E402

FIRST = (
    "院子里的水缸每年入冬以前都要倒空，再用草席裹上两层，不然夜里一冷，"
    "缸壁就会从底部裂开一道缝，来年再也存不住水，只能搬到墙角种些葱蒜。"
)
SECOND = (
    "草席要选去年秋天编的，放过一个夏天的席子更软，裹的时候不容易折断；"
    "裹好以后用麻绳从上到下绕五圈，最后在缸口盖一块木板，木板上压两块砖。"
)
THIRD = (
    "春天拆草席不要着急，等到最低气温连续三天都在零上，先揭开木板晒一个上午，"
    "再从上往下解开麻绳，把席子抖干净晾起来，留着来年冬天继续使用。"
)


@pytest.fixture(autouse=True)
def plain_draws(monkeypatch):
    """A passage a paragraph, and no chance in what becomes a query."""
    monkeypatch.setattr(pairs_readers, "LENGTH", 1)
    monkeypatch.setattr(pairs_readers, "NEIGHBOUR", 0)
    monkeypatch.setattr(pairs_readers, "ALONE", 0)


def read(reader, text, *, path="书/篇/file", encoding="utf-8"):
    left_out = Counter()
    pairs = list(pairs_readers.READERS[reader](text.encode(encoding), path, Random("7"), left_out))
    return [(pair.kind, pair.query, pair.passage) for pair in pairs], dict(+left_out)


def test_headings_with_their_documents_title():
    text = f"# 水缸过冬\n\n{FIRST}\n\n## 准备\n\n### 选草席\n\n{SECOND}\n"
    assert read("markdown", text)[0] == [
        ("heading", "水缸过冬", FIRST),
        ("heading", "水缸过冬 准备 选草席", SECOND),
    ]


def test_a_heading_alone(monkeypatch):
    monkeypatch.setattr(pairs_readers, "ALONE", 1)
    assert read("markdown", f"# 水缸过冬\n\n## 选草席\n\n{SECOND}\n")[0] == [("heading", "选草席", SECOND)]


def test_neighbours_stay_within_their_section(monkeypatch):
    monkeypatch.setattr(pairs_readers, "NEIGHBOUR", 1)
    text = f"# 水缸过冬\n\n{FIRST}\n\n{SECOND}\n\n## 拆\n\n{THIRD}\n"
    assert read("markdown", text)[0] == [
        ("heading", "水缸过冬", FIRST),
        ("neighbour", FIRST, SECOND),
        ("heading", "水缸过冬 拆", THIRD),
    ]


def test_nothing_is_the_neighbour_of_what_was_left_out(monkeypatch):
    monkeypatch.setattr(pairs_readers, "NEIGHBOUR", 1)
    english = "Wrap the jar in straw before winter, or it will crack from the bottom and never hold water again."
    pairs, left_out = read("markdown", f"# 水缸过冬\n\n{FIRST}\n\n{english}\n\n{SECOND}\n")
    assert [kind for kind, _, _ in pairs] == ["heading", "heading"]
    assert left_out == {"little_chinese": 1}


def test_a_heading_is_the_query_of_three_passages_at_most():
    text = "# 水缸过冬\n\n" + "\n\n".join(f"第{number}年：{FIRST}" for number in "一二三四五")
    assert len(read("markdown", text)[0]) == pairs_readers.HEADINGS


@pytest.mark.parametrize(
    "markup",
    [
        "![水缸的照片](jar.png)",
        "<!-- 这里以后要补一张图 -->",
        "| 月份 | 圈数 |\n|---|---|\n| 十一月 | 五 |",
        "$$\nx = y^2\n$$",
        "{{< figure src=jar >}}",
        "[缸]: https://example.org/jar",
        "[#]: subject: (How (not) to Keep a Jar)",
        "!!! note",
        "::: tip",
        "import Jar from './jar'",
        "```sh\none\ntwo\nthree\nfour\n```",
    ],
    ids=[
        "image",
        "comment",
        "table",
        "maths",
        "shortcode",
        "reference",
        "header",
        "admonition",
        "container",
        "mdx",
        "code",
    ],
)
def test_markup_is_removed(markup):
    assert read("markdown", f"# 水缸过冬\n\n{FIRST}\n\n{markup}\n") == ([("heading", "水缸过冬", FIRST)], {})


def test_short_code_and_the_words_of_links_stay():
    first = f"[院子](https://example.org){FIRST[2:5]}[{FIRST[5:7]}][1]{FIRST[7:]}"
    text = f"# 水缸过冬\n\n{first}\n\n```sh\n裹席 --圈数 5\n```\n\n{SECOND}\n\n[1]:https://example.org/jar\n"
    (_, _, first), (_, _, second) = read("markdown", text)[0]
    assert first == FIRST
    assert second == f"裹席 --圈数 5\n{SECOND}"


def test_sentences_that_announce_what_was_removed_are_dropped():
    text = f"# 水缸过冬\n\n{FIRST}工具的清单如下：\n\n| 麻绳 |\n"
    assert read("markdown", text)[0] == [("heading", "水缸过冬", FIRST)]
    text = f"# 水缸过冬\n\n- {FIRST}\n- 工具见下表：\n- 步骤如下。\n"
    assert read("markdown", text)[0] == [("heading", "水缸过冬", FIRST)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"# 水缸过冬\n\n## 参考资料\n\n{FIRST}", "aside"),
        (f"# 水缸过冬\n\n{FIRST}欢迎关注我们的公众号。", "boilerplate"),
        ("# 水缸过冬\n\n草席裹两层。", "too_short"),
        ("# 水缸过冬\n\n" + "\n".join(f"- 第{number}章 水缸的挑选和摆放以及来历" for number in "一二三四五六"), "menu"),
        (f"# Jars\n\n{FIRST}", "no_chinese_heading"),
    ],
    ids=["aside", "boilerplate", "too_short", "menu", "no_chinese_heading"],
)
def test_what_is_left_out_is_counted(text, reason):
    assert read("markdown", text) == ([], {reason: 1})


def test_the_short_end_of_a_section_stays_with_the_passage_before_it():
    text = f"# 水缸过冬\n\n{FIRST}\n\n来年再用。\n\n## 拆\n\n不要着急。\n"
    assert read("markdown", text) == ([("heading", "水缸过冬", f"{FIRST}\n来年再用。")], {"too_short": 1})


def test_a_passage_goes_on_to_the_length_that_was_drawn(monkeypatch):
    monkeypatch.setattr(pairs_readers, "LENGTH", 100)
    monkeypatch.setattr(pairs_readers, "SPREAD", 0)
    text = f"# 水缸过冬\n\n{FIRST}\n\n{SECOND}\n\n{THIRD}\n"
    assert [passage for _, _, passage in read("markdown", text)[0]] == [f"{FIRST}\n{SECOND}", THIRD]


def test_a_long_paragraph_is_cut_at_its_lines():
    lines = [f"第{number}年：{FIRST}" for number in range(20)]
    passages = [
        passage for _, _, passage in read("markdown", "# 水缸\n\n" + "\n".join(f"- {each}" for each in lines))[0]
    ]
    assert passages == lines[: pairs_readers.HEADINGS]


def test_laws_lose_their_history_and_numbers_and_keep_what_is_on_copyright():
    text = f"""# 水缸管理条例

2031年1月2日 水缸大会通过

<!-- INFO END -->

## 第一章　版权

第一条 {FIRST}

第二条之一　{THIRD}水缸的版权归编席人：

（一）{SECOND}
"""
    assert read("laws", text)[0] == [
        ("heading", "水缸管理条例 版权", FIRST),
        ("heading", "水缸管理条例 版权", f"{THIRD}水缸的版权归编席人：\n（一）{SECOND}"),
    ]


CLASSICAL = "缸者，盛水之器也，入冬则空之，裹以草席。"
MODERN = "水缸是装水的器具，到了冬天就要倒空，再用草席裹起来。"


@pytest.mark.parametrize(
    ("share", "kind", "query", "passage"),
    [(1, "modern->classical", MODERN, CLASSICAL), (0, "classical->modern", CLASSICAL, MODERN)],
    ids=["modern", "classical"],
)
def test_parallel_lines_are_joined_to_passages(monkeypatch, share, kind, query, passage):
    monkeypatch.setattr(pairs_readers, "MODERN_FIRST", share)
    monkeypatch.setattr(pairs_readers, "CLASSICAL_LENGTH", 1)
    head, tail = CLASSICAL[:10], CLASSICAL[10:]
    text = f"古文：{head}\n现代文：{MODERN[:10]}\n\n古文：{tail}\n现代文：{MODERN[10:]}\n\n古文：善。\n现代文：好。\n"
    assert read("classical", text) == ([(kind, query, passage)], {"too_short": 1})


def test_the_title_of_parallel_lines_is_their_place():
    text = f"古文：{CLASSICAL * 5}\n现代文：{MODERN * 5}\n"
    (pair,) = pairs_readers.read_classical(text.encode(), "双语数据/缸书/冬篇/bitext.txt", Random(0), Counter())
    assert (pair.title, pair.path) == ("缸书·冬篇", "双语数据/缸书/冬篇/bitext.txt")


def test_poems_and_poets_become_simplified():
    lines = ["寒來院裏水缸空，草席重重裹北風。", "待得明年春水滿，還將明月貯其中。", "老翁倚杖門前立，笑指牆頭一點紅。"]
    poems = [
        {"author": "甕翁", "title": "過冬", "paragraphs": lines},
        {"author": "甕翁", "rhythmic": "水缸子", "paragraphs": lines},
        {"author": "甕翁", "title": "短", "paragraphs": lines[:1]},
        {"name": "甕翁", "desc": FIRST},
        {"name": "席人", "description": f"--{SECOND}", "short_description": "编席的人"},
    ]
    text = "寒来院里水缸空，草席重重裹北风。待得明年春水满，还将明月贮其中。老翁倚杖门前立，笑指墙头一点红。"
    assert read("poetry", json.dumps(poems)) == (
        [
            ("title", "瓮翁《过冬》", text),
            ("title", "瓮翁《水缸子》", text),
            ("entity", "瓮翁生平简介", FIRST),
            ("entity", "席人生平简介", SECOND),
        ],
        {"too_short": 1},
    )


def test_dialogues_give_what_was_asked_for_by_name():
    told = {"name": "水缸（院里的）", "attrname": "Information", "attrvalue": FIRST}
    turns = [
        {"message": "你知道水缸怎么过冬吗？"},
        {"message": "知道，要裹草席。", "attrs": [told, {"name": "水缸", "attrname": "用料", "attrvalue": SECOND}]},
        {"message": "原来水缸也怕冷。"},
        {"message": "习惯就好。", "attrs": [told]},
        {"message": "那院子里还有什么？"},
        {"message": "还有一棵枣树。", "attrs": [{"name": "枣树", "attrname": "Information", "attrvalue": THIRD}]},
    ]
    assert read("kdconv", json.dumps([{"name": "水缸", "messages": turns}]))[0] == [
        ("dialogue", "你知道水缸怎么过冬吗？", FIRST)
    ]


def test_a_knowledge_base_gives_things_and_texts():
    facts = {"水缸": [["水缸", "Information", FIRST], ["水缸", "开放时间", SECOND], ["水缸", "电话", "12345"]]}
    assert read("kdconv", json.dumps(facts)) == (
        [("entity", "水缸简介", FIRST), ("entity", "水缸开放时间", SECOND)],
        {"too_short": 1},
    )


def test_a_table_of_questions_in_gb18030():
    ask = "昨天搬水缸时扭了腰，弯下去就疼，请问需要躺几天？"
    text = f"department,title,ask,answer\n骨科,搬水缸扭了腰怎么办,{ask},{FIRST}\n骨科,腰疼怎么办,无,{SECOND}\n"
    assert read("medical", text, encoding="gb18030")[0] in (
        [("question", ask, FIRST), ("question", "腰疼怎么办", SECOND)],
        [("question", "搬水缸扭了腰怎么办", FIRST), ("question", "腰疼怎么办", SECOND)],
    )


# --------------------------------------------------------------------------- the script


@pytest.fixture
def clones(tmp_path):
    folder = tmp_path / "clones" / "lctt" / "published" / "203101"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.md").write_text(
            f"# 第{number}口水缸\n\n{FIRST}{number}\n\n{SECOND}{number}\n", encoding="utf-8"
        )
    (folder / "again.md").write_text(f"# 第0口水缸\n\n{FIRST}0\n", encoding="utf-8")
    (folder / "binary.md").write_bytes(b"\0\1\2")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "no.md").write_text(f"# 藏起来的水缸\n\n{THIRD}\n", encoding="utf-8")
    return tmp_path / "clones"


def run(clones, out, *more):
    return make_pairs.main(["--clones", str(clones), "--out", str(out), *more])


def test_a_clone_becomes_a_file_that_reads_as_examples(clones, tmp_path, capsys):
    assert run(clones, tmp_path / "out", "--source", "lctt") == 0
    said = capsys.readouterr().out
    assert said == "lctt: 8 of 8 pairs, 36,000 wanted (left out: 1 duplicate, 1 not_text)\n"
    rows = [row.data for row in read_rows(tmp_path / "out" / "lctt.jsonl.gz")]
    assert rows[0] == {
        "query": "第0口水缸",
        "pos": [FIRST + "0"],
        "source": "lctt",
        "title": "第0口水缸",
        "url_or_path": "published/203101/0.md",
        "kind": "heading",
    }
    assert [example.pos for example in read_examples(tmp_path / "out")] == [row["pos"] for row in rows]


def test_the_same_clones_give_the_same_bytes(clones, tmp_path, monkeypatch):
    monkeypatch.undo()  # with chance
    for name in ("one", "two"):
        run(clones, tmp_path / name, "--source", "lctt")
    one, two = ((tmp_path / name / "lctt.jsonl.gz").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_sample_keeps_order_and_grows_with_what_is_wanted():
    pairs = [pairs_readers.Pair(f"问{number}", f"答{number}", "", "", "question") for number in range(50)]
    few, more = (make_pairs.sample(pairs, rows, seed=3) for rows in (10, 20))
    assert len(few) == 10
    assert few != pairs[:10]
    assert [pair for pair in pairs if pair in few] == few
    assert set(few) < set(more)
    assert few != make_pairs.sample(pairs, 10, seed=4)
    assert make_pairs.sample(pairs, 80, seed=3) == pairs


def test_files_that_must_stay_out(tmp_path):
    for book in ("论语", "缸书"):
        (tmp_path / "双语数据" / book / "篇").mkdir(parents=True)
        (tmp_path / "双语数据" / book / "篇" / "bitext.txt").touch()
    (source,) = make_pairs.read_sources(["classical"])
    assert source.found(tmp_path) == ["双语数据/缸书/篇/bitext.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "lctt", "laws"], "no clone of laws; clone as --list says, or choose sources with --source"),
        (["--source", "lcct"], "unknown source lcct; did you mean lctt?"),
        (["--source", "poetry"], "holds no 全唐诗/**/*.json or 宋词/*.json or 元曲/*.json; is it a clone of"),
        (["--source", "kdconv"], "no pair is left (left out: 1 not_json); see pairs_readers.py"),
    ],
    ids=["absent", "unknown", "other", "empty"],
)
def test_a_mistake_is_one_line(clones, tmp_path, capsys, words, message):
    (clones / "poetry").mkdir()
    (clones / "kdconv" / "data" / "film").mkdir(parents=True)
    (clones / "kdconv" / "data" / "film" / "dev.json").write_text("[", encoding="utf-8")
    assert run(clones, tmp_path / "out", *words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (tmp_path / "out").exists()


def test_the_list_clones_each_source_to_where_it_is_looked_for(capsys):
    assert make_pairs.main(["--list", "--clones", "here", "--source", "lctt"]) == 0
    url = "https://github.com/LCTT/TranslateProject.git"
    assert capsys.readouterr().out == f"git clone --depth 1 {url} 'here/lctt'  # Apache-2.0\n"


def test_the_sources_are_those_of_the_recipe_and_of_the_page():
    files = read_yaml(ROOT / "recipes" / "nano.yaml")["stages"]["gather"]["data"]
    sources = make_pairs.read_sources(None)
    assert sorted(files) == sorted(f"data/pairs/{source.name}.jsonl.gz" for source in sources)
    page = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
    for source in sources:
        assert f"| {source.name} | [{source.repository}](" in page
        assert f"| {source.licence} | {source.rows:,} |" in page
