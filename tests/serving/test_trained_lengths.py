"""Lengths that a model was trained to be cut to: from the loss to what a server lets calls ask for."""

from __future__ import annotations

import pytest
from serving_client import call, serving

from zhihui.encoder import build, load
from zhihui.encoder.export import export
from zhihui.records import Example, write_examples
from zhihui.runs import read_json
from zhihui.serving.models import served
from zhihui.training.batches import BatchConfig
from zhihui.training.config import TrainConfig
from zhihui.training.loss import LossConfig
from zhihui.training.stage import MODEL, train_files

SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴"]


def trained(encoder, root, out, *lengths):
    """Train for a step and return the folder of the model."""
    examples = [Example(query=f"{each}怎么清洗", pos=[f"{each}，用温水擦洗。"]) for each in SUBJECTS]
    write_examples(root / "examples.jsonl", examples)
    config = TrainConfig(loss=LossConfig(matryoshka=lengths), batches=BatchConfig(size=8), report_to=())
    train_files(root / "examples.jsonl", encoder, root / out, config)
    return root / out / MODEL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model trained at 32 and 16 of its 64 dimensions."""
    root = tmp_path_factory.mktemp("lengths")
    return trained(build("tiny", SUBJECTS, seed=3), root, "out", 32, 16)


def test_a_server_cuts_vectors_to_the_lengths_that_training_wrote(folder):
    assert read_json(folder / "config.json")["matryoshka_dimensions"] == [16, 32]
    with serving(served([load(folder)], name="zh")) as (url, _):
        assert call(url, "/info").json["dimensions"] == [16, 32]
        for length, status in ((16, 200), (32, 200), (64, 200), (20, 400)):
            reply = call(url, "/v1/embeddings", {"input": "好", "dimensions": length})
            assert reply.status == status
        assert "can be cut to 16, 32, 64" in reply.message


def test_the_lengths_outlive_an_export_and_a_run_without(folder, tmp_path):
    export(load(folder), tmp_path / "again")
    assert read_json(tmp_path / "again" / "config.json")["matryoshka_dimensions"] == [16, 32]
    further = trained(load(folder), tmp_path, "further")
    assert read_json(further / "config.json")["matryoshka_dimensions"] == [16, 32]


def test_vectors_do_not_depend_on_what_the_config_says_of_lengths(folder):
    encoder = load(folder)
    before = encoder.fingerprint
    del encoder.backbone.config.matryoshka_dimensions
    assert encoder.fingerprint == before
