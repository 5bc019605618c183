"""Each published system, loaded from a small random checkpoint in the layout of its own repository."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

ENCODER_TESTS = Path(__file__).parents[1] / "encoder"
sys.path.insert(0, str(ENCODER_TESTS))
from model_folders import CHARACTERS, edit, legacy, plain_bert, wrap, write  # noqa: E402
from small_models import SENTENCES, small_model, states_alone  # noqa: E402

from zhihui.encoder.devices import ParallelEncoder  # noqa: E402
from zhihui.errors import InputError  # noqa: E402
from zhihui.evaluation.registry import find_system  # noqa: E402
from zhihui.evaluation.registry_models import (  # noqa: E402
    HOUSE_TEMPLATE,
    InstructedEncoder,
    ModelSource,
    model_of,
    own_template,
    sources_of,
)

TASK = "Given a medical question, retrieve user replies that best answer the question"
TEXTS = [*SENTENCES[:5], "".join(SENTENCES[:5]) * 8]
"""The last is cut."""
END = "<|endoftext|>"


def tokenizer() -> PreTrainedTokenizerFast:
    file = str(ENCODER_TESTS / "data" / "tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_file=file, eos_token=END, pad_token=END)


def qwen2_repository(folder: Path, *, is_causal: bool | None) -> Path:
    """Write weights in shards, code of the repository's own that must not run, and a tokenizer whose EOS is in it."""
    model = small_model("qwen2", causal=False, vocabulary=704, max_position_embeddings=768)
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    tokenizer().save_pretrained(folder)
    for name in ("modeling_qwen.py", "tokenization_qwen.py"):
        (folder / name).write_text("raise RuntimeError('the code of the repository ran')\n")
    code = {"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM"}
    edit(folder / "config.json", auto_map=code, is_causal=is_causal, architectures=["Qwen2ForCausalLM"])
    edit(
        folder / "tokenizer_config.json",
        add_eos_token=True,
        auto_map={"AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "tokenization_qwen.Qwen2TokenizerFast"]},
    )
    (folder / "scripts").mkdir()
    (folder / "scripts" / "eval_mteb.py").write_text("raise RuntimeError('the code of the repository ran')\n")
    prompts = {"query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "}
    return wrap(folder, legacy("lasttoken"), length=32768, prompts=prompts)


def zpoint_repository(folder: Path) -> Path:
    """Write a BERT with a dense layer behind the mean."""
    from safetensors.torch import save_file

    plain_bert(folder, max_position_embeddings=512)
    wrap(folder, legacy("mean_tokens"), length=512, kinds=("Transformer", "Pooling", "Dense"))
    torch.manual_seed(3)
    weights = {"linear.weight": torch.randn(56, 32), "linear.bias": torch.randn(56)}
    sizes = {"in_features": 32, "out_features": 56, "bias": True}
    write(folder / "2_Dense" / "config.json", {**sizes, "activation_function": "torch.nn.modules.linear.Identity"})
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    return folder


REPOSITORIES = {
    "zhihui": lambda folder: qwen2_repository(folder, is_causal=None),
    "gte-qwen2-7b": lambda folder: qwen2_repository(folder, is_causal=False),
    "zpoint": zpoint_repository,
    "360zhinao": lambda folder: plain_bert(folder, max_position_embeddings=512),
}
"""In the published copy of gte-Qwen2 the config says is_causal: false; copies saved again have lost it."""


def unit(vector: Any) -> NDArray[np.float32]:
    return (vector / vector.norm()).detach().numpy()


def by_hand(key: str, folder: Path, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
    """Return the vectors `[N, D]` as the authors' own code computes them, one text at a time."""
    rows = []
    if key in ("zhihui", "gte-qwen2-7b"):
        model = small_model("qwen2", causal=False, vocabulary=704, max_position_embeddings=768)
        words = tokenizer()
        for text in texts:
            ids = [*words(prompt + text)["input_ids"][:511], words.convert_tokens_to_ids(END)]
            rows.append(unit(states_alone(model, ids)[-1]))
        return np.stack(rows)
    model = small_model("bert", vocabulary=5 + len(CHARACTERS), max_position_embeddings=512)
    for text in texts:
        ids = [2, *(5 + CHARACTERS.index(c) for c in text[:510]), 3]
        states = states_alone(model, ids)
        if key == "360zhinao":
            rows.append(unit(states[0]))
            continue
        from safetensors.torch import load_file

        dense = load_file(folder / "2_Dense" / "model.safetensors")
        rows.append((dense["linear.weight"] @ states.mean(0) + dense["linear.bias"]).detach().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("key", REPOSITORIES)
def test_each_system_gives_the_vectors_of_its_authors(tmp_path: Path, key: str) -> None:
    system = find_system(key)
    REPOSITORIES[key](tmp_path / "model")
    encoder = model_of(system, tmp_path / "model", trust_remote_code=False)("cpu")
    assert encoder.name == system.hub
    told = "" if system.template is None else f"Instruct: {TASK}\nQuery: "
    passages = by_hand(key, tmp_path / "model", TEXTS, "")
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), passages, atol=2e-5)
    queries = by_hand(key, tmp_path / "model", TEXTS, told)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS, instruction=TASK), queries, atol=2e-5)
    assert (np.abs(queries - passages).max() > 0.01) == bool(told)


