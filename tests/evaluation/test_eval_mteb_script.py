"""scripts/eval_mteb.py: mteb's result files under the option names of model cards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hub_mirror import newer, older

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import eval_mteb  # scripts are no package

from zhihui.evaluation.mteb_tasks import result_place
from zhihui.runs import read_json

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, encoder: Any) -> list[str]:
    """The models that were loaded, all of them the bigram encoder."""
    models: list[str] = []

    def load(model: str, **_: Any) -> Any:
        models.append(model)
        return encoder

    monkeypatch.setattr("zhihui.encoder.load", load)
    return models


def test_tasks_are_added_one_by_one_and_none_is_measured_again(
    tmp_path: Path, opened: list[str], encoder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror, out = older(tmp_path / "mirror", "DuRetrieval"), tmp_path / "results"
    newer(mirror, "T2Retrieval")
    common = ["--data_dir", str(mirror), "--output_dir", str(out), "--model_name_or_path", "acme/bigrams", "--task"]
    assert eval_mteb.main([*common, "DuRetrieval"]) == 0
    encoded = encoder.documents_encoded
    assert eval_mteb.main([*common, "DuRetrieval", "T2Retrieval"]) == 0
    assert encoder.documents_encoded == 2 * encoded
    place = out / "results" / result_place(encoder.name, encoder.fingerprint)
    assert sorted(path.name for path in place.iterdir()) == ["DuRetrieval.json", "T2Retrieval.json", "model_meta.json"]
    scores = [
        read_json(place / f"{name}.json")["scores"]["dev"][0]["main_score"] for name in ("DuRetrieval", "T2Retrieval")
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        f"DuRetrieval: nDCG@10 {100 * scores[0]:.2f}",
        f"T2Retrieval: nDCG@10 {100 * scores[1]:.2f}",
        f"average of 2: {50 * sum(scores):.2f}",
    ]
    encoder.fingerprint = "after one step of training"
    assert eval_mteb.main([*common, "DuRetrieval"]) == 0
    assert encoder.documents_encoded == 3 * encoded


def test_mistakes_end_in_two_before_a_model_is_loaded(
    tmp_path: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "-m"]
    assert eval_mteb.main([*common, "acme/m", "-t", "DuRetreival"]) == 2
    assert eval_mteb.main([*common, "acme/m", "-t", "DuRetrieval"]) == 2
    assert eval_mteb.main([*common, "shhy1995/AGE_Hybrid"]) == 2
    assert eval_mteb.main([*common, "a/folder", "--system", "gte-qwen2"]) == 2
    unknown, missing, never, nearest = capsys.readouterr().err.splitlines()
    assert unknown == "eval_mteb: task 'DuRetreival' is unknown; did you mean DuRetrieval?"
    assert missing.startswith(f"eval_mteb: {tmp_path / 'DuRetrieval'}: no such folder; fetch")
    assert "never published" in never
    assert nearest.endswith("did you mean gte-qwen2-7b?")
    assert opened == []
    assert not any(tmp_path.iterdir())


def test_a_registered_hub_id_is_loaded_as_its_authors_do() -> None:
    system = eval_mteb.registered("Alibaba-NLP/gte-Qwen2-7B-instruct")
    assert system is not None
    assert system.key == "gte-qwen2-7b"
    assert eval_mteb.registered("acme/embed") is None
