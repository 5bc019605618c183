"""Calibration of a model of terms: its scores are those of a model so weighed, its choice the best."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zhihui
from zhihui.encoder.stage import BuildConfig, build_files
from zhihui.errors import InputError
from zhihui.evaluation import DenseSystem, evaluate
from zhihui.evaluation.calibration import CalibrationConfig, _ndcg, _sure_gain, calibrate
from zhihui.evaluation.calibration_stage import calibrate_files
from zhihui.evaluation.metrics import score_run
from zhihui.quickstart.data import read_set
from zhihui.records import RetrievalSet, write_beir

GRID = CalibrationConfig(shares=(0.05, 0.4), saturations=(0.5, 4.0), lengths=(0.3, 3.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the shipped set, `set`, and an untrained model of terms of it, `start/model`."""
    folder = tmp_path_factory.mktemp("calibration")
    write_beir(folder / "set", read_set(None, seed=0))
    build_files(folder / "set", folder / "start", BuildConfig(shape="terms"))
    return folder


@pytest.fixture(scope="module")
def starter():
    return read_set(None, seed=0)


def load(folder):
    return zhihui.load(str(folder / "start" / "model"))


def each(encoder, data, split="dev"):
    """Return the nDCG@10 of each query."""
    (result,) = evaluate(data, split, [DenseSystem(encoder, name="m")], k=100).systems
    return result.scores["ndcg_at_10"]


def sure(gains):
    return gains.mean() - statistics.stdev(gains.tolist()) / math.sqrt(len(gains))


def test_the_best_of_all_combinations_is_chosen_and_scores_what_a_model_so_weighed_scores(folder, starter):
    encoder = load(folder)
    own = encoder.backbone.config
    passages = [passage.full for passage in starter.corpus.values()]
    tried = {}
    for saturation in (own.saturation, *GRID.saturations):
        naive = load(folder)
        naive.backbone.config.saturation = saturation
        found = naive.encode(passages, role="document").astype(np.float64)[:, own.semantic_size :]
        tangent = np.linalg.norm(found[:, 1:], axis=1) / found[:, 0]
        usual = float(np.median(tangent)) * math.exp(float(own_length(encoder)))
        for length in (math.exp(float(own_length(encoder))), *(factor * usual for factor in GRID.lengths)):
            naive.backbone.length.fill_(math.log(length))
            for share in (own.semantic_share, *GRID.shares):
                naive.backbone.config.semantic_share = share
                tried[share, saturation, round(length, 3)] = each(naive, starter)
    assert len(tried) == 27
    first = next(iter(tried.values()))
    gains = {key: sure(scores - first) for key, scores in tried.items()}
    best = max(gains, key=gains.__getitem__)
    assert gains[best] > 0, "there must be something to choose"

    found = calibrate(encoder, starter, "dev", GRID)
    assert found.before.ndcg_at_10 == pytest.approx(first.mean(), abs=1e-6)
    assert (found.after.share, found.after.saturation, round(found.after.length, 3)) == best
    assert found.after.ndcg_at_10 == pytest.approx(tried[best].mean(), abs=1e-6)
    assert each(encoder, starter) == pytest.approx(tried[best], abs=1e-6), "the model is left so weighed"
    assert found.queries == len(starter.judged("dev"))
    assert found.passages == len(starter.corpus)


def own_length(encoder):
    return encoder.backbone.length.clone()


def test_a_gain_counts_less_one_standard_error():
    assert _sure_gain(np.array([0.0, 1.0])) == pytest.approx(0.5 - math.sqrt(0.5) / math.sqrt(2))
    assert _sure_gain(np.array([0.2, 0.2, 0.2])) == pytest.approx(0.2)


def test_what_a_single_query_says_is_not_believed(folder, starter):
    encoder, config = load(folder), CalibrationConfig(queries=1)
    found = calibrate(encoder, starter, "dev", config)
    assert (found.before, found.queries) == (found.after, 1)


def test_of_equals_the_own_weighing_is_kept(folder, starter):
    encoder, before = load(folder), load(folder).fingerprint
    # One passage in all: any weighing finds it first.
    passage = next(iter(starter.judged("dev").values()))
    key = next(iter(passage))
    alone = RetrievalSet(
        name="one", corpus={key: starter.corpus[key]}, queries={"q": "水"}, qrels={"dev": {"q": {key: 1}}}
    )
    found = calibrate(encoder, alone, "dev", GRID)
    assert found.before == found.after
    assert encoder.fingerprint == before


