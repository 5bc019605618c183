"""A term model's export: what others load, with the code that travels with it and without this package."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SENTENCES, gap

import zhihui
from zhihui.encoder import Encoder, fresh
from zhihui.encoder.export import export
from zhihui.encoder.export_check import export_checked
from zhihui.encoder.stage import ExportConfig
from zhihui.encoder.terms import build, pack, unpack
from zhihui.errors import InputError

TEXTS = [*SENTENCES[:5], "雨", "龘", "".join(SENTENCES[:5])]
CODE = "modeling_terms.py"
ALONE = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "zhihui":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
library, folders, texts, prompts = json.loads(sys.argv[1])
found = {}

def by_transformers(folder, dtype):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    stored = {"int4": "auto"}.get(dtype, dtype)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=stored).eval()
    for side in ("left", "right"):
        for role, prompt in prompts.items():
            inputs = tokenizer([prompt + t for t in texts], padding=True, padding_side=side, return_tensors="pt")
            with torch.no_grad():
                vectors = model(**inputs).last_hidden_state[:, -1]
            found[f"{dtype} {role} {side}"] = torch.nn.functional.normalize(vectors).tolist()
    return model

def by_sentence_transformers(folder, dtype):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", trust_remote_code=True)
    for role in prompts:
        vectors = model.encode(texts, prompt_name=role, show_progress_bar=False)
        found[f"{dtype} {role}"] = vectors.astype("float32").tolist()
    return model[0].auto_model

for dtype, folder in folders.items():
    model = (by_transformers if library == "transformers" else by_sentence_transformers)(folder, dtype)
    assert str(model.dtype) == {"int4": "torch.bfloat16"}.get(dtype, f"torch.{dtype}"), model.dtype
    code = type(model).__module__
    assert code.startswith("transformers_modules."), code
assert not any(name.partition(".")[0] == "zhihui" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def code_elsewhere(tmp_path, monkeypatch):
    """Keep the code that models bring out of the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build(SENTENCES * 3, seed=0)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory) -> Path:
    """An export; tests must leave it as they found it."""
    folder = tmp_path_factory.mktemp("export") / "model"
    export(encoder, folder, name="runs/terms/model")
    return folder


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def both(encoder, texts=TEXTS):
    return {role: encoder.encode(texts, role=role) for role in ("query", "document")}


