"""Small random models of every family that can be exported, as their makers publish them; with tokenizers of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from zhihui.encoder import Encoder, load
from zhihui.encoder.settings import Pooling

VOCABULARY = 600
PASSAGES = (
    "租房合同到期后，房东应当在交接房屋、结清水电费之后退还押金，不得以墙面自然老化为由扣款。",
    "干香菇先用清水冲去浮灰，再用温水浸泡半小时，水里加一小撮白糖，泡得快而且香味不易流失。",
    "手机电池健康度低于百分之八十时续航会明显变短，可以到官方服务点更换原装电池。",
    "高铁车票开车前八天以上退票不收退票费，四十八小时以内退票要收票价百分之五的费用。",
    "孩子发烧不超过三十八度五，一般先用物理方法降温，多喝水，注意观察精神状态。",
    "公积金贷款的额度与缴存余额、缴存年限有关，各地规定不同，办理前应当查询当地政策。",
    "养绿萝不必每天浇水，等盆土表面发白再浇透，夏天避免阳光直射，冬天室温不要低于十度。",
    "社保断缴三个月以上，医疗保险的连续缴费年限要重新计算，买房买车的资格也可能受影响。",
    "煮米饭之前把大米浸泡二十分钟，米和水的比例大约是一比一点二，煮好后再焖十分钟。",
    "驾驶证有效期满前九十天内可以在网上申请换证，需要上传一张近期照片和体检证明。",
    "What does a retrieval model do? It turns text into vectors, 把文本变成向量，然后按相似度排序。",
)
"""Training text of the tokenizers, written for these tests."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model to export."""

    family: str
    pooling: Pooling = "lasttoken"
    attention: str | None = "bidirectional"
    dtype: str = "float32"
    dense: bool = False
    normalize: bool = True
    prompts: dict[str, str] = field(default_factory=lambda: {"query": "Instruct: 检索\nQuery: ", "document": ""})


CASES: dict[str, Case] = {
    "qwen2": Case(family="qwen2"),
    "qwen2-causal": Case(family="qwen2", attention=None),
    "qwen2-bf16": Case(family="qwen2", dtype="bfloat16"),
    "qwen2-dense": Case(family="qwen2", dense=True),
    "qwen2-dense-bf16": Case(family="qwen2", dense=True, dtype="bfloat16"),
    "qwen2-mean": Case(family="qwen2", pooling="mean", prompts={"query": "查询：", "document": "文档："}),
    "qwen3": Case(family="qwen3"),
    "llama": Case(family="llama"),
    "llama-mean": Case(family="llama", pooling="mean"),
    "mistral": Case(family="mistral"),
    "mistral-cls": Case(family="mistral", pooling="cls"),
    "bert-cls": Case(family="bert", pooling="cls", attention=None, prompts={"query": "为这个句子生成表示："}),
    "bert-mean-dense": Case(family="bert", pooling="mean", attention=None, dense=True, prompts={}),
    "xlm-roberta-cls": Case(family="xlm-roberta", pooling="cls", attention=None, normalize=False),
    "xlm-roberta-mean": Case(family="xlm-roberta", pooling="mean", attention=None),
}


def make(case: Case, texts: Sequence[str], folder: Path) -> Encoder:
    """Write the family's checkpoint into a folder and load it as the case says."""
    write_checkpoint(case.family, texts, folder)
    encoder = load(
        folder,
        device="cpu",
        dtype=case.dtype,
        max_length=48,
        pooling=case.pooling,
        attention=case.attention,  # type: ignore[arg-type]
        prompts=case.prompts,
    )
    encoder.settings = replace(encoder.settings, normalize=case.normalize)
    if case.dense:
        torch.manual_seed(1)
        encoder.dense = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 24, bias=False), nn.Identity())
        encoder.dense.to(encoder.dtype).eval()
    return encoder


