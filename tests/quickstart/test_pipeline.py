from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zhihui.errors import InputError
from zhihui.quickstart import QuickstartConfig, pipeline, quickstart
from zhihui.runs import read_manifest

CONFIG = QuickstartConfig(shape="tiny", training_tokens=3000)


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "quickstart"
    quickstart(out, CONFIG, data=folder)
    return out


def test_it_leaves_results_report_model_searches_and_stages(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {"manifest.json", "results.json", "report.html", "searches.json", "model", "stages"}
    manifest = read_manifest(finished)
    assert manifest is not None
    assert manifest.counts["export_difference"] <= 1e-5


def test_results_hold_the_four_systems_with_intervals(finished):
    results = json.loads((finished / "results.json").read_text())
    assert set(results) == {"bm25", "before", "after", "hybrid"}
    for metrics in results.values():
        found = metrics["ndcg_at_10"]
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert results["bm25"]["ndcg_at_10"]["value"] > 0.5
    assert results["before"] != results["after"]


def test_the_report_stands_alone_and_shows_the_curves(finished):
    page = (finished / "report.html").read_text()
    assert not re.search(r'(src|href)="http', page)
    assert "loss by step" in page
    assert "nDCG@10 (dev sample) by step" in page
    for name in ("bm25", "before", "after", "hybrid"):
        assert name in page


def test_test_queries_are_not_trained_on(finished):
    stages = finished / "stages"
    trained = {json.loads(line)["id"] for line in (stages / "mined" / "train.jsonl").read_text().splitlines()}
    lines = (stages / "data" / "qrels" / "test.tsv").read_text().splitlines()[1:]
    assert lines
    assert not trained & {line.split("\t")[0] for line in lines}


def test_three_searches_are_answered_best_first(finished):
    searches = json.loads((finished / "searches.json").read_text())
    assert len(searches) == 3
    for search in searches:
        scores = [hit["score"] for hit in search["hits"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)


def test_the_same_run_again_does_nothing_and_another_seed_is_refused(finished, folder):
    assert quickstart(finished, CONFIG, data=folder).reused
    with pytest.raises(InputError, match="other settings"):
        quickstart(finished, QuickstartConfig(shape="tiny", training_tokens=3000, seed=1), data=folder)


STEPS = ["write_data", "start", "mine", "train", "measure", "search", "publish"]


@pytest.mark.parametrize("cut", ["mine", "measure", "publish"])
def test_cut_short_and_run_again_it_ends_with_the_same_bytes(finished, folder, tmp_path, monkeypatch, cut):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert cut in STEPS
    with monkeypatch.context() as patched:
        patched.setattr(pipeline._Run, cut, stop)
        with pytest.raises(KeyboardInterrupt):
            quickstart(tmp_path / "again", CONFIG, data=folder)
    assert not (tmp_path / "again").exists()
    quickstart(tmp_path / "again", CONFIG, data=folder)
    for name in ("results.json", "searches.json", "model/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_given_model_is_where_training_starts(finished, folder, tmp_path):
    quickstart(tmp_path / "run", CONFIG, data=folder, model=str(finished / "model"))
    first = json.loads((finished / "results.json").read_text())
    second = json.loads((tmp_path / "run" / "results.json").read_text())
    assert second["before"] == first["after"]
    assert not (tmp_path / "run" / "stages" / "start").exists()


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(InputError, match="training_tokens 0"):
        QuickstartConfig(training_tokens=0)


RUN = """
import sys
from pathlib import Path
from zhihui.quickstart import QuickstartConfig, quickstart
print("begun", flush=True)
config = QuickstartConfig(shape="tiny", training_tokens=3000)
quickstart(Path(sys.argv[1]), config, data=Path(sys.argv[2]), say=lambda line: print(line, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 3, 4, 5, 6])
def test_killed_for_real_and_run_again_it_ends_with_the_same_bytes(finished, folder, tmp_path, lines):
    """Killed soon after so many lines of progress, and once more a little later."""
    out = tmp_path / "run"
    command = [sys.executable, "-c", RUN, str(out), str(folder)]
    for delay in (0.05, 0.6):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(delay)
            process.kill()
    subprocess.run(command, check=True, capture_output=True)
    for name in ("results.json", "searches.json", "model/model.safetensors"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name
