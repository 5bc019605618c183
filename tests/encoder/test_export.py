from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import CASES, PASSAGES, make, write_checkpoint

import zhihui
from zhihui.encoder import EncoderSettings, build
from zhihui.encoder import modeling_zhihui as modeling
from zhihui.encoder.export import export
from zhihui.encoder.export_check import export_checked, tolerance, verify_export
from zhihui.errors import InputError, RunFailure

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import check_exports

QUICK = ("qwen2", "qwen2-dense-bf16", "llama", "mistral-cls", "bert-mean-dense", "xlm-roberta-mean")
"""One case a family, with every pooling and dtype among them; the others are slow only by their number."""


@pytest.fixture(autouse=True)
def code_elsewhere(tmp_path, monkeypatch):
    """Keep the code that models bring out of the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def encoder():
    return build(
        "tiny", PASSAGES, seed=0, settings=EncoderSettings(max_length=64, prompts={"query": "问：", "document": ""})
    )


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def edit(path: Path, **changes):
    path.write_text(json.dumps(read(path) | changes, ensure_ascii=False), encoding="utf-8")


def names(folder: Path):
    return sorted(path.name for path in folder.iterdir())


# --------------------------------------------------------------------------- the same vectors


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_every_loader_gives_the_encoders_vectors(name, tmp_path):
    check_exports.write(tmp_path, [name])
    failures: list[str] = []
    cells = {}
    reference = read(tmp_path / name / "reference.json")
    for column in check_exports.COLUMNS:
        if check_exports.skipped(column, reference, (5, 23)) is None:
            cells[column] = check_exports.cell(tmp_path / name, reference, column, failures)
    assert failures == []
    assert {"st", "st plain"} <= set(cells)
    # Loaded and exported again, it is the same model.
    again = zhihui.load(tmp_path / name / "model", device="cpu")
    for role, texts in reference["texts"].items():
        assert again.encode(texts, role=role) == pytest.approx(np.array(reference["vectors"][role]), abs=1e-7)
    export(again, tmp_path / "second" / "model")
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json"):
        assert read(tmp_path / "second" / "model" / file) == read(tmp_path / name / "model" / file)
    weights = "model.safetensors"
    assert (tmp_path / "second" / "model" / weights).read_bytes() == (tmp_path / name / "model" / weights).read_bytes()


def test_loaded_again_it_has_the_same_fingerprint(encoder, tmp_path):
    encoder.encode_queries(["好"])
    export(encoder, tmp_path / "model")
    again = zhihui.load(tmp_path / "model", device="cpu")
    assert again.fingerprint == encoder.fingerprint
    assert again.settings == encoder.settings
    tokenizer = read(tmp_path / "model" / "tokenizer.json")
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)  # encoding set them in the encoder's


def test_the_comparison_sees_a_wrong_model(tmp_path):
    check_exports.write(tmp_path, ["qwen2"])
    reference = read(tmp_path / "qwen2" / "reference.json")
    edit(tmp_path / "qwen2" / "model" / "config.json", is_causal=True)
    failures: list[str] = []
    assert check_exports.cell(tmp_path / "qwen2", reference, "right", failures).startswith("*")
    edit(
        tmp_path / "qwen2" / "model" / "config.json",
        is_causal=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    assert check_exports.cell(tmp_path / "qwen2", reference, "right", failures).startswith("*")
    assert len(failures) == 2


def test_eos_ends_a_cut_text_too(encoder, tmp_path):
    from transformers import AutoTokenizer

    export(encoder, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in ("好", "很长的文本" * 50):
        ids = tokenizer(text, truncation=True, max_length=64)["input_ids"]
        assert ids[-1] == encoder.tokenizer.eos_token_id
    assert len(ids) == 64


# --------------------------------------------------------------------------- files


def test_names_that_older_versions_read(tmp_path):
    export(make(CASES["mistral-cls"], PASSAGES, tmp_path / "checkpoint"), tmp_path / "model")
    config = read(tmp_path / "model" / "config.json")
    assert (config["rope_theta"], config["rope_scaling"], config["torch_dtype"]) == (500.0, None, "float32")
    assert config["architectures"] == ["MistralModel"]
    assert "import MistralModel as Base" in (tmp_path / "model" / "modeling_zhihui.py").read_text()
    tokenizer = read(tmp_path / "model" / "tokenizer_config.json")
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["pad_token"] == "</s>"  # it had none
    assert tokenizer["padding_side"] == "right"  # it was left; the first token must be in column 0
    merges = read(tmp_path / "model" / "tokenizer.json")["model"]["merges"]
    assert merges
    assert all(isinstance(merge, str) for merge in merges)


def test_a_scaled_rotary_embedding_under_its_older_names(encoder, tmp_path):
    encoder.backbone.config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    export(encoder, tmp_path / "model")
    config = read(tmp_path / "model" / "config.json")
    assert config["rope_scaling"] == {"rope_type": "linear", "type": "linear", "factor": 2.0}


def test_special_tokens_are_a_list_only_under_the_older_name(tmp_path):
    export(make(CASES["qwen2"], PASSAGES, tmp_path / "checkpoint"), tmp_path / "model")
    tokenizer = read(tmp_path / "model" / "tokenizer_config.json")
    assert tokenizer["additional_special_tokens"] == ["<|im_start|>", "<|im_end|>"]
    assert not {"extra_special_tokens", "is_local", "local_files_only"} & set(tokenizer)


def test_a_word_piece_tokenizer_gets_no_merges(tmp_path):
    export(make(CASES["bert-cls"], PASSAGES, tmp_path / "checkpoint"), tmp_path / "model")
    assert "merges" not in read(tmp_path / "model" / "tokenizer.json")["model"]


def test_code_goes_only_with_an_open_decoder(tmp_path):
    write_checkpoint("qwen2", PASSAGES, tmp_path / "checkpoint")
    edit(tmp_path / "checkpoint" / "config.json", auto_map={"AutoModel": "modeling_other.Model"})
    for attention in ("causal", "bidirectional"):
        model = zhihui.load(tmp_path / "checkpoint", device="cpu", attention=attention)
        export(model, tmp_path / attention)
    assert "auto_map" not in read(tmp_path / "causal" / "config.json")
    assert not list((tmp_path / "causal").glob("*.py"))
    assert read(tmp_path / "bidirectional" / "config.json")["auto_map"] == {
        "AutoModel": "modeling_zhihui.BidirectionalModel"
    }


@pytest.mark.parametrize("attention", [None, "causal"])
def test_a_model_loaded_with_the_code_it_brought(encoder, attention, tmp_path):
    export(encoder, tmp_path / "first")
    again = zhihui.load(tmp_path / "first", device="cpu", trust_remote_code=True, attention=attention)
    assert type(again.backbone).__name__ == "BidirectionalModel"
    export_checked(again, tmp_path / "second")
    config = read(tmp_path / "second" / "config.json")
    assert ("auto_map" in config) == ("modeling_zhihui.py" in names(tmp_path / "second")) == (attention is None)
    assert config["architectures"] == ["Qwen2Model"]


def test_a_model_with_code_of_its_own_is_refused(encoder, tmp_path):
    class Own(type(encoder.backbone)):
        pass

    encoder.backbone.__class__ = Own
    with pytest.raises(InputError, match=r"fresh-tiny: its code is its own \(test_export\..*Own\)"):
        export(encoder, tmp_path / "model")
    assert names(tmp_path) == []


def test_a_tokenizer_that_cannot_pad_is_refused(encoder, tmp_path):
    encoder.tokenizer.pad_token = encoder.tokenizer.eos_token = None
    with pytest.raises(InputError, match="neither a padding token nor EOS"):
        export(encoder, tmp_path / "model")


def test_the_card(tmp_path, encoder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export(encoder, Path("runs/a"))
    card = (tmp_path / "runs" / "a" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    assert "\n# a\n" in card
    assert card.count('"runs/a", trust_remote_code=True') == 3
    assert "| length | 64 tokens, prompt included |" in card
    assert '| query prompt | `"问："` |' in card
    assert "read this model as causal without it" in card
    assert "\n\n\n\n" not in card
    export(encoder, tmp_path / "b")
    assert str(tmp_path) not in (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    export(encoder, tmp_path / "c", name="org/model")
    assert '("org/model", trust' in (tmp_path / "c" / "README.md").read_text(encoding="utf-8")


# --------------------------------------------------------------------------- whole or not at all


def test_a_taken_place(encoder, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="exists and is not an exported model"):
            export(encoder, tmp_path / "other", overwrite=overwrite)
        with pytest.raises(InputError, match="exists and is not an exported model"):
            export(encoder, tmp_path / "file", overwrite=overwrite)
    with pytest.raises(InputError, match=r"file/model: .*file is a file"):
        export(encoder, tmp_path / "file" / "model")
    with pytest.raises(InputError, match="give it a name"):
        export(encoder, Path())
    (tmp_path / "empty").mkdir()
    export(encoder, tmp_path / "empty")
    with pytest.raises(InputError, match=r"already holds a model; .*--overwrite"):
        export(encoder, tmp_path / "empty")
    (tmp_path / "empty" / "stale.bin").touch()
    export(encoder, tmp_path / "empty", overwrite=True)
    assert "stale.bin" not in names(tmp_path / "empty")
    assert names(tmp_path) == ["empty", "file", "other"]


@pytest.mark.parametrize("make_export", [export, export_checked])
def test_what_a_killed_export_left_is_not_taken_over(make_export, encoder, tmp_path):
    left = tmp_path / ".model.partial"
    left.mkdir()
    (left / "pytorch_model.bin").touch()
    make_export(encoder, tmp_path / "model")
    assert names(tmp_path) == ["model"]
    assert "pytorch_model.bin" not in names(tmp_path / "model")


@pytest.mark.parametrize("make_export", [export, export_checked])
def test_a_failure_leaves_what_was_there(make_export, encoder, tmp_path, monkeypatch):
    export(encoder, tmp_path / "model")
    before = (tmp_path / "model" / "README.md").stat().st_ino

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("zhihui.encoder.export._write_modules", fail)
    with pytest.raises(OSError, match="disk full"):
        make_export(encoder, tmp_path / "model", overwrite=True)
    with pytest.raises(OSError, match="disk full"):
        make_export(encoder, tmp_path / "new")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "README.md").stat().st_ino == before


# --------------------------------------------------------------------------- verification


def test_verification_passes_what_is_right(encoder, tmp_path):
    assert 0 < export_checked(encoder, tmp_path / "model") < 1e-6
    assert encoder.training is False


def causal(folder):
    edit(folder / "config.json", is_causal=True)


def without_eos(folder):
    edit(folder / "tokenizer.json", post_processor=None)


def mean_pooled(folder):
    edit(folder / "1_Pooling" / "config.json", pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)


def without_modules(folder):
    (folder / "modules.json").unlink()


def without_prompts(folder):
    edit(folder / "config_sentence_transformers.json", prompts={"query": "", "document": ""})


def shorter(folder):
    edit(folder / "sentence_bert_config.json", max_seq_length=32)


def without_weights(folder):
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (causal, "vectors that differ by .* in transformers, padded on the right; at most 1.0e-05"),
        (without_eos, "vectors that differ by .* in transformers, padded on the right"),
        (mean_pooled, "vectors that differ by .* in sentence-transformers"),
        (without_modules, "cannot be used with sentence-transformers"),
        (without_prompts, "query vectors that differ by .* in sentence-transformers"),
        (shorter, "cannot be used with sentence-transformers .it cuts texts to 32 tokens, not 64"),
        (without_weights, "cannot be used with transformers, padded on the right"),
    ],
)
def test_verification_sees_what_is_wrong(harm, message, tmp_path):
    encoder = make(CASES["qwen2"], PASSAGES, tmp_path / "checkpoint")
    encoder.settings = EncoderSettings(max_length=64, prompts={"query": "问：", "document": ""})
    export(encoder, tmp_path / "model")
    harm(tmp_path / "model")
    with pytest.raises(RunFailure, match=message):
        verify_export(encoder, tmp_path / "model")


def test_what_fails_verification_is_not_put_in_place(encoder, tmp_path, monkeypatch):
    export(encoder, tmp_path / "model")
    before = (tmp_path / "model" / "README.md").stat().st_ino
    monkeypatch.setattr("zhihui.encoder.export_check.tolerance", lambda _: -1.0)
    for name in ("model", "new"):
        with pytest.raises(RunFailure, match=r"at most -1\.0e"):
            export_checked(encoder, tmp_path / name, overwrite=True)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "README.md").stat().st_ino == before


def test_verification_without_sentence_transformers(encoder, tmp_path, monkeypatch):
    export(encoder, tmp_path / "model")
    mean_pooled(tmp_path / "model")
    monkeypatch.setattr("zhihui.encoder.export_check.find_spec", lambda _: None)
    assert verify_export(encoder, tmp_path / "model") < 1e-6


def test_verification_is_silent_and_leaves_logging_as_it_was(encoder, tmp_path, capfd):
    from transformers.utils import logging as transformers_logging

    export(encoder, tmp_path / "model")
    level = logging.getLogger("sentence_transformers").level
    before = (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled(), level)
    capfd.readouterr()
    verify_export(encoder, tmp_path / "model")
    assert capfd.readouterr() == ("", "")
    level = logging.getLogger("sentence_transformers").level
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled(), level) == before


@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float32, 1e-5), (torch.bfloat16, 1 / 32), (torch.float16, 1 / 256)]
)
def test_the_tolerance_is_that_of_the_dtype(dtype, allowed):
    # 64 numbers in a unit vector are 1/8 each; bf16 has 8 significant bits and fp16 has 11.
    assert tolerance(SimpleNamespace(dtype=dtype, dimension=64)) == allowed


# --------------------------------------------------------------------------- the code that models bring


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The code's model as transformers before 5.2 builds it: there the config opens nothing."""
    encoder = make(CASES["qwen2"], PASSAGES, tmp_path / "checkpoint")
    expected = type(encoder.backbone)._from_config(encoder.backbone.config, attn_implementation="sdpa")
    expected.load_state_dict(encoder.backbone.state_dict())
    monkeypatch.setattr(modeling, "HONOURED", False)
    model = modeling.BidirectionalModel._from_config(encoder.backbone.config, attn_implementation="sdpa")
    model.load_state_dict(encoder.backbone.state_dict())
    model.config.is_causal = True
    expected.config = type(expected.config)(**{**expected.config.to_dict(), "is_causal": False})
    return model.eval(), expected.eval()


