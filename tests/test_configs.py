from __future__ import annotations

import pytest

from zhihui.config import from_mapping, read_yaml, with_words
from zhihui.errors import InputError
from zhihui.training.config import TrainConfig


def built(**given):
    return from_mapping(TrainConfig, given, where="run.yaml")


def test_nested_values_reach_their_owners_and_the_rest_keeps_its_default():
    config = built(loss={"temperature": 0.1}, batches={"size": 8, "weights": {"a": 1}}, epochs=3)
    assert config.loss.temperature == 0.1
    assert config.batches.size == 8
    assert config.batches.weights == {"a": 1.0}
    assert config.epochs == 3
    assert config.learning_rate == TrainConfig().learning_rate


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, r"run.yaml: unknown setting epoch; did you mean epochs\?"),
        ({"loss": {"temprature": 0.1}}, r"unknown setting loss.temprature; did you mean loss.temperature\?"),
        ({"frobnicate": 1}, "unknown setting frobnicate; there are: loss, batches"),
        ({"loss": 3}, "loss is 3; it is a group of settings"),
        ({"epochs": "many"}, "epochs is 'many'; input should be a valid integer"),
        ({"epochs": 0}, "epochs 0 is too few; use at least 1"),
        ({"loss": {"temperature": 0}}, "loss: temperature 0.0 is out of range"),
        ({"bf16": "perhaps"}, "bf16 is 'perhaps'"),
    ],
)
def test_mistakes_are_named_with_their_mend(given, message):
    with pytest.raises(InputError, match=message):
        built(**given)


def test_words_go_over_a_file():
    given = {"loss": {"temperature": 0.1, "hardness": "none"}}
    found = with_words(given, ["loss.temperature=0.05", "learning_rate=1e-4", "bf16=true", "loss.terms=[query_query]"])
    assert found["loss"] == {"temperature": 0.05, "hardness": "none", "terms": ["query_query"]}
    assert found["learning_rate"] == 1e-4
    assert found["bf16"] is True
    assert given == {"loss": {"temperature": 0.1, "hardness": "none"}}, "the file's own settings must not change"
    assert from_mapping(TrainConfig, found, where="words").loss.terms == ("query_query",)


@pytest.mark.parametrize("word", ["epochs", "=3", "loss..temperature=1", "epochs.more=1"])
def test_words_that_cannot_be_read_are_refused(word):
    with pytest.raises(InputError, match="setting"):
        with_words({"epochs": 1}, [word])


def test_a_file_that_holds_no_settings_is_refused(tmp_path):
    for name, content, message in (
        ("list.yaml", "- 1\n", "holds no settings"),
        ("torn.yaml", "a: [1\n", "not YAML"),
        ("empty.yaml", "", "holds no settings"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=message):
            read_yaml(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