def test_code_of_the_repository_runs_only_when_it_may(tmp_path: Path) -> None:
    folder = qwen2_repository(tmp_path / "model", is_causal=False)
    assert model_of(find_system("zhihui"), folder, trust_remote_code=False)("cpu").fingerprint
    with pytest.raises(InputError, match="the code of the repository ran"):
        model_of(find_system("zhihui"), folder, trust_remote_code=True)("cpu")


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    folder = qwen2_repository(tmp_path / "model", is_causal=False)
    sorted(folder.glob("model-*-of-*.safetensors"))[0].unlink()
    with pytest.raises(InputError, match="model: cannot be loaded"):
        model_of(find_system("gte-qwen2-7b"), folder, trust_remote_code=False)("cpu")


def test_one_changed_weight_is_another_checkpoint(tmp_path: Path) -> None:
    folder = REPOSITORIES["360zhinao"](tmp_path / "model")
    encoder = model_of(find_system("360zhinao"), folder, trust_remote_code=False)("cpu")
    before = encoder.fingerprint
    assert before == model_of(find_system("360zhinao"), folder, trust_remote_code=False)("cpu").fingerprint
    with torch.no_grad():
        next(encoder.unwrapped.backbone.parameters())[7, 3] += 1e-6  # type: ignore[attr-defined]
    assert encoder.fingerprint != before


def test_several_systems_lie_in_one_folder_by_the_names_of_their_repositories(tmp_path: Path) -> None:
    for key in ("zpoint", "360zhinao"):
        REPOSITORIES[key](tmp_path / find_system(key).hub.split("/")[1])
    found = sources_of([], ["zpoint", "360zhinao", "zpoint"], model_dir=tmp_path)
    assert [Path(source.model).name for source in found] == ["zpoint_large_embedding_zh", "360Zhinao-search"]
    with pytest.raises(InputError, match="neither a model folder nor holds Zhihui_LLM_Embedding/; fetch Lenovo-Zhihui"):
        sources_of([], ["zhihui"], model_dir=tmp_path)


class Noting:
    """A model whose own query prompt is given, and that notes how it was asked."""

    name = "noting"
    fingerprint = "noting-1"

    def __init__(self, prompt: str) -> None:
        from zhihui.encoder.settings import EncoderSettings

        self.settings = EncoderSettings(prompts={"query": prompt})
        self.asked: Any = None

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> Any:
        self.asked = list(texts), instruction


@pytest.mark.parametrize(
    ("prompt", "template", "asked"),
    [
        ("Instruct: find it\nQuery: ", HOUSE_TEMPLATE, (["茶"], "T")),
        ("Instruct: find it\nQuery:", "Instruct: {task}\nQuery:", (["Instruct: T\nQuery:茶"], "")),
        ("Instruction: find it \nQuery: ", "Instruction: {task} \nQuery: ", (["Instruction: T \nQuery: 茶"], "")),
        ("为这个句子生成表示：", None, (["茶"], None)),
        ("", None, (["茶"], None)),
    ],
)
def test_a_model_is_told_the_task_in_its_own_form_or_not_at_all(prompt: str, template: Any, asked: Any) -> None:
    model = Noting(prompt)
    assert own_template(model) == template
    encoder = InstructedEncoder(model)  # type: ignore[arg-type]
    encoder.encode_queries(["茶"], instruction="T")
    assert model.asked == asked
    assert (encoder.fingerprint == model.fingerprint) == (template in (None, HOUSE_TEMPLATE))
    encoder.encode_queries(["茶"])
    assert model.asked == (["茶"], None)
    forced = InstructedEncoder(model, forced=True)  # type: ignore[arg-type]
    forced.encode_queries(["茶"], instruction="T")
    assert model.asked == (asked if template else (["茶"], "T"))


@pytest.mark.slow
def test_a_system_is_opened_on_several_devices(tmp_path: Path) -> None:
    source = model_of(find_system("gte-qwen2-7b"), qwen2_repository(tmp_path, is_causal=False), trust_remote_code=False)
    assert isinstance(source, ModelSource)
    alone = source("cpu")
    with ParallelEncoder(source, ["cpu", "cpu"]) as encoder:
        assert (encoder.name, encoder.fingerprint) == (alone.name, alone.fingerprint)
        vectors = encoder.encode_queries(TEXTS, instruction=TASK)
    np.testing.assert_allclose(vectors, alone.encode_queries(TEXTS, instruction=TASK), atol=1e-5)
