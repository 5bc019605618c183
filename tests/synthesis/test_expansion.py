from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted, shown

from zhihui.errors import InputError
from zhihui.records import RejectLog
from zhihui.synthesis import ExpandConfig
from zhihui.synthesis.expand import Topic, TopicsWritten, expand, find_span
from zhihui.synthesis.methods import read_book
from zhihui.synthesis.tools import SourcePassage, Tools

FIRST = "押金在退租当天结清，出租人扣除水电费后应当把余款退还承租人。"
SECOND = "家具的自然损耗由出租人承担，\n承租人弄坏的要照价赔偿。"
THIRD = "提前退租要在三十天以前书面告知对方，否则赔一个月房租。"
TEXT = f"{FIRST}\n{SECOND}\n{THIRD}"


def document(text=TEXT, id="d"):
    return SourcePassage(id=id, text=text, where="docs.jsonl:1", source="docs")


def topic(title="押金", spans=(FIRST,), queries=("退房时押金怎么算",)):
    return Topic(title=title, spans=list(spans), queries=list(queries))


def expanded(answer, documents=None, config=None):
    rejects = RejectLog(None)
    teacher = Scripted(expand=answer)
    documents = documents or [document()]
    made = expand(documents, config or ExpandConfig(), Tools(teacher=teacher, book=read_book(None), rejects=rejects))
    return made, rejects.counts, teacher


def test_topics_get_queries_answered_by_their_spans():
    answer = TopicsWritten(
        topics=[topic(), topic("损耗", [SECOND.replace("\n", " ")], ["沙发旧了要租客赔吗", "家具坏了谁出钱"])]
    )
    made, rejected, _ = expanded(lambda ask: answer)
    assert not rejected
    assert [example.query for example in made.examples] == ["退房时押金怎么算", "沙发旧了要租客赔吗", "家具坏了谁出钱"]
    assert [example.pos for example in made.examples] == [[FIRST], [SECOND], [SECOND]]
    assert made.examples[0].meta["spans"] == [[0, len(FIRST)]]
    assert made.examples[0].meta["document"] == "d"
    assert made.counts["coverage"] == round((len(FIRST) + len(SECOND)) / len(TEXT), 4)
    assert (made.counts["topics"], made.counts["topics_used"], made.counts["accepted"]) == (2, 2, 3)
    made, _, _ = expanded(lambda ask: answer, config=ExpandConfig(positive="document"))
    assert made.examples[0].pos == [TEXT]
    assert made.examples[0].meta["pos_ids"] == ["d"]


def test_each_reason_is_counted():
    answer = TopicsWritten(
        topics=[
            topic("编造", ["押金在退租后三天结清，出租人可以不退。"]),
            topic("太短", ["押金在退租当天"]),
            topic("有真有假", [FIRST, "原文没有的一句话在这里出现了。"], ["refund of the deposit", "退房时押金怎么算"]),
            topic("照抄", [THIRD], ["提前退租要在三十天以前书面告知对方吗", "长" * 90, "多出的一条"]),
            topic("重复", [THIRD], ["退房时押金怎么算？"]),
        ]
    )
    made, rejected, _ = expanded(lambda ask: answer)
    assert rejected == Counter(
        span_not_found=2,
        span_too_short=1,
        no_span=2,
        not_chinese=1,
        copied=1,
        query_too_long=1,
        near_duplicate=1,
    )
    assert [example.query for example in made.examples] == ["退房时押金怎么算"]
    assert made.counts["unasked"] == 1


def test_every_document_ends_in_the_examples_or_in_the_log():
    documents = [
        document(id="good"),
        document("\x00\u200b", id="unseen"),
        document("坏" + TEXT, id="refused"),
        document("空" + TEXT, id="empty"),
    ]

    def answer(ask):
        (text,) = shown(ask, "材料")
        return {"坏": "refused", "空": TopicsWritten(topics=[])}.get(text[0]) or TopicsWritten(topics=[topic()])

    made, rejected, _ = expanded(answer, documents)
    assert rejected == Counter(blank_text=1, refused=1, no_topic=1)
    assert made.counts["documents"] == 4
    assert made.counts["documents_used"] == 1


def test_a_long_document_is_read_in_windows_and_spans_keep_their_place():
    parts = [f"第{n}条规定了各种各样的事情，其中最要紧的是第{n}类人的权利和义务。" for n in range(40)]
    whole = "\n".join(parts)

    def answer(ask):
        (text,) = shown(ask, "材料")
        line = text.split("\n")[-1]
        return TopicsWritten(topics=[topic(line[:6], [line], [f"{line.partition('条')[0]}类人能做什么"])])

    made, _, teacher = expanded(answer, [document(whole)], ExpandConfig(window_characters=300, duplicate_at=1.0))
    windows = [shown(ask, "材料")[0] for ask in teacher.asked]
    assert len(windows) > 4
    assert "".join("".join(windows).split()) == "".join(whole.split())
    assert made.counts["windows"] == len(windows) == len(made.examples)
    assert [example.pos[0] for example in made.examples] == [text.split("\n")[-1] for text in windows]
    for example in made.examples:
        ((start, end),) = example.meta["spans"]
        assert whole[start:end] == example.pos[0]


def test_coverage_counts_a_character_once():
    answer = TopicsWritten(topics=[topic(), topic("又是押金", [FIRST[5:]], ["余款什么时候还给租客"])])
    made, _, _ = expanded(lambda ask: answer)
    assert made.counts["coverage"] == round(len(FIRST) / len(TEXT), 4)


@given(st.text(alphabet="甲乙丙 \n", max_size=30), st.data())
def test_a_span_is_found_whatever_its_white_space(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    span = text[start:end]
    found = find_span(text, " \n".join(span))
    if not span.strip():
        assert found is None
    else:
        assert "".join(text[slice(*found)].split()) == "".join(span.split())  # type: ignore[misc]
        assert text[slice(*found)] == text[slice(*found)].strip()  # type: ignore[misc]
    assert find_span(text, span + "丁") is None


def test_settings_out_of_bounds_are_refused():
    for given_, message in (
        ({"topics": 0}, "topics is 0"),
        ({"window_characters": 10}, "window_characters is 10; give at least 100"),
        ({"positive": "all"}, "positive is 'all'; use spans or document"),
        ({"duplicate_at": -1}, "duplicate_at is -1"),
    ):
        with pytest.raises(InputError, match=message):
            ExpandConfig(**given_)
