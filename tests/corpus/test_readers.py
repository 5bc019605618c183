"""Each format: its headings, its text, and what of it is no text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from documents import handbook, pdf

from zhihui.corpus.document import Section
from zhihui.corpus.readers import SUFFIXES, read_documents, reader_of
from zhihui.errors import MissingExtra
from zhihui.records import BadRow, RejectLog, write_rows


@pytest.fixture
def read(tmp_path):
    def read(name, data, **options):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return list(read_documents(path, source=name, **options))

    return read


def fault_of(read, name, data):
    with pytest.raises(BadRow) as refused:
        read(name, data)
    assert str(refused.value).startswith(name)
    return refused.value.code


# --------------------------------------------------------------------------- text


def test_text_has_chapters_and_perhaps_a_title(read):
    text = "劳动合同办法\n\n第一章 总则\n为了规范劳动合同，制定本办法。\n"
    text += "第二章\n第三条规定如下。\n第一节 订立\n应当书面订立。"
    (document,) = read("a.txt", text)
    assert document.title == "劳动合同办法"
    assert document.sections == [
        Section("为了规范劳动合同，制定本办法。", ("第一章 总则",)),
        Section("第三条规定如下。", ("第二章",)),
        Section("应当书面订立。", ("第二章", "第一节 订立")),
    ]


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("退税指南.txt", "在手机上申请退税。", "退税指南"),
        ("readme.txt", "在手机上申请退税。", ""),
        ("a.txt", "苹果\n香蕉\n橘子", ""),
        ("a.txt", "第十三条规定，劳动者应当履行劳动合同。\n\n好。", ""),
    ],
)
def test_a_title_is_not_made_up(read, name, text, title):
    (document,) = read(name, text)
    assert document.title == title
    assert document.text == text


# --------------------------------------------------------------------------- Markdown

MARKDOWN = """---
title: 指南
---
<!-- 不要 -->
开头的[链接](https://example.org)，折行的
中文与
English words.

# 安装

## 步骤

- 下载 `pip`
  - 里层
- 运行

3. 第三
4. 第四

| 名 | 值 |
|---|---|
| a | 1 |

```python
# 不是标题
def f():
    return 1
```

<div>块中<b>文字</b></div>

::: tip
提示 __init__ ![图](a.png)
:::

## 空的
### 卸载
删除 <https://example.org/x>。
"""


def test_markdown_keeps_all_that_is_read(read):
    (document,) = read("a.md", MARKDOWN)
    assert document.title == "指南"
    assert [section.headings for section in document.sections] == [(), ("安装", "步骤"), ("安装", "空的", "卸载")]
    first, steps, last = (section.text for section in document.sections)
    assert first == "开头的链接，折行的中文与English words."
    assert "- 下载 pip\n  - 里层\n- 运行" in steps
    assert "3. 第三\n4. 第四" in steps
    assert "名 | 值\na | 1" in steps
    assert "# 不是标题\ndef f():\n    return 1" in steps
    assert "块中文字" in steps
    assert "提示 __init__" not in steps, "__ is strong emphasis in Markdown"
    assert ":::" not in steps
    assert "图" in steps
    assert last == "删除 https://example.org/x。"


def test_markdown_without_a_title_takes_its_first_outermost_heading(read):
    (document,) = read("a.md", "## 小\n一\n# 大\n二\n# 又\n三")
    assert document.title == "大"


# --------------------------------------------------------------------------- HTML

PAGE = """<!doctype html><html><head><meta charset="{charset}"><title>调整缴存基数 - 某某网</title>
<style>.a{{color:red}}</style><script>var x = "不要";</script></head><body>
<nav><ul><li><a href="1">要闻</a></li><li><a href="2">民生</a></li></ul></nav>
<div><a href="4">首页</a> | <a href="5">新闻频道</a> | <a href="6">财经频道</a></div>
<div class="article"><h1>调整缴存基数</h1>
<p>记者从市住房公积金管理中心获悉，自7月1日起，
本市住房公积金缴存基数上限调整为35283元，<b>咨询电话</b>12329。</p>
<h2>谁来办理</h2><p>由单位经办人在网上统一办理，职工个人无须到场。</p>
<ul><li>登录单位网上业务平台；</li><li>核对上一年度月平均工资；</li></ul>
<h2>缴存比例</h2><table><tr><th>类型</th><th>比例</th></tr><tr><td>基本</td><td>5%至12%</td></tr></table>
<pre>if a &lt; b:
    run()</pre></div>
<div class="related"><h3>相关阅读</h3><ul><li><a href="3">贷款利率下调</a></li></ul></div>
<footer><p>版权所有 某某网</p></footer></body></html>"""


@pytest.mark.parametrize("charset", ["utf-8", "gb18030"])
def test_html_is_its_main_text(read, charset):
    (document,) = read("a.html", PAGE.format(charset=charset).encode(charset))
    assert document.title == "调整缴存基数"
    paths = [section.headings for section in document.sections]
    assert paths == [("调整缴存基数",), ("调整缴存基数", "谁来办理"), ("调整缴存基数", "缴存比例")]
    text = document.text
    assert "自7月1日起，本市住房公积金缴存基数上限调整为35283元，咨询电话12329。" in text
    assert "- 登录单位网上业务平台；\n- 核对上一年度月平均工资；" in text
    assert "类型 | 比例\n基本 | 5%至12%" in text
    assert "if a < b:\n    run()" in text
    for other in ("要闻", "财经频道", "不要", "color", "贷款利率下调", "版权所有"):
        assert other not in text


def test_a_page_of_links_is_still_a_page(read):
    links = "".join(f'<li><a href="{number}">第{number}章的标题</a></li>' for number in range(4))
    (document,) = read("a.html", f"<html><body><ul>{links}</ul></body></html>")
    assert document.text.startswith("- 第0章的标题\n- 第1章")


def test_a_page_of_few_words_is_not_lost(read):
    (document,) = read("a.html", "<html><head><title>通知</title></head><body><div>明天停水。</div></body></html>")
    assert (document.title, document.text) == ("通知", "明天停水。")


# --------------------------------------------------------------------------- PDF and DOCX


def test_pdf_loses_its_running_heads_and_keeps_its_outline(read):
    pages = [
        ["某某公司", f"第{word}部分的正文在这里。", "续", f"第 {n} 页"] for n, word in enumerate("甲乙丙", start=1)
    ]
    pages[1].insert(1, "结 论")
    (document,) = read("a.pdf", pdf(pages, outline=[(1, "结论")]))
    assert [section.headings for section in document.sections] == [(), ("结 论",)]
    assert document.sections[0].text.startswith("第甲部分的正文在这里。")
    assert "某某公司" not in document.text
    assert "页" not in document.text


def test_pdf_faults_are_told_apart(read):
    assert fault_of(read, "a.pdf", b"%PDF-1.4 nonsense") == "broken_pdf"
    assert fault_of(read, "a.pdf", pdf([[]])) == "no_text"
    assert fault_of(read, "a.pdf", pdf([["甲"]], password="secret")) == "locked"


def test_docx_keeps_the_order_of_its_blocks(read):
    (document,) = read("a.docx", handbook())
    assert document.title == "员工手册"
    assert document.sections == [
        Section("公司实行每周五天工作制。\n\n- 病假须附医院证明；\n- 事假须提前申请。", ("员工手册", "第一章 考勤")),
        Section("项目 | 上限\n市内 | 交通 | 一百元\n\n由部门负责人签字。", ("员工手册", "第二章 报销")),
    ]
    assert fault_of(read, "b.docx", b"PK nonsense") == "broken_docx"


# --------------------------------------------------------------------------- rows


def test_rows_of_every_kind_are_documents(read, tmp_path):
    rows = [{"_id": "a", "title": "退税", "text": "在手机上申请。"}, {"_id": "b", "title": "", "text": "三天到账。"}]
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        write_rows(tmp_path / name, rows)
        found = list(read_documents(tmp_path / name, source=name))
        assert [(one.id, one.title, one.text) for one in found] == [
            ("a", "退税", "在手机上申请。"),
            ("b", "", "三天到账。"),
        ]
        assert [one.where for one in found] == [f"{name}:1", f"{name}:2"]
    table = '编号,标题,正文\n1,退税,"在手机上\n申请。"\n'.encode("gb18030")
    (document,) = read("a.csv", table)
    assert (document.title, document.text, document.where) == ("退税", "在手机上\n申请。", "a.csv:3")
    (document,) = read("b.tsv", "别的\t内容\n甲\t乙\n", field="别的")
    assert document.text == "甲"


def test_unusable_rows_stop_or_are_set_aside(read, tmp_path):
    data = '{"text": "甲"}\n{"texts": "乙"}\n{"text": " "}\n'
    with pytest.raises(BadRow, match=r"a\.jsonl:2: has no text under 'text'.*it has texts; name"):
        read("a.jsonl", data)
    rejects = RejectLog(None)
    assert [one.text for one in read("a.jsonl", data, rejects=rejects)] == ["甲"]
    assert rejects.counts == {"no_field": 1, "blank_text": 1}


# --------------------------------------------------------------------------- all


def test_other_files_are_refused_with_what_there_is(read):
    assert fault_of(read, "a.png", b"\x89PNG") == "unknown_format"
    assert fault_of(read, "a.txt", b" \n") == "empty_file"
    assert fault_of(read, "a.md", "<!-- nothing -->") == "no_text"
    assert fault_of(read, "a.html", "<div>" * 5000 + "深") == "too_deep"
    assert all(reader_of(Path(f"A{suffix.upper()}")) is not None for suffix in SUFFIXES)


@pytest.mark.parametrize(("name", "module"), [("a.html", "lxml"), ("a.pdf", "pypdf"), ("a.docx", "docx")])
def test_a_missing_package_is_named_with_its_extra(read, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"needs {module}.*pip install 'zhihui\[corpus\]'"):
        read(name, b"data")