def states(model, mask, **options):
    ids = torch.arange(1, 1 + mask.numel()).view(mask.shape)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask, **options).last_hidden_state[mask.bool()]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_the_code_opens_a_causal_model(opened, side, implementation):
    model, expected = opened
    mask = torch.ones(3, 9, dtype=torch.long)
    if side != "none":
        mask[1, :4] = 0
        mask = mask if side == "left" else mask.flip(1)
    for each in opened:
        each.set_attn_implementation(implementation)
    assert states(model, mask) == pytest.approx(states(expected, mask), abs=1e-5)
    model.opened = False
    for layer in model.layers:
        layer._forward_pre_hooks.clear()
    assert states(model, mask) != pytest.approx(states(expected, mask), abs=1e-2)


def test_the_code_refuses_what_it_cannot_open(opened):
    model, _ = opened
    with pytest.raises(ValueError, match=r"attention_mask must be \[B, L\], not \[1, 1, 4, 4\]"):
        model(input_ids=torch.ones(1, 4, dtype=torch.long), attention_mask=torch.ones(1, 1, 4, 4))
    model.config.sliding_window, model.config.use_sliding_window = 8, True
    with pytest.raises(ValueError, match="texts of 9 tokens exceed the window of 8"):
        states(model, torch.ones(1, 9, dtype=torch.long))
    states(model, torch.ones(1, 8, dtype=torch.long))


