"""From a folder of documents to a corpus: what is written, kept, set aside, and found again after a kill."""

from __future__ import annotations

import json

import pytest
from documents import handbook, pdf

from zhihui.corpus import ChunkConfig, reading
from zhihui.corpus.document import Document, Section
from zhihui.corpus.lengths import Characters
from zhihui.corpus.passages import clean, cut, same_as
from zhihui.corpus.stage import CORPUS, DOCUMENTS, chunk_files
from zhihui.errors import InputError
from zhihui.recipe import make_plan, read_recipe, run_recipe
from zhihui.records import REJECTED, read_rows

LAW = "起诉应当向人民法院递交起诉状，并按照被告人数提出副本。书写起诉状确有困难的，可以口头起诉。"


def rows(path):
    return [row.data for row in read_rows(path)]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a.txt").write_text("看不见的文件里有一些字。")
    (root / "b.md").write_text(f"# 诉讼\n\n## 起诉\n\n{LAW}\n\n## 受理\n\n法院应当在七日内立案。\n")
    (root / "sub" / "a.txt").write_bytes(f"{LAW}\r\n".encode("gb18030"))
    (root / "手册.docx").write_bytes(handbook())
    (root / "c.pdf").write_bytes(pdf([["人民法院收到起诉状以后应当及时审查。"]]))
    (root / "d.jsonl").write_text('{"_id": "r1", "title": "退税", "text": "在手机上可以申请退税。"}\n{"text": 3}\n')
    (root / "e.png").write_bytes(b"\x89PNG")
    return root


def test_a_folder_becomes_a_corpus(folder, tmp_path):
    out = tmp_path / "out"
    manifest = chunk_files(folder, out, ChunkConfig(size=64, overlap=0))
    corpus, documents = rows(out / CORPUS), {row["_id"]: row for row in rows(out / DOCUMENTS)}
    assert len({row["_id"] for row in corpus}) == len(corpus) == manifest.counts["passages"]
    for row in corpus:
        place = row["metadata"]
        assert documents[place["document"]]["text"][place["start"] : place["end"]] == row["text"]
    first = corpus[0]
    assert first["title"] == "诉讼 > 起诉"
    assert first["metadata"]["headings"] == ["诉讼", "起诉"]
    assert first["metadata"]["source"] == "b.md"
    sources = [row["metadata"]["source"] for row in corpus]
    assert sources == sorted(sources)
    assert {"b.md", "c.pdf", "d.jsonl", "手册.docx"} == set(sources), "sub/a.txt says nothing new"
    (row,) = [row for row in corpus if row["metadata"]["source"] == "d.jsonl"]
    assert row["metadata"]["id"] == "r1"
    assert manifest.counts["rejected"] == {"duplicate": 1, "no_field": 1, "unknown_format": 1}
    assert {each["reason"] for each in rows(out / REJECTED)} == {"duplicate", "no_field", "unknown_format"}
    assert sum(manifest.counts["scripts"].values()) == len(corpus)
    assert sorted(path.name for path in out.iterdir()) == [CORPUS, DOCUMENTS, "manifest.json", REJECTED]


def test_the_same_folder_gives_the_same_bytes_and_is_not_read_twice(folder, tmp_path, monkeypatch):
    for name in ("one", "two"):
        chunk_files(folder, tmp_path / name, ChunkConfig())
    for file in (CORPUS, DOCUMENTS, REJECTED):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    monkeypatch.setattr(reading, "read_documents", None)
    assert chunk_files(folder, tmp_path / "one", ChunkConfig()).reused


