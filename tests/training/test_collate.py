from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from zhihui.errors import InputError
from zhihui.training.batches import BatchConfig, SetConfig
from zhihui.training.collate import Batches, deal
from zhihui.training.loss import equality_keys
from zhihui.training.processes import Processes

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


def test_each_process_has_its_share_and_the_layout_of_all(model, examples):
    rows = list(range(0, 32, 4))
    alone = Batches(model, examples, [rows], CONFIG, seed=0)[0]
    parts = [Batches(model, examples, [rows], CONFIG, seed=0, processes=Processes(rank, 2))[0] for rank in range(2)]
    first, second = parts
    assert first.queries == second.queries == [4, 4]
    assert first.rows == second.rows
    assert sorted(first.rows) == rows
    for name in ("owner", "is_positive", "passage_key", "query_key"):
        assert torch.equal(getattr(first.layout, name), getattr(second.layout, name))
    queries, passages = ([*first.sequences[part], *second.sequences[part]] for part in (slice(4), slice(4, None)))
    assert sorted(queries) == sorted(alone.sequences[:8])
    assert [len(part.sequences) - 4 for part in parts] == first.passages
    # Brought into the plan's order, passages and keys are those of one process.
    assert [passages[i] for i in first.planned.tolist()] == alone.sequences[8:]
    assert torch.equal(first.own_keys[first.planned], alone.own_keys)


def test_rows_are_dealt_evenly_by_number_and_nearly_by_cost():
    costs = [100, 1, 1, 1, 50, 50, 1, 1]
    dealt = deal(costs, 2)
    assert sorted([*dealt[0], *dealt[1]]) == list(range(8))
    assert [len(hand) for hand in dealt] == [4, 4]
    assert all(hand == sorted(hand) for hand in dealt)
    totals = [sum(costs[i] for i in hand) for hand in dealt]
    assert max(totals) - min(totals) <= 2
    assert deal(costs, 1) == [list(range(8))]


def test_a_positive_that_was_not_drawn_is_known_too(model, examples):
    """In a memory, or as another query's negative, it would be taken for a negative."""
    two = replace(examples[0], pos=[examples[0].pos[0], "另一个好答案。"])
    asks = replace(examples[5], neg=["另一个好答案。"])
    batch = Batches(model, [two, asks], [[0, 1]], CONFIG, seed=0)[0]
    keys = batch.layout.passage_key
    drawn, other = keys[0], keys[-1]
    assert keys.shape == (5, 2)
    assert set(drawn.tolist()) == set(equality_keys(two.pos).tolist())
    assert other.tolist() == equality_keys(["另一个好答案。"] * 2).tolist()


def test_what_is_different_for_a_data_set(model, examples):
    config = replace(CONFIG, sets={"购买": SetConfig(negatives=1, instruction="找价钱", loss_weight=2.0)})
    asked = [replace(examples[2], prompt="自己的"), examples[3], examples[6]]
    batch = Batches(model, asked, [[0, 1, 2]], config, seed=0)[0]
    assert batch.source == "购买"
    assert batch.slot.tolist() == [-1, 0] * 3
    assert batch.layout.query_weight.tolist() == [2.0] * 3
    for place, instruction in enumerate(["自己的", "找价钱", "找价钱"]):
        expected = model.tokenize([asked[place].query], role="query", instruction=instruction)[0]
        assert batch.sequences[place] == expected
    assert Batches(model, examples, PLAN, CONFIG, seed=0)[0].layout.query_weight is None


def test_grades_stand_beside_their_passages(model, examples):
    graded = replace(examples[0], pos_scores=[5.0], neg_scores=[1.0, 2.0, 3.0])
    data = Batches(model, [graded, examples[5]], [[0, 1]], CONFIG, seed=0, graded=True)
    batch = data[0]
    grades = dict(zip(graded.neg, graded.neg_scores, strict=True))
    expected = {tuple(model.tokenize([text], role="document")[0]): grade for text, grade in grades.items()}
    assert batch.layout.grade[0] == 5.0
    assert [expected[tuple(sequence)] for sequence in batch.sequences[3:5]] == batch.layout.grade[1:3].tolist()
    assert batch.layout.grade[3:].isnan().all()