def test_the_code_refuses_a_rotary_scale_that_would_be_ignored(monkeypatch):
    config = SimpleNamespace(rope_scaling={"rope_type": "linear", "factor": 2.0})
    monkeypatch.setattr(modeling, "SCALES_ROTARY", False)
    with pytest.raises(ValueError, match=r"update to transformers 4\.51"):
        modeling.BidirectionalModel(config)


def layer_with(implementation):
    config = SimpleNamespace(_attn_implementation=implementation)
    return SimpleNamespace(self_attn=SimpleNamespace(config=config))


def test_masks_of_other_attentions():
    tokens = torch.zeros(2, 5, 8)
    assert modeling.open_mask(layer_with("flash_attention_2"), (tokens,), {"attention_mask": None}) is None
    with pytest.raises(ValueError, match=r"needs transformers 5\.2"):
        modeling.open_mask(layer_with("flex_attention"), (tokens,), {"attention_mask": object()})
    _, options = modeling.open_mask(layer_with("sdpa"), (), {"hidden_states": tokens, "attention_mask": None})
    assert torch.equal(options["attention_mask"], torch.zeros(2, 1, 5, 5))
    causal_mask = torch.ones(2, 1, 5, 7).tril().bool()  # wider than the text, as a cache makes it
    args, options = modeling.open_mask(layer_with("sdpa"), (tokens, causal_mask, "positions"), {"use_cache": False})
    assert args[1].all()
    assert (args[1].shape, args[2], options) == ((2, 1, 5, 5), "positions", {"use_cache": False})
