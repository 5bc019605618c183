from __future__ import annotations

import sys

import pytest

from zhihui.errors import MissingExtra
from zhihui.ranking import folding, segment, segment_all

GOLDEN = {
    "我们在图书馆里学习机器翻译。": ["我们", "在", "图书馆", "里", "学习", "机器翻译"],
    "我們在圖書館裡學習機器翻譯。": ["我们", "在", "图书馆", "里", "学习", "机器翻译"],
    "頭髮乾燥怎麼辦？": ["头发", "干燥", "怎么办"],
    "用ｉＰｈｏｎｅ１５拍照，ISO 200、快门1/60秒": [
        *("用", "iphone15", "拍照", "iso", "200", "快门", "1", "60", "秒"),
    ],
    "把YAML文件放进 docker-compose 目录__里面！！": [
        "把",
        "yaml",
        "文件",
        "放进",
        "docker-compose",
        "目录",
        "里面",
    ],
    "龙芯3A6000的SPEC跑分是43.1": ["龙芯", "3a6000", "的", "spec", "跑", "分", "是", "43.1"],
    "①号线\u3000地鐵": ["1", "号线", "地铁"],
    "🙂……——": [],
    " \n": [],
    "": [],
}


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_words(text):
    assert segment(text) == GOLDEN[text]


def test_all_texts_in_their_order():
    assert segment_all(iter(GOLDEN)) == list(GOLDEN.values())
    assert segment_all([]) == []


@pytest.mark.parametrize("module", ["rjieba", "opencc"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, module):
    folding._simplifier.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{module}.*pip install 'zhihui\[mine\]'"):
        segment("红茶")
