from __future__ import annotations

import pytest
import torch
from serving_client import serving

from zhihui.encoder import Encoder, build
from zhihui.records import read_rows
from zhihui.records.shipped import STARTER
from zhihui.serving.models import served


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Threads cost more than they bring on matrices this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """An untrained Qwen2 encoder; tests must leave it as they found it."""
    return build("tiny", [row.data["text"] for row in read_rows(STARTER / "corpus.jsonl")], seed=7)


@pytest.fixture(scope="session")
def model(encoder):
    return served([encoder], name="zh")


@pytest.fixture(scope="session")
def url(model):
    """A server of the model under its default settings."""
    with serving(model) as (url, _):
        yield url
