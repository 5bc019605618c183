"""Where a model lies; `zhihui.load`, cross-encoders and passages' lengths all ask here."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import HFValidationError

from zhihui.corpus.lengths import lengths_of
from zhihui.errors import InputError
from zhihui.ranking.reranker import load_reranker
from zhihui.records.hub import MODEL_FILES, model_folder
from zhihui.records.shipped import SHIPPED_MODELS


def test_a_shipped_model_is_found_by_name_unless_a_folder_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_folder("nano") == SHIPPED_MODELS["nano"]
    (tmp_path / "nano").mkdir()
    assert model_folder("./nano").samefile(tmp_path / "nano")
    with pytest.raises(InputError, match=r"a shipped model and a folder here; write \./nano"):
        model_folder("nano")


def test_all_who_load_models_know_the_shipped_ones():
    assert lengths_of("nano").of(["租房押金怎么退"])[0] > 1
    with pytest.raises(InputError, match=r"nano: .* cross-encoder"):  # it is found, and is none
        load_reranker("nano")


def test_only_what_is_asked_for_is_fetched(tmp_path, monkeypatch):
    asked = []

    def fetch(name, **options):
        asked.append((name, options["revision"], options["allow_patterns"]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert model_folder("org/name", revision="v1") == tmp_path
    assert model_folder("org/name", files=["tokenizer.json"]) == tmp_path
    assert asked == [("org/name", "v1", list(MODEL_FILES)), ("org/name", None, ["tokenizer.json"])]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HFValidationError("bad name\nmore"), r"the hub does not know it \(bad name\)$"),
        (ConnectionError(), r"it cannot be fetched \(ConnectionError\)$"),
    ],
    ids=["unknown", "unreachable"],
)
def test_what_the_hub_says_is_one_line(error, message, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match=f"^org/name: no such folder, and {message}"):
        model_folder("org/name")
