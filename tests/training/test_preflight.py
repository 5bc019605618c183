from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from zhihui.encoder import EncoderSettings
from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.training.batches import BatchConfig, SetConfig
from zhihui.training.config import TrainConfig
from zhihui.training.costs import Chunk, _Kept, measure_chunk, step_memory, step_seconds
from zhihui.training.gradient_cache import CacheConfig
from zhihui.training.preflight import preflight, show

CONFIG = TrainConfig(
    batches=BatchConfig(size=8, negatives=2), cache=CacheConfig(chunk_tokens=64, graph_tokens=128), epochs=3
)


def test_texts_are_shown_as_the_model_will_see_them(model, examples):
    model.settings = EncoderSettings(prompts={"query": "问：", "document": ""}, max_length=64)
    first, second, third = preflight(model, examples, CONFIG, show=1, measure=False).seen
    assert [each.role for each in (first, second, third)] == ["query", "document", "document"]
    assert first.prompt == "问："
    assert first.text == f"问：{examples[0].query}{model.tokenizer.eos_token}"
    assert second.text == f"{examples[0].pos[0]}{model.tokenizer.eos_token}"
    assert third.text == f"{examples[0].neg[0]}{model.tokenizer.eos_token}"
    assert first.ids == model.tokenize([examples[0].query], role="query")[0]
    assert all(each.ends_with_eos and not each.cut for each in (first, second, third))


def test_a_text_without_eos_and_a_text_that_is_cut_are_seen(model, examples):
    from tokenizers import processors

    model.tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    config = replace(CONFIG, batches=BatchConfig(size=8, passage_tokens=3))
    query, positive, _ = (found := preflight(model, examples, config, show=1, measure=False)).seen
    assert not query.ends_with_eos
    whole = model.tokenize([examples[0].pos[0]], role="document")[0]
    assert positive.ids == whole[:3]
    assert positive.cut == len(whole) - 3 > 0
    text = show(found)
    assert "NO EOS AT ITS END" in text
    assert f"{positive.cut} tokens cut off" in text


def test_an_examples_own_prompt_stands_before_that_of_its_set_and_that_before_the_models(model):
    rows = [
        Example(query=f"问题{i}", pos=[f"这是第{i}个问题的答案"], source=source, prompt=prompt)
        for i, (source, prompt) in enumerate([("甲", None), ("甲", "自己的"), ("乙", None)] * 8)
    ]
    batches = BatchConfig(size=4, near_duplicates=None, sets={"甲": SetConfig(instruction="本集的")})
    found = preflight(model, rows, TrainConfig(batches=batches), show=3, measure=False)
    prompts = [each.prompt for each in found.seen if each.role == "query"]
    assert [*map(len, prompts)] == [len(each) for each in prompts]
    assert "本集的" in prompts[0]
    assert "自己的" in prompts[1]
    assert prompts[2] == model.settings.prompt("query")


def test_lengths_are_those_before_cutting(model, examples):
    config = replace(CONFIG, batches=BatchConfig(size=8, query_tokens=24, passage_tokens=5))
    found = preflight(model, examples, config, measure=False)
    lengths = [len(ids) for e in examples for ids in model.tokenize([*e.pos, *e.neg], role="document")]
    assert (found.passages.texts, found.passages.limit) == (len(lengths), 5)
    assert found.passages.longest == max(lengths)
    assert found.passages.cut == pytest.approx(sum(n > 5 for n in lengths) / len(lengths))
    assert 0 < found.passages.cut < 1
    assert min(lengths) <= found.passages.half <= found.passages.most <= max(lengths)
    assert found.queries.texts == len(examples)
    assert found.queries.limit == 24


def test_what_is_wrong_with_the_data_is_counted(model, examples):
    rows = copy.deepcopy(examples)
    rows[0].neg = []
    rows[1].neg = []
    rows[2].pos.append(f" {rows[2].query}\n")
    rows[3].neg.append(rows[3].pos[0])
    rows.append(copy.deepcopy(rows[4]))
    found = preflight(model, rows, CONFIG, measure=False)
    counts = (found.without_negatives, found.answers_itself, found.contradicts_itself, found.doubled)
    assert counts == (2, 1, 1, 1)
    assert "  2 (4.1%) bring no hard negative" in show(found)
    clean = preflight(model, examples, CONFIG, measure=False)
    assert (clean.without_negatives, clean.answers_itself, clean.contradicts_itself, clean.doubled) == (0, 0, 0, 0)


