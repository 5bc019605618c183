from __future__ import annotations

import pytest

from zhihui.encoder import Encoder, build
from zhihui.encoder.terms import build as build_terms
from zhihui.quickstart import budget
from zhihui.records import Example


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [
        Example(query=f"第{n}种茶怎么泡", pos=[f"第{n}种茶用热水泡。" * 8], neg=["冷水也行。"] * 2) for n in range(400)
    ]


@pytest.fixture(scope="module")
def model(examples: list[Example]) -> Encoder:
    return build("tiny", [text for e in examples for text in (e.query, *e.pos)], seed=0)


def tokens_of(model: Encoder, examples: list[Example]) -> int:
    passages = [text for e in examples for text in (e.pos[0], *e.neg)]
    queries = [e.query for e in examples]
    ids = model.tokenize(passages, role="document") + model.tokenize(queries, role="query")
    return sum(map(len, ids))


def test_what_fits_is_trained_on_whole_and_several_times(model, examples):
    whole = tokens_of(model, examples)
    assert budget.choose(model, examples, tokens=3 * whole, seed=0) == examples
    config = budget.settings(model, examples, tokens=3 * whole, seed=0)
    assert config.epochs == 3
    assert config.batches.size == 50
    assert budget.settings(model, examples, tokens=100 * whole, seed=0).epochs == 4


def test_what_does_not_fit_is_drawn_by_the_seed(model, examples):
    whole = tokens_of(model, examples)
    chosen = budget.choose(model, examples, tokens=whole // 2, seed=0)
    assert 190 <= len(chosen) <= 210
    assert chosen == budget.choose(model, examples, tokens=whole // 2, seed=0)
    assert chosen != budget.choose(model, examples, tokens=whole // 2, seed=1)
    places = [examples.index(example) for example in chosen]
    assert places == sorted(places)
    assert budget.settings(model, chosen, tokens=whole // 2, seed=0).epochs == 1


def test_a_small_set_gets_small_batches_and_few_evaluations(model, examples):
    config = budget.settings(model, examples[:40], tokens=10**6, seed=0)
    assert config.batches.size == 5
    assert config.eval_steps == 7
    assert config.save_steps == 3


def test_a_model_of_terms_takes_larger_steps_and_others_do_not(model, examples):
    terms = build_terms([text for e in examples[:50] for text in (e.query, *e.pos)], seed=0)
    own, others = (budget.settings(each, examples, tokens=10**5, seed=0) for each in (terms, model))
    assert (own.learning_rate, own.weight_decay, own.loss.temperature) == (2e-3, 0.0, 0.02)
    assert (others.learning_rate, others.weight_decay, others.loss.temperature) == (3e-4, 0.01, 0.05)
