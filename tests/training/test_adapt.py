from __future__ import annotations

import copy
import json
import math
import random
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from zhihui.encoder import Encoder, build, load
from zhihui.encoder.encoder import packed_states
from zhihui.encoder.packing import pack
from zhihui.errors import InputError, RunFailure
from zhihui.runs import read_json
from zhihui.training import masking
from zhihui.training.adapt import AdaptConfig, Predictor, Steps, adapt, adapt_files
from zhihui.training.adapt_trainer import AdaptTrainer
from zhihui.training.lora import LoraSettings
from zhihui.training.masking import Hidden, hide, mask_id, prediction_loss

CONFIG = AdaptConfig(batch_tokens=200, chunk_tokens=100, learning_rate=1e-2, epochs=20)


@pytest.fixture(scope="session")
def texts(examples) -> list[str]:
    return [text for example in examples for text in (example.query, *example.pos)]


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def mean(history, part: slice) -> float:
    losses = [loss for _, loss in history.loss[part]]
    return sum(losses) / len(losses)


# --------------------------------------------------------------------------- what is hidden


def test_a_share_is_hidden_and_never_the_first_token_nor_a_special_one():
    ids = [7, 8, 9, 0, *range(10, 50), 0]
    found = hide(ids, 0.2, 3, special={0}, draw=random.Random(1))
    assert found is not None
    assert len(found.places) == round(0.2 * 42)
    assert found.places == sorted(set(found.places))
    assert 0 not in found.places
    assert found.answers == [ids[place] for place in found.places]
    assert 0 not in found.answers
    assert found.ids == [3 if place in found.places else token for place, token in enumerate(ids)]
    seen = {place for seed in range(200) for place in hide(ids, 0.2, 3, special={0}, draw=random.Random(seed)).places}
    assert seen == set(range(len(ids))) - {0, 3, len(ids) - 1}


def test_a_short_text_hides_one_token_and_one_without_any_is_left_out():
    assert hide([5, 6, 0], 0.2, 3, special={0}, draw=random.Random(0)) == Hidden([5, 3, 0], [1], [6])
    assert hide([5, 0], 0.2, 3, special={0}, draw=random.Random(0)) is None


def test_the_mask_is_the_one_named_or_the_tokenizers_or_an_underscore(model):
    tokenizer = copy.deepcopy(model.tokenizer)
    underscore = tokenizer("_", add_special_tokens=False)["input_ids"]
    assert [mask_id(tokenizer)] == underscore
    assert mask_id(tokenizer, tokenizer.eos_token) == tokenizer.eos_token_id
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    assert mask_id(tokenizer) == tokenizer.mask_token_id != underscore[0]
    with pytest.raises(InputError, match=r"mask '自行车的路' is \d tokens"):
        mask_id(tokenizer, "自行车的路")


def test_a_token_is_predicted_from_the_state_before_it(model, monkeypatch):
    """Against a softmax over one text at a time; and in several slices of rows."""
    monkeypatch.setattr(masking, "_ROWS", 2)
    draw = random.Random(0)
    sequences = [[draw.randrange(5, 300) for _ in range(n)] for n in (9, 4, 9, 2)]
    hidden = [hide(ids, 0.4, 3, special={0}, draw=draw) for ids in sequences]
    head = model.backbone.get_input_embeddings().weight
    packed = pack([each.ids for each in hidden])
    found = prediction_loss(packed_states(model.backbone, packed)[0], packed, hidden, head)
    found.backward()
    gradient = head.grad.clone()
    head.grad = None
    expected = torch.zeros(())
    for each in hidden:
        states = packed_states(model.backbone, pack([each.ids]))[0]
        for place, answer in zip(each.places, each.answers, strict=True):
            expected = expected + cross_entropy((states[place - 1] @ head.T)[None], torch.tensor([answer]))
    expected.backward()
    assert sum(len(each.places) for each in hidden) > 4
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float(head.grad.abs().max()) > 1e-3
    torch.testing.assert_close(gradient, head.grad, rtol=1e-3, atol=1e-5)


def test_steps_hold_every_text_once_an_epoch_and_no_more_tokens_than_allowed(model, texts):
    data = Steps(model, texts, replace(CONFIG, epochs=2))
    again = Steps(model, texts, replace(CONFIG, epochs=2))
    half = len(data) // 2
    counted = sorted(number for step in data.steps for number in step)
    assert counted == sorted([*range(len(data.ids))] * 2)
    assert data.steps[:half] != data.steps[half:]
    for step in range(len(data)):
        chunks = data[step]
        assert chunks == again[step], "a step is the same whoever asks"
        sizes = [sum(len(each.ids) for each in chunk) for chunk in chunks]
        assert max(sizes) <= 100
        assert sum(sizes) <= 200
        assert all(data.mask in each.ids for chunk in chunks for each in chunk)
    other = Steps(model, texts, replace(CONFIG, epochs=2, seed=1))
    assert other.steps != data.steps


