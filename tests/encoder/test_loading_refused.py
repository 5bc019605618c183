from __future__ import annotations

import json

import pytest
import torch
from model_folders import (
    edit,
    wrap,
    write,
)
from safetensors.torch import load_file, save_file

from zhihui.encoder import load
from zhihui.errors import InputError

# --------------------------------------------------------------------------- refused: attention


@pytest.mark.parametrize("causal", [True, False])
def test_a_model_that_is_not_what_its_config_says_is_refused(qwen2, causal, monkeypatch):
    from transformers import Qwen2Model

    edit(qwen2 / "config.json", is_causal=causal)
    stock = Qwen2Model.forward

    def other(self, *args, **named):
        """Ignore the config, as foreign code may."""
        own = self.config.is_causal
        self.config.is_causal = not causal
        try:
            return stock(self, *args, **named)
        finally:
            self.config.is_causal = own

    assert load(qwen2).is_causal is causal
    monkeypatch.setattr(Qwen2Model, "forward", other)
    said, done = ("causal", "bidirectional") if causal else ("bidirectional", "causal")
    with pytest.raises(InputError, match=f"^qwen2: its config says {said} attention, but it is {done} "):
        load(qwen2)


CODE = """
from transformers import Qwen2Model

class Stubborn(Qwen2Model):
    def forward(self, *args, **named):
        claimed, self.config.is_causal = self.config.is_causal, True
        try:
            return super().forward(*args, **named)
        finally:
            self.config.is_causal = claimed
"""