@pytest.mark.slow
@pytest.mark.parametrize("library", ["transformers", "sentence-transformers"])
def test_others_load_it_without_this_package(folder, encoder, library, tmp_path):
    folders, expected = {"float32": str(folder)}, {"float32": both(encoder)}
    for dtype, most in (("bfloat16", 1e-2), ("int4", 3e-2)):
        changed = ExportConfig(dtype=dtype).load(str(folder), device="cpu")
        folders[dtype] = str(tmp_path / dtype)
        export(changed, Path(folders[dtype]))
        expected[dtype] = both(changed)
        assert 1e-4 < gap(expected["float32"]["document"], expected[dtype]["document"]) < most
    task = json.dumps([library, folders, TEXTS, encoder.settings.prompts])
    home = {"HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "code"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, task], capture_output=True, text=True, check=False, env=os.environ | home
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == (12 if library == "transformers" else 6)
    for name, vectors in found.items():
        dtype, role, *_ = name.split()
        assert gap(np.array(vectors), expected[dtype][role]) < 1e-5, name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_export_is_checked_on_either_side(folder, dtype, tmp_path):
    assert export_checked(zhihui.load(folder, device="cpu", dtype=dtype), tmp_path / "model") < 1e-6
    assert zhihui.load(tmp_path / "model", device="cpu").dtype == getattr(torch, dtype)


def test_packed_embeddings_take_an_eighth_and_train_again_once_loaded(folder, encoder, tmp_path):
    packed = ExportConfig(dtype="int4").load(str(folder), device="cpu")
    worst = export_checked(packed, tmp_path / "packed")
    assert worst < 1e-6
    size = {path: (path / "model.safetensors").stat().st_size for path in (folder, tmp_path / "packed")}
    rows, dims = encoder.backbone.embedding.shape
    others = encoder.backbone.weight.numel() + encoder.backbone.emphasis.numel() + 1
    assert size[folder] - size[tmp_path / "packed"] == pytest.approx(rows * dims * 3.5 + others * 2, rel=1e-3)
    loaded = zhihui.load(tmp_path / "packed", device="cpu")
    assert loaded.backbone.embedding.requires_grad
    assert loaded.backbone.embedding.dtype == torch.bfloat16
    np.testing.assert_array_equal(loaded.encode_queries(TEXTS), packed.encode_queries(TEXTS))
    again = ExportConfig(dtype="int4").load(str(tmp_path / "packed"), device="cpu")
    # The largest number of a row is the scale, so that rounding what is rounded changes only the scales, in bf16.
    assert gap(again.encode_queries(TEXTS), packed.encode_queries(TEXTS)) < 1e-3


def test_rounding_to_four_bits_is_to_the_nearest_of_fifteen_steps(encoder):
    backbone = copy.deepcopy(encoder.backbone)
    before = backbone.embedding.detach() * backbone.emphasis.exp()[:, None]
    pack(backbone)
    assert backbone.embedding.dtype == torch.uint8
    unpack(backbone)
    after = backbone.embedding.detach() * backbone.emphasis.exp()[:, None]
    step = before.abs().amax(1, keepdim=True) / 7
    assert ((after - before).abs() <= step * 0.5001).all()
    assert ((after - before).abs() > step * 0.4).any()


def test_only_embeddings_of_terms_are_packed(tmp_path):
    export(fresh.build("nano", SENTENCES, seed=0), tmp_path / "small")
    with pytest.raises(InputError, match="dtype int4 is for models of terms; use bfloat16"):
        ExportConfig(dtype="int4").load(str(tmp_path / "small"), device="cpu")


def test_loaded_and_exported_again_it_is_the_same_model(folder, encoder, tmp_path):
    for trusted in (False, True):
        again = zhihui.load(folder, device="cpu", trust_remote_code=trusted)
        assert again.fingerprint == encoder.fingerprint
        assert again.settings == encoder.settings
        assert not again.packable
        export_checked(again, tmp_path / "second", name="runs/terms/model", overwrite=True)
        files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        assert files == [
            p.relative_to(tmp_path / "second") for p in sorted((tmp_path / "second").rglob("*")) if p.is_file()
        ]
        for name in files:
            assert (folder / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_zhihui_runs_no_code_of_the_folder(encoder, tmp_path, monkeypatch):
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    # As in a process that has built no such model.
    monkeypatch.delitem(CONFIG_MAPPING._extra_content, encoder.backbone.config.model_type)
    export(encoder, tmp_path / "model")
    (tmp_path / "model" / CODE).write_text("raise RuntimeError('the code of the folder ran')\n", encoding="utf-8")
    for trusted in (False, True):
        loaded = zhihui.load(tmp_path / "model", device="cpu", trust_remote_code=trusted)
        assert gap(loaded.encode_queries(TEXTS), encoder.encode_queries(TEXTS)) == 0


def test_the_code_and_the_names_it_goes_by(folder):
    config = read(folder / "config.json")
    assert config["auto_map"] == {"AutoConfig": "modeling_terms.TermsConfig", "AutoModel": "modeling_terms.TermsModel"}
    assert config["architectures"] == ["TermsModel"]
    imported = re.findall(r"^(?:from|import) (\w+)", (folder / CODE).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(imported) == {"math", "torch", "transformers"}
    assert (
        read(folder / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
    )  # known to all versions


def test_weights_that_lack_a_part_are_refused(folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["folded"]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="its weights lack 1 tensors that the config asks for, such as folded"):
        zhihui.load(tmp_path / "model", device="cpu")


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_it_has_no_attention_to_set(folder, attention):
    with pytest.raises(InputError, match="zhihui_terms is an encoder and always bidirectional; leave out attention"):
        zhihui.load(folder, device="cpu", attention=attention)


def test_the_cards_examples_run_and_agree(folder, encoder, capsys):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| backbone | zhihui_terms, weighted terms and a learned sum of them, " in card
    assert "lets them run `modeling_terms.py`" in card
    assert '| document prompt | `"<|passage|>"` |' in card
    scores = []
    for block in re.findall(r"^```python\n(.*?)^```$", card, flags=re.MULTILINE | re.DOTALL):
        variables: dict[str, object] = {"__name__": "example"}
        exec(compile(block.replace("runs/terms/model", str(folder)), "<card>", "exec"), variables)
        scores.append(np.asarray(variables["scores"]))
    assert len(scores) == 2
    own = encoder.encode_queries(variables["queries"]) @ encoder.encode_documents(variables["documents"]).T
    for found in scores:
        assert gap(found, own) < 1e-5
    assert capsys.readouterr().out.count("[[") == 2