def test_a_killed_run_goes_on_from_the_files_it_had_read(folder, tmp_path, monkeypatch):
    chunk_files(folder, tmp_path / "whole", ChunkConfig())
    monkeypatch.setattr(reading, "_FILES_A_PART", 2)
    true, read = reading.read_documents, []

    def dies(path, **options):
        read.append(path.name)
        if path.name == "手册.docx":
            raise KeyboardInterrupt
        yield from true(path, **options)

    monkeypatch.setattr(reading, "read_documents", dies)
    with pytest.raises(KeyboardInterrupt):
        chunk_files(folder, tmp_path / "out", ChunkConfig())
    assert not (tmp_path / "out").exists()
    assert read == ["b.md", "c.pdf", "d.jsonl", "e.png", "a.txt", "手册.docx"]
    read.clear()
    monkeypatch.setattr(reading, "read_documents", lambda path, **o: read.append(path.name) or true(path, **o))
    chunk_files(folder, tmp_path / "out", ChunkConfig())
    assert read == ["a.txt", "手册.docx"], "the part that was cut short, and no other"
    for file in (CORPUS, DOCUMENTS, REJECTED):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_headers_and_footers_of_files_go(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for number, subject in enumerate(("合同", "侵权", "继承", "婚姻")):
        lines = f"某某律师事务所\n{subject}纠纷由人民法院依照本法审理。\n\n电话 1234{number}\n"
        (docs / f"{number}.txt").write_text(lines)
    kept = chunk_files(docs, tmp_path / "kept", ChunkConfig(repeated=1))
    assert kept.counts["boilerplate"] == []
    assert "电话" in rows(tmp_path / "kept" / CORPUS)[0]["text"]
    manifest = chunk_files(docs, tmp_path / "out", ChunkConfig())
    assert manifest.counts["boilerplate"] == ["电话 #"], "a title line is no text"
    assert rows(tmp_path / "out" / CORPUS)[0]["text"] == "合同纠纷由人民法院依照本法审理。"


def test_filters_say_why(tmp_path):
    data = tmp_path / "rows.jsonl"
    texts = [
        "为了规范电信业务的发展，制定本办法。",
        "為了規範電信業務的發展，制定本辦法。",
        "Only English words here.",
        "短",
    ]
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = ChunkConfig(min_chinese=0.5, script="simplified", least=8)
    chunk_files(data, tmp_path / "out", config)
    assert [row["text"] for row in rows(tmp_path / "out" / CORPUS)] == texts[:1]
    reasons = {row["row"]["text"]: row["reason"] for row in rows(tmp_path / "out" / REJECTED)}
    assert reasons == {texts[1]: "other_script", texts[2]: "little_chinese", texts[3]: "too_short"}
    chunk_files(data, tmp_path / "folded", ChunkConfig(fold="traditional"))
    assert rows(tmp_path / "folded" / CORPUS)[0]["text"] == texts[1]


def test_of_passages_that_say_the_same_the_first_is_kept():
    long = "为了规范电信业务的发展和管理，促进电信业务健全发展，特制定本办法，自公布之日起施行。"
    assert same_as("甲", long) == same_as("乙", long.replace("，", ", ").upper())
    assert same_as("副作用", "无") != same_as("禁忌", "无")
    assert same_as("禁忌", "无") == same_as("禁忌", "无。")


def test_a_title_counts_towards_the_size():
    title = "标题" * 5
    document = Document(source="a", where="a", title=title, sections=[Section("句子有六字。" * 20)])
    cleaned = clean(document, ChunkConfig(size=40, overlap=0))
    found = [row for _, row in cut(cleaned, ChunkConfig(size=40, overlap=0), Characters())]
    assert max(len(f"{row['title']} {row['text']}") for row in found) == 35
    long = Document(source="a", where="a", title="长" * 60, sections=document.sections)
    assert max(len(row["text"]) for _, row in cut(long, ChunkConfig(size=40), Characters())) == 18


def test_a_retrieval_set_gives_its_corpus_alone(tmp_path):
    (tmp_path / "set" / "qrels").mkdir(parents=True)
    (tmp_path / "set" / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "在手机上可以申请退税。"}\n')
    (tmp_path / "set" / "queries.jsonl").write_text('{"_id": "q", "text": "怎么退税怎么退税"}\n')
    assert chunk_files(tmp_path / "set", tmp_path / "out", ChunkConfig()).counts["documents"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 8}, "size 8 is too small"),
        ({"overlap": -1}, "overlap -1 is negative"),
        ({"min_chinese": 2}, "min_chinese 2 is out of range"),
        ({"repeated": 0}, "repeated 0 is out of range"),
        ({"fold": "latin"}, "fold 'latin' is unknown; choose none, simplified or traditional"),
        ({"script": "simplified", "fold": "traditional"}, "script and fold exclude each other"),
        ({"least": 0}, "least 0 is too small"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        ChunkConfig(**settings)


def test_a_file_that_cannot_be_opened_is_set_aside(folder, tmp_path):
    for name in ("x.txt", "y.jsonl", "z.csv"):
        (folder / name).symlink_to(tmp_path / "absent")
    manifest = chunk_files(folder, tmp_path / "out", ChunkConfig())
    assert manifest.counts["rejected"]["unreadable"] == 3


def test_what_cannot_be_done_leaves_nothing(folder, tmp_path):
    with pytest.raises(InputError, match="lies within"):
        chunk_files(folder, folder / "out", ChunkConfig())
    with pytest.raises(InputError, match=r"no passage is left of 1 files \(1 unknown_format\)"):
        chunk_files(folder / "e.png", tmp_path / "out", ChunkConfig())
    with pytest.raises(InputError, match="no such model folder"):
        chunk_files(folder, tmp_path / "out", ChunkConfig(), model="./absent")
    with pytest.raises(InputError, match="no such file or folder"):
        chunk_files(tmp_path / "absent", tmp_path / "out", ChunkConfig())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs"]


def test_a_recipe_takes_a_corpus_from_the_stage(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "run.yaml"
    recipe.write_text(
        "about: a corpus\nstages:\n  chunk: {data: docs, size: 64}\n"
        "  mine: {data: $starter, split: test, corpus: $chunk, miners: ['random:2']}\n"
    )
    found = read_recipe(recipe)
    assert make_plan(found, tmp_path / "run").missing == []
    run_recipe(found, tmp_path / "run", until="chunk")
    assert (tmp_path / "run" / "chunk" / CORPUS).is_file()
    recipe.write_text("about: a corpus\nstages:\n  chunk: {data: docs}\n  train: {data: $chunk, model: org/m}\n")
    with pytest.raises(InputError, match="passages"):
        read_recipe(recipe)