def test_steps_and_tokens_are_those_of_the_run(model, examples):
    from zhihui.training.batches import plan
    from zhihui.training.collate import Batches

    found = preflight(model, examples, CONFIG, measure=False)
    batches = plan(examples, CONFIG.batches, epochs=3, seed=0)
    assert found.steps == len(batches) == 3 * found.steps_per_epoch
    data = Batches(model, examples, batches, CONFIG.batches, seed=0)
    sizes = [sum(map(len, {*map(tuple, data[step].sequences)})) for step in range(len(batches))]
    assert min(sizes) <= found.tokens_per_step <= max(sizes)


def test_it_changes_nothing_and_says_the_same_but_for_the_time(model, examples):
    state, before = torch.get_rng_state(), {name: t.clone() for name, t in model.state_dict().items()}
    texts = [show(preflight(model, examples, CONFIG)).splitlines() for _ in range(2)]
    assert texts[0][:-1] == texts[1][:-1]
    assert texts[0][-1].startswith("time: about ")
    assert texts[0][-2].startswith("memory: about ")
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_activations_grow_with_tokens_and_layers_and_leave_weights_out(model, examples):
    sequences = model.tokenize([e.pos[0] for e in examples], role="document")
    small = measure_chunk(model, sequences[:4], CONFIG)
    large = measure_chunk(model, sequences[:4] * 2, replace(CONFIG, cache=CacheConfig(chunk_tokens=512)))
    assert large.tokens == sum(map(len, sequences[:4] * 2))
    per_token = large.activation_bytes / large.tokens
    inner, hidden = 128, 64
    # The feed-forward network of the first layer alone keeps four times its width, in fp32.
    assert 4 * 4 * inner < per_token < 40 * 4 * (inner + hidden)
    assert small.activation_bytes / small.tokens == pytest.approx(per_token, rel=0.3)


def test_what_is_kept_twice_is_counted_once():
    layer = torch.nn.Linear(4, 4)
    kept = _Kept(layer)
    x = torch.randn(10, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
        y = layer(x).exp()  # keeps x, and its own result
        _ = y * y
    assert kept.bytes == 2 * 10 * 4 * 4


def test_memory_is_counted_from_the_model_and_the_run(model):
    chunk = Chunk(tokens=100, activation_bytes=50_000, forward_seconds=1.0, whole_seconds=3.0)
    size = sum(4 * p.numel() for p in model.parameters())

    def of(config: TrainConfig, tokens: int = 1000):
        return step_memory(model, chunk, config, tokens=tokens, queries=8, passages=24)

    plain = of(CONFIG)
    assert (plain.weights, plain.gradients, plain.optimizer) == (size, size, 2 * size)
    assert plain.activations == 500 * 128  # graph_tokens, of the 1000
    assert of(CONFIG, tokens=100).activations == 50_000
    assert plain.vectors == 4 * 64 * 2 * 32
    assert plain.similarities == 4 * 8 * 24
    assert plain.total == sum(vars(plain).values())
    assert of(replace(CONFIG, ema=0.9)).optimizer == 3 * size
    assert of(replace(CONFIG, gradient_checkpointing=True)).activations < plain.activations * 1.01
    model.backbone.requires_grad_(False)
    model.backbone.norm.requires_grad_(True)
    frozen = of(CONFIG)
    assert (frozen.weights, frozen.gradients) == (size, 4 * 64)


def test_time_counts_what_is_computed_twice():
    chunk = Chunk(tokens=100, activation_bytes=1, forward_seconds=1.0, whole_seconds=3.0)
    assert step_seconds(chunk, CONFIG, tokens=128) == pytest.approx(1.28 * 3)
    assert step_seconds(chunk, CONFIG, tokens=228) == pytest.approx(2.28 * 3 + 1.0)
    checkpointed = replace(CONFIG, gradient_checkpointing=True)
    assert step_seconds(chunk, checkpointed, tokens=128) == pytest.approx(1.28 * 4)


def test_data_that_cannot_be_trained_on_is_refused(model, examples):
    with pytest.raises(InputError, match="no examples"):
        preflight(model, [], CONFIG)
    with pytest.raises(InputError, match="no batch of 64"):
        preflight(model, examples, TrainConfig(batches=BatchConfig(size=64)))
