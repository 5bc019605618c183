"""A mirror of C-MTEB's data sets with a few rows each, in the layouts in which the hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zhihui.evaluation.cmteb import tasks
from zhihui.records import write_rows

PASSAGES = {
    "1": "银杏叶子在深秋变黄，公园里到处都是拍照的游客。",
    "2": "自行车链条生锈以后，可以先用除锈剂清洗再上油。",
    "3": "豆浆要煮沸五分钟以上才能喝，没有煮熟会引起恶心。",
    "4": "护照到期前半年就可以去出入境大厅申请换发。",
    "5": "豆浆煮多久才能喝",
}
QUERIES = {"5": "豆浆煮多久才能喝", "6": "护照快到期了怎么换发", "7": "链条生锈怎么处理", "8": "没有人问的问题"}
"""Query 5 and passage 5 have one id and one text: in some tasks mteb drops the passage from what is found."""
QRELS = [("5", "3", 1), ("6", "4", 1), ("7", "2", 1), ("7", "1", 1)]


def older(mirror: Path, name: str, *, corpus: Any = None, qrels: Any = None, shards: int = 2) -> Path:
    """Write a task as C-MTEB published it: Parquet below data/, the judgements in a data set of their own."""
    rows = [{"id": key, "text": text} for key, text in (PASSAGES if corpus is None else corpus).items()]
    size = -(-len(rows) // shards) or 1
    for number in range(shards):
        part = rows[number * size : (number + 1) * size]
        write_rows(mirror / name / "data" / f"corpus-{number:05d}-of-{shards:05d}-0a1b2c3d4e5f6a7b.parquet", part)
    write_rows(
        mirror / name / "data" / "queries-00000-of-00001-0a1b2c3d4e5f6a7b.parquet",
        ({"id": key, "text": text} for key, text in QUERIES.items()),
    )
    judged = [{"qid": query, "pid": passage, "score": score} for query, passage, score in qrels or QRELS]
    write_rows(mirror / f"{name}-qrels" / "data" / "dev-00000-of-00001-0a1b2c3d4e5f6a7b.parquet", judged)
    return mirror


def newer(mirror: Path, name: str, *, form: str = "parquet", corpus: Any = None, qrels: Any = None) -> Path:
    """Write a task as mteb publishes it: the configs corpus, queries and default (the judgements) in one folder."""
    passages = [
        {"_id": key, "title": "", "text": text} for key, text in (PASSAGES if corpus is None else corpus).items()
    ]
    queries = [{"_id": key, "text": text} for key, text in QUERIES.items()]
    judged = [{"query-id": q, "corpus-id": p, "score": float(score)} for q, p, score in qrels or QRELS]
    folder = mirror / name
    if form == "parquet":
        write_rows(folder / "corpus" / "dev-00000-of-00001.parquet", passages)
        write_rows(folder / "queries" / "dev-00000-of-00001.parquet", queries)
        write_rows(folder / "data" / "dev-00000-of-00001.parquet", judged)
    else:
        write_rows(folder / "corpus.jsonl", passages)
        write_rows(folder / "queries.jsonl", queries)
        write_rows(folder / "qrels" / "dev.jsonl", judged)
    return mirror


def all_tasks(mirror: Path) -> Path:
    """Write the eight tasks, by turns in one layout and the other."""
    for number, name in enumerate(tasks()):
        older(mirror, name) if number % 2 else newer(mirror, name, form="jsonl" if number % 4 else "parquet")
    return mirror