# --------------------------------------------------------------------------- training


@pytest.mark.parametrize("head", ["tied", "fresh"])
def test_the_loss_falls_and_what_is_hidden_is_found_from_both_sides(model, texts, tmp_path, head):
    before = weights(model)
    history = adapt(model, texts, replace(CONFIG, head=head), tmp_path)
    blind = math.log(len(model.backbone.embed_tokens.weight))
    assert history.loss[0][1] == pytest.approx(blind, rel=0.2), "the loss is a mean over hidden tokens"
    assert [step for step, _ in history.loss] == list(range(1, len(history.loss) + 1))
    assert mean(history, slice(-5, None)) < 0.6 * mean(history, slice(0, 5))
    assert not model.training
    after = weights(model)
    assert not [name for name in before if torch.equal(before[name], after[name]) and "bias" not in name]
    assert before.keys() == after.keys(), "the head is no part of the model"


def test_the_gradient_of_a_step_does_not_depend_on_its_chunks(model, texts):
    found = []
    for chunk_tokens in (40, 200):
        data = Steps(model, texts, replace(CONFIG, chunk_tokens=chunk_tokens))
        predictor = Predictor(model, "tied")
        predictor.zero_grad()
        chunks = data[0]
        for chunk in chunks:
            predictor(pack([each.ids for each in chunk]), chunk).backward()
        found.append((len(chunks), {name: p.grad.clone() for name, p in predictor.named_parameters()}))
    assert found[0][0] > 2 > found[1][0]
    for name, gradient in found[0][1].items():
        other = found[1][1][name]
        assert float((gradient - other).norm()) <= 1e-4 * float(other.norm()) + 1e-6, name


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, dropout=0.1)])
def test_stopped_on_the_way_it_goes_on_to_the_same_weights(shared_model, texts, tmp_path, monkeypatch, lora):
    config = replace(CONFIG, epochs=2, save_steps=2, lora=lora)
    whole = copy.deepcopy(shared_model)
    expected = adapt(whole, texts, config, tmp_path / "whole")
    assert len(expected.loss) >= 6

    step = AdaptTrainer.training_step

    def stop(self, *arguments):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptTrainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            adapt(copy.deepcopy(shared_model), texts, config, tmp_path / "stopped")
    assert [path.name for path in (tmp_path / "stopped").glob("checkpoint-*")] == ["checkpoint-4"]
    resumed = copy.deepcopy(shared_model)
    torch.manual_seed(99)
    history = adapt(resumed, texts, config, tmp_path / "stopped")
    assert history.loss == expected.loss
    assert same(weights(resumed), weights(whole))
    assert not same(weights(resumed), weights(shared_model))


def test_a_loss_that_is_not_finite_stops_the_run(model, texts, tmp_path):
    with torch.no_grad():
        model.backbone.norm.weight[3] = torch.nan
    with pytest.raises(RunFailure, match="the loss became nan at step 1"):
        adapt(model, texts, CONFIG, tmp_path)


def test_the_stage_leaves_a_model_that_loads_and_does_its_work_once(model, texts, tmp_path):
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    start = copy.deepcopy(model)
    config = replace(CONFIG, max_steps=4)
    manifest = adapt_files(rows, model, tmp_path / "out", config)
    assert manifest.counts["steps"] == 4
    assert manifest.counts["texts"] == len(texts)
    assert manifest.counts["last_loss"] == read_json(tmp_path / "out" / "history.json")["loss"][-1][1]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model", "history.json", "manifest.json"}
    loaded = load(tmp_path / "out" / "model", device="cpu")
    assert same(weights(loaded), weights(model))
    assert not loaded.is_causal
    assert adapt_files(rows, start, tmp_path / "out", config).reused


def test_what_cannot_be_adapted_is_refused(model, texts, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="none of 2 texts has a token to hide"):
        adapt(model, ["", ""], CONFIG, tmp_path)
    causal = build("tiny", texts, seed=0, bidirectional=False)
    with pytest.raises(InputError, match="load it with attention bidirectional"):
        adapt(causal, texts, CONFIG, tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="runs in one process"):
        adapt(model, texts, CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0.0}, "share 0.0"),
        ({"head": "loose"}, "head 'loose' is unknown; choose tied, fresh"),
        ({"batch_tokens": 10}, "batch_tokens 10 is less than chunk_tokens 8192"),
        ({"max_steps": 0}, "max_steps 0"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"warmup": 1.0}, "warmup 1.0"),
        ({"save_steps": -1}, "save_steps must be 0 or more"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        AdaptConfig(**settings)