def write_checkpoint(family: str, texts: Sequence[str], folder: Path) -> None:
    """Write a plain transformers checkpoint: weights large enough that a wrong mask or position shows."""
    make_tokenizer, make_model = _FAMILIES[family]
    tokenizer = make_tokenizer(texts)
    torch.manual_seed(0)
    model = make_model(tokenizer)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith("bias"):
                weights.normal_(std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family == "mistral":  # published under Llama's class, which builds its own template
        path = folder / "tokenizer_config.json"
        named = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "add_eos_token": False}
        path.write_text(json.dumps(json.loads(path.read_text()) | named))


# --------------------------------------------------------------------------- models


def _sizes(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "initializer_range": 0.15,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def _decoder(config: str, model: str, **more: Any) -> Callable[[Any], Any]:
    def build(tokenizer: Any) -> Any:
        import transformers

        rope = {"rope_type": "default", "rope_theta": 500.0}  # far from every default
        sizes = _sizes(tokenizer, num_key_value_heads=2, rope_parameters=rope, use_cache=False, **more)
        return getattr(transformers, model)(getattr(transformers, config)(**sizes))

    return build


def _encoder(config: str, model: str, **more: Any) -> Callable[[Any], Any]:
    def build(tokenizer: Any) -> Any:
        import transformers

        settings = getattr(transformers, config)(**_sizes(tokenizer, **more))
        return getattr(transformers, model)(settings, add_pooling_layer=False)

    return build


# --------------------------------------------------------------------------- tokenizers


def _qwen(texts: Sequence[str]) -> Any:
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer().train_new_from_iterator(texts, VOCABULARY, show_progress=False)
    # As the published ones: EOS of a chat, padding by another token, more special tokens, none of them at the end.
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    return tokenizer


_LLAMA_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


def _llama(texts: Sequence[str]) -> Any:
    """Llama 3's: bytes, BOS from the template, no padding token."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{special[0]} $A", pair=f"{special[0]} $A {special[0]}:1 $B:1", special_tokens=[(special[0], 0)]
            ),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1])


def _mistral(texts: Sequence[str]) -> Any:
    """SentencePiece's BPE with bytes to fall back on: word marks, BOS, no padding token."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"]
    named_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special + named_bytes, limit_alphabet=200, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in trained["merges"]]
    # Built again, for the bytes are pieces like others and no special tokens.
    model = models.BPE(trained["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    plain = Tokenizer(model)
    plain.normalizer, plain.decoder = tokenizer.normalizer, tokenizer.decoder
    plain.add_special_tokens(special)
    plain.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )


def _bert(texts: Sequence[str]) -> Any:
    from transformers import BertTokenizer

    return BertTokenizer(do_lower_case=True).train_new_from_iterator(texts, VOCABULARY, show_progress=False)


def _qwen3(texts: Sequence[str]) -> Any:
    """Qwen3-Embedding's: the template ends a text with the padding token, which is not EOS."""
    tokenizer = _qwen(texts)
    end = tokenizer.pad_token
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, tokenizer.pad_token_id)]
            ),
        ]
    )
    return tokenizer


def _xlm_roberta(texts: Sequence[str]) -> Any:
    from transformers import XLMRobertaTokenizer

    return XLMRobertaTokenizer().train_new_from_iterator(texts, 3000, show_progress=False)


_FAMILIES: dict[str, tuple[Callable[[Sequence[str]], Any], Callable[[Any], Any]]] = {
    "qwen2": (_qwen, _decoder("Qwen2Config", "Qwen2Model")),
    "qwen3": (_qwen3, _decoder("Qwen3Config", "Qwen3Model", head_dim=32)),
    "llama": (_llama, _decoder("LlamaConfig", "LlamaModel")),
    "mistral": (_mistral, _decoder("MistralConfig", "MistralModel", sliding_window=64)),
    "bert": (_bert, _encoder("BertConfig", "BertModel")),
    "xlm-roberta": (_xlm_roberta, _encoder("XLMRobertaConfig", "XLMRobertaModel", type_vocab_size=1)),
}