def test_only_some_queries_and_passages_are_used_when_so_asked(folder, starter):
    config = CalibrationConfig(shares=(0.3,), saturations=(1.0,), lengths=(1.0,), queries=7, passages=50)
    found = calibrate(load(folder), starter, "dev", config)
    wanted = {key for grades in list(starter.judged("dev").values())[:7] for key in grades}
    assert found.queries == 7
    assert len(wanted) <= found.passages <= len(wanted) + 50
    assert found.passages > len(wanted) + 25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": ()}, "shares .* one or more"),
        ({"shares": (0.0,)}, "at least 0.01"),
        ({"shares": (1.5,)}, "at most 1"),
        ({"lengths": (math.inf,)}, "lengths"),
        ({"lengths": (0.0,)}, "lengths"),
        ({"saturations": (-1.0,)}, "saturations"),
        ({"queries": 0}, "queries 0"),
        ({"passages": 0}, "passages 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        CalibrationConfig(**settings)


def test_what_cannot_be_calibrated_is_refused(folder, starter, tmp_path):
    with pytest.raises(InputError, match="no split 'nowhere'"):
        calibrate(load(folder), starter, "nowhere", GRID)
    nothing = RetrievalSet(name="none", corpus=starter.corpus, queries={"q": "水"}, qrels={"dev": {"q": {"p": 0}}})
    with pytest.raises(InputError, match="no query of dev has a relevant passage"):
        calibrate(load(folder), nothing, "dev", GRID)
    unmarked = load(folder)
    unmarked.settings = replace(unmarked.settings, prompts={})
    with pytest.raises(InputError, match="does not mark passages"):
        calibrate(unmarked, starter, "dev", GRID)
    layered = BuildConfig(shape="tiny", vocabulary=300).build(["春天的花开在山坡上。"] * 40)
    with pytest.raises(InputError, match="only models of terms are calibrated"):
        calibrate(layered, starter, "dev", GRID)


@given(st.data())
def test_ndcg_is_that_of_the_metrics(data):
    queries, passages = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 30))
    numbers = st.lists(st.integers(0, 10**6), min_size=passages, max_size=passages, unique=True)
    scores = np.array([data.draw(numbers) for _ in range(queries)], dtype=np.float32)
    judged = [
        data.draw(st.dictionaries(st.integers(0, passages - 1), st.integers(1, 3), min_size=1)) for _ in range(queries)
    ]
    triples = [(row, column, float(grade)) for row, grades in enumerate(judged) for column, grade in grades.items()]
    found = _ndcg(scores, tuple(map(np.array, zip(*triples, strict=True))))
    qrels = {str(row): {str(c): grade for c, grade in grades.items()} for row, grades in enumerate(judged)}
    run = {str(row): {str(c): float(scores[row, c]) for c in range(passages)} for row in range(queries)}
    expected = [one["ndcg_at_10"] for one in score_run(qrels, run).values()]
    assert found == pytest.approx(expected, abs=1e-9)


# --------------------------------------------------------------------------- as a stage


def test_the_stage_writes_a_model_that_is_so_weighed_and_is_done_once(folder, starter, tmp_path):
    manifest = calibrate_files(folder / "set", load(folder), tmp_path / "out", GRID, split="dev")
    counts = manifest.counts
    assert counts["after"]["ndcg_at_10"] > counts["before"]["ndcg_at_10"]
    written = zhihui.load(str(tmp_path / "out" / "model"))
    assert written.backbone.config.semantic_share == counts["after"]["share"]
    assert written.backbone.config.saturation == counts["after"]["saturation"]
    assert math.exp(float(written.backbone.length)) == pytest.approx(counts["after"]["length"], rel=1e-5)
    assert each(written, starter).mean() == pytest.approx(counts["after"]["ndcg_at_10"], abs=1e-6)
    weights, kept = load(folder).backbone.weight, written.backbone.weight
    assert torch.equal(weights, kept), "calibration trains nothing"
    again = calibrate_files(folder / "set", load(folder), tmp_path / "out", GRID, split="dev")
    assert again == manifest