def test_code_that_comes_with_a_model_runs_only_if_asked_and_is_probed_too(qwen2, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    (qwen2 / "modeling_own.py").write_text(CODE)
    edit(qwen2 / "config.json", auto_map={"AutoModel": "modeling_own.Stubborn"})
    assert load(qwen2).is_causal is False  # the stock class
    with pytest.raises(InputError, match="its config says bidirectional attention, but it is causal"):
        load(qwen2, trust_remote_code=True)


# --------------------------------------------------------------------------- refused: files


def remove(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def put(name, text):
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def pickle_weights(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def drop_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def reshape_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    weights["norm.weight"] = torch.ones(7)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def truncate_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def retype(number, kind):
    def change(folder):
        modules = json.loads((folder / "modules.json").read_text())
        modules[number]["type"] = kind
        write(folder / "modules.json", modules)

    return change


def set_in(name, **changes):
    return lambda folder: edit(folder / name, **changes)


def swap_modules(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1], modules[2] = modules[2], modules[1]
    write(folder / "modules.json", modules)


BROKEN = {
    "no config": (remove("config.json"), "no config.json; this is not a model folder"),
    "config not JSON": (put("config.json", "{"), "its config.json cannot be used"),
    "config a list": (put("config.json", "[1]"), "its config.json cannot be used"),
    "config empty": (put("config.json", "{}"), "its config.json cannot be used"),
    "config of another kind": (set_in("config.json", model_type="resnet50x"), "its config.json cannot be used"),
    "config of nonsense": (set_in("config.json", hidden_size="wide"), "its config.json cannot be used"),
    "no weights": (remove("model.safetensors"), "no .*safetensors weights"),
    "pickled weights": (pickle_weights, "weights only as pytorch_model.bin, which is a pickle; convert it"),
    "a tensor missing": (drop_tensor, "its weights lack 1 tensors .* such as layers.1.mlp.up_proj.weight"),
    "a tensor of another shape": (reshape_tensor, "cannot be loaded"),
    "weights cut off": (truncate_weights, "cannot be loaded"),
    "no tokenizer": (
        remove("tokenizer.json", "tokenizer_config.json"),
        "no tokenizer.json; copy its files",
    ),
    "a tokenizer's settings alone": (remove("tokenizer.json"), "no tokenizer.json; copy its files"),
    "tokenizer not JSON": (put("tokenizer.json", "{"), "no usable tokenizer"),
    "unknown module": (retype(2, "sentence_transformers.models.WordWeights"), "modules.json: its modules are"),
    "a module of other code": (retype(0, "custom_st.Transformer"), "custom_st.Transformer, Pooling, Normalize; only"),
    "modules out of order": (swap_modules, "Transformer, Normalize, Pooling; only .* in this order"),
    "no modules": (put("modules.json", "[]"), "its modules are none"),
    "modules not a list": (put("modules.json", '{"a": 1}'), "must be a list of modules"),
    "modules not JSON": (put("modules.json", "["), "modules.json: not valid JSON"),
    "no pooling config": (remove("1_Pooling/config.json"), "1_Pooling/config.json: no such file"),
    "pooling a list": (put("1_Pooling/config.json", "[]"), "1_Pooling/config.json: must be a JSON object, not list"),
    "prompts a list": (
        put("config_sentence_transformers.json", '{"prompts": ["a"]}'),
        'config_sentence_transformers.json: "prompts" must map names to texts',
    ),
    "config overridden": (
        set_in("sentence_bert_config.json", config_kwargs={"is_causal": True}),
        "put the changes into config.json",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_with_its_path(qwen2, case):
    change, message = BROKEN[case]
    change(qwen2)
    with pytest.raises(InputError, match=message) as caught:
        load(qwen2)
    assert str(qwen2) in str(caught.value)
    assert "\n" not in str(caught.value)


DENSE = {"in_features": 32, "out_features": 8, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_features": 31}, "in_features is 31, but 32 numbers come in"),
        ({"out_features": None}, "in_features is 32, but"),
        ({"out_features": 9}, "does not fit its config.json"),
        ({"bias": False}, "does not fit its config.json"),
        ({"activation_function": "torch.nn.modules.activation.Softmin"}, "activation torch.nn.modules.activation.Soft"),
        ({"activation_function": "evil.Tanh"}, "activation evil.Tanh is unknown; use torch.nn.Identity, Tanh"),
        ({"module_input_name": "token_embeddings"}, "only a dense layer on the sentence_embedding"),
        ({"use_residual": True}, "only a dense layer on the sentence_embedding"),
    ],
)
def test_a_dense_layer_that_is_not_understood_is_refused(qwen2, changes, message):
    wrap(qwen2, {"pooling_mode": "mean"}, kinds=("Transformer", "Pooling", "Dense"))
    write(qwen2 / "2_Dense" / "config.json", DENSE)
    with pytest.raises(InputError, match=r"2_Dense: no model\.safetensors; pickled weights are refused"):
        load(qwen2)
    save_file({"linear.weight": torch.ones(8, 32), "linear.bias": torch.ones(8)}, qwen2 / "2_Dense/model.safetensors")
    assert load(qwen2).dimension == 8
    edit(qwen2 / "2_Dense" / "config.json", **changes)
    with pytest.raises(InputError, match=message):
        load(qwen2)


# --------------------------------------------------------------------------- refused: names


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in (tmp_path / "none", "./none", "none", "a/b/c", tmp_path / "file"):
        with pytest.raises(InputError, match="no such model folder; give a folder or a hub id"):
            load(name)
    with pytest.raises(InputError, match=r"empty: no config.json; this is not a model folder"):
        load(tmp_path / "empty")
    with pytest.raises(InputError, match="a local folder has no revisions; leave out revision 'main'"):
        load(tmp_path / "empty", revision="main")


def test_a_hub_id_is_fetched_without_pickles(qwen2, monkeypatch):
    asked = {}

    def fetch(repo, **options):
        asked.update(options, repo=repo)
        return str(qwen2)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert load("org/name", revision="v1").name == "org/name"
    assert (asked["repo"], asked["revision"]) == ("org/name", "v1")
    assert not any(pattern.endswith((".bin", ".pt", ".pth", "*")) for pattern in asked["allow_patterns"])


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match=r"^org/name: no such folder, and it cannot be fetched \(no route\)$"):
        load("org/name")
