from __future__ import annotations

import json

import pytest
from serving_client import serving
from serving_models import PASSAGES

from zhihui.encoder import Encoder, build
from zhihui.encoder.export import export
from zhihui.records import read_rows
from zhihui.records.shipped import STARTER
from zhihui.search import update_index
from zhihui.serving.models import served


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """An untrained Qwen2 encoder; tests must leave it as they found it."""
    return build("tiny", [row.data["text"] for row in read_rows(STARTER / "corpus.jsonl")], seed=7)


@pytest.fixture(scope="session")
def model(encoder):
    return served([encoder], name="zh")


@pytest.fixture(scope="session")
def other_model(encoder):
    """Another model with the tokenizer of the first."""
    texts = [row.data["text"] for row in read_rows(STARTER / "corpus.jsonl")]
    return served([build("tiny", texts, seed=8)], name="other")


@pytest.fixture(scope="session")
def write_index(tmp_path_factory):
    """Write an index of rows by a model, or bring the one in a folder up to date."""

    def write(model, rows=PASSAGES, folder=None, **options):
        root = tmp_path_factory.mktemp("index")
        source = root / "rows.jsonl"
        source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        export(model.encoder, root / "model")
        folder = folder or root / "index"
        update_index([source], folder, model=str(root / "model"), encoder=model.encoder, **options)
        return folder

    return write


@pytest.fixture(scope="session")
def index_folder(model, write_index):
    return write_index(model)


@pytest.fixture(scope="session")
def search_url(model, index_folder):
    """A server of the model and an index called docs."""
    with serving(model, indexes={"docs": index_folder}) as (url, _):
        yield url


@pytest.fixture(scope="session")
def url(model):
    """A server of the model under its default settings."""
    with serving(model) as (url, _):
        yield url
