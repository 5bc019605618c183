"""Ablations: differences that can be worked out by hand, what is not finished, and a page true to the numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from pages import Page
from run_folders import write_run

from zhihui.errors import InputError
from zhihui.evaluation.ablation import Plan, measure_ablation
from zhihui.evaluation.ablation_stage import ablation_files, headline
from zhihui.runs import read_json

MANY = 40


def measured(tmp_path, name, alpha, beta, **options):
    scores = {"alpha": {"model": alpha}, "beta": {"model": beta}}
    return write_run(tmp_path / name, scores, fingerprints={"model": name}, **options)


@pytest.fixture
def plan(tmp_path):
    """Two seeds of a baseline and of four variants, one of which is not finished at all and one with a seed only."""
    baseline = [measured(tmp_path, f"b{seed}", [0.4] * MANY, [0.2, 0.6] * 10) for seed in (0, 1)]
    better = [measured(tmp_path, f"x{seed}", [0.5 + 0.1 * seed] * MANY, [0.2, 0.6] * 10) for seed in (0, 1)]
    mixed = [measured(tmp_path, f"y{seed}", [0.4] * MANY, [0.2, (0.9, 0.5)[seed]] * 10) for seed in (0, 1)]
    worse = measured(tmp_path, "z0", [0.3] * MANY, [0.1, 0.5] * 10)
    return Plan(
        baseline=baseline,
        variants={"batch/512": better, "batch/<32>": mixed, "memory/on": [worse, None], "memory/off": [None, None]},
        changes={"batch/512": ["train.batches.size: 512"]},
    )


def test_differences_are_paired_seed_by_seed_and_sets_count_the_same(plan):
    found = measure_ablation(plan)
    assert (found.sets, found.queries) == (["alpha", "beta"], [MANY, 20])
    assert found.baseline.average.value == pytest.approx(0.4)
    better, mixed, worse = found.effects
    assert better.average.value == pytest.approx((0.15 + 0) / 2)
    assert better.seeds == pytest.approx([0.05, 0.1])
    assert [one.value for one in better.per_set] == pytest.approx([0.15, 0.0])
    assert better.level.average.value == pytest.approx(0.475)
    assert better.average.low == better.average.high == better.average.value, "every query of a set gains the same"
    assert mixed.seeds == pytest.approx([0.075, -0.025])
    assert worse.seeds == pytest.approx([-0.1])
    assert found.missing == ["memory/off"]


def test_a_verdict_wants_the_interval_and_every_seed(plan):
    better, mixed, worse = measure_ablation(plan).effects
    assert mixed.average.low > 0, "by the interval alone it would be better"
    assert [one.verdict for one in (better, mixed, worse)] == ["better", "unclear", "worse"]


def test_a_seed_that_the_baseline_lacks_does_not_count(plan):
    found = measure_ablation(Plan(baseline=[None, plan.baseline[1]], variants=plan.variants, changes={}))
    assert [one.seeds for one in found.effects] == [pytest.approx([0.1]), pytest.approx([-0.025])]
    assert found.missing == ["memory/on", "memory/off"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": [None, None]}, "no seed of the baseline is measured yet"),
        ({"sets": {"alpha": "other texts"}}, "z: alpha was not measured as in"),
        ({"queries": MANY - 1}, "z: alpha was not measured as in"),
        ({"systems": ("bm25", "model")}, r"z: measured several systems \(bm25, model\); name one model"),
    ],
    ids=["no-baseline", "other-texts", "other-queries", "two-systems"],
)
def test_what_cannot_be_compared_is_refused(tmp_path, plan, change, message):
    systems = change.get("systems", ("model",))
    scores = {
        name: {system: [0.5] * count for system in systems}
        for name, count in (("alpha", change.get("queries", MANY)), ("beta", 20))
    }
    other = write_run(tmp_path / "z", scores, sets=change.get("sets"))
    baseline = change.get("baseline", plan.baseline)
    with pytest.raises(InputError, match=message):
        measure_ablation(Plan(baseline=baseline, variants={"a/b": [other, other]}, changes={}))


# --------------------------------------------------------------------------- files


def test_table_and_headline_say_what_was_found(plan, tmp_path):
    counts = ablation_files(plan, tmp_path / "out").counts
    assert counts == {"variants": 3, "unfinished": 1, "seeds": 2, "sets": 2, "queries": MANY + 20}
    lines = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    assert lines[2] == "| baseline |  | 40.00 |  |  | 40.00 to 40.00 |  | 40.0 | 40.0 |"
    assert lines[3] == ("| batch | 512 | 47.50 | +7.50 | +7.50 to +7.50 | +5.00 to +10.00 | better | +15.00 | +0.00 |")
    assert lines[-1] == "Not finished: memory/off."
    said = headline(measure_ablation(plan))
    assert said == (
        "Better than the baseline: batch 512 (+7.50). Worse: memory on (−10.00). 1 of 3 variants shows nothing."
    )
    assert [one["verdict"] for one in read_json(tmp_path / "out" / "results.json")["effects"]] == [
        "better",
        "unclear",
        "worse",
    ]


def test_the_page_says_all_and_fetches_nothing(plan, tmp_path):
    ablation_files(plan, tmp_path / "out")
    source = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    for part in ("batch: <32>", "train.batches.size: 512", "nothing shown", "Not finished: memory/off", "47.50"):
        assert part in page.text
    assert page.addresses == []
    assert not re.search(r"url\(|@import|https?://|<script", source)


def test_the_forest_is_drawn_to_scale(plan, tmp_path):
    ablation_files(plan, tmp_path / "out")
    svg = ElementTree.fromstring((tmp_path / "out" / "forest.svg").read_text(encoding="utf-8"))
    name = "{http://www.w3.org/2000/svg}"
    ticks = [each for each in svg.iter(f"{name}text") if each.get("text-anchor") == "middle"]
    scale = {float(each.text.replace("−", "-")): float(each.get("x")) for each in ticks}
    style = svg.findtext(f"{name}style") or ""
    assert ".reach { stroke" in style, "outside the page, a line without a style is not seen"
    groups = svg.findall(f"{name}g")
    assert [group.get("class") for group in groups] == ["s4", "s1", "s3"]
    step = (scale[5] - scale[-5]) / 10
    assert (min(scale.values()), max(scale.values())) == (240, 916), "the ticks span the plot"
    for group, value, seeds in zip(groups, (7.5, 2.5, -10.0), ([5, 10], [7.5, -2.5], [-10]), strict=True):
        *rings, dot = (float(circle.get("cx")) for circle in group.findall(f"{name}circle"))
        assert dot == pytest.approx(scale[0] + value * step, abs=0.11)
        assert rings == pytest.approx([scale[0] + seed * step for seed in seeds], abs=0.11)


def test_it_is_made_anew_only_when_more_is_finished(plan, tmp_path):
    assert not ablation_files(plan, tmp_path / "out").reused
    assert ablation_files(plan, tmp_path / "out").reused
    more = Plan(
        baseline=plan.baseline, variants={**plan.variants, "memory/off": plan.variants["batch/512"]}, changes={}
    )
    with pytest.raises(InputError, match="holds a finished ablate run"):
        ablation_files(more, tmp_path / "out")
    assert ablation_files(more, tmp_path / "out", overwrite=True).counts["variants"] == 4


def test_nothing_but_the_baseline_is_no_ablation_yet(plan, tmp_path):
    early = Plan(baseline=plan.baseline, variants={"batch/512": [None, None]}, changes={})
    with pytest.raises(InputError, match="no variant is measured yet"):
        ablation_files(early, tmp_path / "out")
    assert not (tmp_path / "out").exists()
