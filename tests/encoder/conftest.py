from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_folders import decoder_folder, legacy, plain_bert, wrap
from small_models import SENTENCES
from transformers import PreTrainedTokenizerFast

from zhihui.encoder import Encoder, build


@pytest.fixture(scope="session")
def tiny() -> Encoder:
    """An untrained Qwen2 encoder over our own sentences; tests must leave it as they found it."""
    return build("tiny", SENTENCES, seed=7)


@pytest.fixture
def fresh_tiny() -> Encoder:
    """The same, to be changed at will."""
    return build("tiny", SENTENCES, seed=7)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer from a committed file, whose ids therefore never move; it appends nothing."""
    path = Path(__file__).parent / "data" / "tokenizer.json"
    assert json.loads(path.read_text(encoding="utf-8"))["post_processor"] is None
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token=end, pad_token=end)


@pytest.fixture
def bert(tmp_path):
    return wrap(plain_bert(tmp_path / "bert"), legacy("cls_token"))


@pytest.fixture
def qwen2(tmp_path, tokenizer):
    return decoder_folder(tmp_path / "qwen2", tokenizer)
