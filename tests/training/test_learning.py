"""What a run does with its evaluations, its weights and its log."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from test_trainer import CONFIG, same, weights

from zhihui.errors import InputError, RunFailure
from zhihui.records import write_examples
from zhihui.training.averaging import Average
from zhihui.training.batches import BatchConfig, SetConfig
from zhihui.training.loss import LossConfig
from zhihui.training.stage import train_files
from zhihui.training.trainer import train

SHORT = replace(CONFIG, epochs=1)


def scripted(values: list[float], seen: list[dict[str, torch.Tensor]] | None = None):
    """An evaluation that gives these values one after the other, and keeps the weights it saw."""
    left = list(values)

    def evaluate(encoder):
        if seen is not None:
            seen.append(weights(encoder))
        return {"other": 1.0, "score": left.pop(0)}

    return evaluate


def test_training_stops_when_patience_is_over(model, examples, tmp_path):
    config = replace(CONFIG, eval_steps=1, patience=2, metric="score")
    history = train(model, examples, config, tmp_path, evaluate=scripted([0.1, 0.5, 0.4, 0.6, 0.6, 0.5, 0.9]))
    assert [step for step, _ in history.evaluations] == [0, 1, 2, 3, 4, 5]
    assert len(history.loss) == 5


def test_a_run_that_stopped_early_stays_stopped(shared_model, examples, tmp_path):
    config = replace(CONFIG, eval_steps=1, patience=1, metric="score", save_steps=1)
    model, again = copy.deepcopy(shared_model), copy.deepcopy(shared_model)
    history = train(model, examples, config, tmp_path, evaluate=scripted([0.5, 0.6, 0.4]))
    found = train(again, examples, config, tmp_path, evaluate=scripted([]))
    assert len(history.loss) == 2
    assert found == history
    assert same(weights(model), weights(again))


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 6)])
def test_the_run_ends_with_the_weights_it_was_asked_to_keep(model, examples, tmp_path, keep, kept):
    seen: list[dict[str, torch.Tensor]] = []
    config = replace(SHORT, eval_steps=1, keep=keep, metric="score")
    train(model, examples, config, tmp_path, evaluate=scripted([0.1, 0.2, 0.9, 0.9, 0.3, 0.2, 0.1], seen))
    assert len(seen) == 7
    assert [same(weights(model), each) for each in seen] == [step == kept for step in range(7)]
    assert len(list(tmp_path.glob("best-*"))) == (keep == "best")


def test_a_metric_that_is_not_measured_is_named_before_the_first_step(model, examples, tmp_path):
    with pytest.raises(InputError, match="metric 'ndcg' is not measured; there are: other, score"):
        train(model, examples, replace(SHORT, metric="ndcg"), tmp_path, evaluate=scripted([0.1]))


def test_the_average_is_what_is_measured_and_kept(shared_model, examples, tmp_path):
    seen: list[dict[str, torch.Tensor]] = []
    plain, averaged = copy.deepcopy(shared_model), copy.deepcopy(shared_model)
    steps: list[dict[str, torch.Tensor]] = []
    train(plain, examples, replace(SHORT, eval_steps=1), tmp_path / "plain", evaluate=scripted([0.0] * 7, steps))
    config = replace(SHORT, eval_steps=1, ema=0.9)
    train(averaged, examples, config, tmp_path / "averaged", evaluate=scripted([0.0] * 7, seen))
    expected = {name: tensor.double() for name, tensor in steps[0].items()}
    for step, now in enumerate(steps[1:], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {name: decay * tensor + (1 - decay) * now[name] for name, tensor in expected.items()}
        for name, tensor in expected.items():
            torch.testing.assert_close(seen[step][name], tensor.float(), rtol=1e-4, atol=1e-6)
    assert same(weights(averaged), seen[-1])
    assert not same(weights(averaged), weights(plain))


def test_an_average_is_put_in_place_and_taken_out_again():
    model = torch.nn.Linear(2, 1)
    average = Average(model, 0.5)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1.0
    average.update()
    with average.applied():
        inside = model.weight.detach().clone()
    decay = 2 / 11
    torch.testing.assert_close(inside, decay * before + (1 - decay) * (before + 1.0))
    torch.testing.assert_close(model.weight.detach(), before + 1.0)


def test_a_learned_temperature_moves_is_told_and_does_not_decay(model, examples, tmp_path):
    loss = LossConfig(temperature=0.05, learn_temperature=True)
    config = replace(SHORT, loss=loss, weight_decay=0.5)
    history = train(model, examples, config, tmp_path)
    assert history.temperature[0] == (1, pytest.approx(0.05))
    assert history.final_temperature is not None
    assert abs(history.final_temperature - 0.05) > 1e-5
    # Adam's steps are at most the learning rate, in the logarithm; decay would have moved it far more.
    assert 0.05 * 0.98 < history.final_temperature < 0.05 * 1.02


def test_the_stage_logs_to_tensorboard_and_writes_the_temperature(model, examples, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_examples(tmp_path / "train.jsonl", examples)
    config = replace(SHORT, loss=LossConfig(temperature=0.05, learn_temperature=True), log_steps=2, eval_steps=3)
    options = {"evaluate": scripted([0.1, 0.2, 0.3]), "measured_on": "x"}
    manifest = train_files(tmp_path / "train.jsonl", model, tmp_path / "run", config, **options)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert manifest.counts["temperature"] == history["final_temperature"]
    log = EventAccumulator(str(tmp_path / "run" / "logs"))
    log.Reload()
    losses = {event.step: event.value for event in log.Scalars("train/loss")}
    assert losses == pytest.approx({step: loss for step, loss in history["loss"] if step % 2 == 0}, rel=1e-5)
    assert [event.value for event in log.Scalars("eval/score")] == pytest.approx([0.1, 0.2, 0.3])
    assert {"train/temperature", "train/gradient_norm", "train/masked_known"} <= set(log.Tags()["scalars"])


def test_nothing_is_logged_where_nobody_asked(model, examples, tmp_path):
    write_examples(tmp_path / "train.jsonl", examples)
    train_files(tmp_path / "train.jsonl", model, tmp_path / "run", replace(SHORT, report_to=()))
    assert not (tmp_path / "run" / "logs").exists()


def test_a_data_set_weighs_as_much_as_it_was_given(shared_model, examples, tmp_path):
    losses = []
    for weight in (1.0, 3.0):
        batches = BatchConfig(size=8, negatives=2, sets={"用法": SetConfig(loss_weight=weight)})
        config = replace(SHORT, batches=batches, learning_rate=1e-9)
        history = train(copy.deepcopy(shared_model), examples, config, tmp_path / str(weight))
        losses.append([loss for _, loss in history.loss])
    ratios = sorted(heavy / light for light, heavy in zip(*losses, strict=True))
    assert ratios == pytest.approx([1.0] * 3 + [3.0] * 3, rel=1e-3)


def test_grades_move_the_model(shared_model, examples, tmp_path):
    graded = [replace(e, pos_scores=[3.0], neg_scores=[2.9, 0.0, -2.0]) for e in examples]
    found = []
    for data, weight in ((examples, 0.0), (graded, 0.0), (graded, 1.0)):
        model = copy.deepcopy(shared_model)
        train(model, data, replace(SHORT, loss=LossConfig(distillation=weight)), tmp_path / str(len(found)))
        found.append(weights(model))
    assert same(found[0], found[1]), "grades are not used unless asked for"
    assert not same(found[1], found[2])


def test_a_gradient_that_is_not_finite_stops_the_run(model, examples, tmp_path, monkeypatch):
    import zhihui.training.loop as module

    def torn(*arguments, **options):
        step = real(*arguments, **options)
        return step._replace(gradient=step.gradient * (torch.inf if options["number"] == 3 else 1.0))

    real = module.step_gradients
    monkeypatch.setattr(module, "step_gradients", torn)
    with pytest.raises(RunFailure, match=r"the gradient became .* at step 3"):
        train(model, examples, SHORT, tmp_path)
    bad = json.loads((tmp_path / "bad_batch.json").read_text())
    assert bad["step"] == 3
    assert len(bad["rows"]) == 8
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()), "stopped before the weights"
