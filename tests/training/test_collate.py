from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from zhihui.errors import InputError
from zhihui.training.batches import BatchConfig
from zhihui.training.collate import Batches

CONFIG = BatchConfig(size=4, negatives=2)
PLAN = [[0, 5, 10, 15], [20, 25, 30, 35]]


def test_a_batch_has_queries_then_passages_and_says_whose_they_are(model, examples):
    batch = Batches(model, examples, PLAN, CONFIG, seed=0)[0]
    assert batch.rows == PLAN[0]
    assert len(batch.sequences) == 4 + 4 * 3
    assert batch.layout.owner.tolist() == [i for i in range(4) for _ in range(3)]
    assert batch.layout.is_positive.tolist() == [True, False, False] * 4
    queries = model.tokenize([examples[row].query for row in PLAN[0]], role="query")
    assert batch.sequences[:4] == queries
    assert batch.sequences[4] == model.tokenize(examples[0].pos, role="document")[0]
    negatives = model.tokenize(examples[0].neg, role="document")
    assert all(sequence in negatives for sequence in batch.sequences[5:7])


def test_equal_passages_have_equal_keys(model, examples):
    twin = replace(examples[5], pos=[examples[0].pos[0]])
    batch = Batches(model, [examples[0], twin], [[0, 1]], CONFIG, seed=0)[0]
    keys = batch.layout.passage_key.reshape(6, -1)[:, 0]
    assert keys[0] == keys[3]
    assert len(torch.unique(keys)) == 5


def test_an_examples_own_instruction_is_put_before_its_query(model, examples):
    asked = replace(examples[0], prompt="找出说明")
    bare = replace(examples[0], prompt="")
    batch = Batches(model, [asked, bare, examples[0]], [[0, 1, 2]], CONFIG, seed=0)[0]
    assert batch.sequences[0] == model.tokenize([asked.query], role="query", instruction="找出说明")[0]
    assert batch.sequences[1] == model.tokenize([asked.query], role="query", instruction="")[0]
    assert batch.sequences[2] == model.tokenize([asked.query], role="query")[0]
    assert len({tuple(sequence) for sequence in batch.sequences[:3]}) == 3


def test_texts_are_cut_by_role(model, examples):
    prompt = len(model.tokenize([""], role="query")[0])
    config = replace(CONFIG, query_tokens=prompt + 3, passage_tokens=6)
    batch = Batches(model, examples, PLAN, config, seed=0)[0]
    assert max(map(len, batch.sequences[:4])) == prompt + 3
    assert max(map(len, batch.sequences[4:])) == 6
    assert all(sequence[-1] == model.tokenizer.eos_token_id for sequence in batch.sequences)
    with pytest.raises(InputError, match="the prompt"):
        Batches(model, examples, PLAN, replace(CONFIG, query_tokens=3), seed=0)[0]


def test_a_batch_is_the_same_whoever_asks_and_when(model, examples):
    data = Batches(model, examples, PLAN, CONFIG, seed=0)
    first = pickle.dumps(data[1].sequences)
    data[0]
    assert pickle.dumps(data[1].sequences) == first
    assert pickle.dumps(Batches(model, examples, PLAN, CONFIG, seed=0)[1].sequences) == first
    assert pickle.dumps(Batches(model, examples, PLAN, CONFIG, seed=1)[1].sequences) != first
