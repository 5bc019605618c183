"""Small models with random weights that matter, the sentences they read, and slow references to hold them against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

SENTENCES = [
    "清晨的湖面上飘着一层薄薄的雾气。",
    "泡绿茶的水温不要超过八十五度，否则茶汤会发苦。",
    "自行车链条生锈了，可以先用旧牙刷刷干净再上油。",
    "这家小店的牛肉面汤头浓郁，面条劲道。",
    "孩子发烧时要多喝温水，并注意观察精神状态。",
    "高铁从北京到上海最快只要四个多小时。",
    "如何给盆栽番茄搭架子？",
    "图书馆每周一闭馆，其余时间九点开门。",
    "他花了三年时间，终于把那本词典编完了。",
    "冬天开车前最好先热一热发动机。",
    "小猫第一次洗澡要注意什么",
    "租房合同里应当写明押金退还的条件。",
    "月亮为什么有时候看起来特别大？",
    "土豆发芽以后就不能再吃了。",
    "她在院子里种了两棵桂花树，秋天满院飘香。",
    "身份证丢了怎么补办",
    "跑步时膝盖疼，可能是鞋子不合适，也可能是姿势不对。",
    "雨伞用完要撑开晾干，不然容易发霉。",
    "这座古桥建于宋代，至今仍在使用。",
    "手机进水以后不要急着充电。",
    "Python 里怎样把列表倒序？用 reversed 或者切片 [::-1]。",
    "圆周率约等于3.14159，常用希腊字母π表示。",
    "空调外机漏水是什么原因",
    "鄰居送來一籃剛摘的枇杷，又甜又多汁。",
]
TASK = "给定一个问题，找出能回答它的段落"
PROMPT = f"Instruct: {TASK}\nQuery: "

FAMILIES: dict[str, tuple[Any, Any]] = {
    "qwen2": (Qwen2Config, Qwen2Model),
    "qwen3": (Qwen3Config, Qwen3Model),
    "llama": (LlamaConfig, LlamaModel),
    "mistral": (MistralConfig, MistralModel),
    "bert": (BertConfig, BertModel),
    "roberta": (RobertaConfig, RobertaModel),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaModel),
}
DECODERS = ("qwen2", "qwen3", "llama", "mistral")
ENCODERS = ("bert", "roberta", "xlm-roberta")


def small_model(
    family: str, *, causal: bool = True, window: int | None = None, vocabulary: int = 120, seed: int = 0, **extra: Any
) -> Any:
    """Return a backbone of two layers; decoders have four heads on two key-value heads."""
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    if family in DECODERS:
        settings |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "is_causal": causal}
        settings |= {"pad_token_id": None, "bos_token_id": None, "eos_token_id": 0}
        if family == "mistral":
            settings["sliding_window"] = window
        elif window is not None:
            # The second layer slides, the first sees everything.
            settings |= {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1}
        if family in ("qwen3", "mistral"):
            settings["head_dim"] = 16
    else:
        settings |= {"pad_token_id": 0 if family == "bert" else 1, "max_position_embeddings": 66}
    config_class, model_class = FAMILIES[family]
    options = {"add_pooling_layer": False} if family in ENCODERS else {}
    config = config_class(**settings | extra)
    config._attn_implementation = "eager"
    model = model_class(config, **options).eval()
    # The usual initialisation is so small that attention hardly matters: a leak would hide in the rounding.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if "norm" in name.lower() and name.endswith("weight") else 0.3 * noise)
    return model


def random_ids(lengths: tuple[int, ...], *, vocabulary: int = 120, seed: int = 0) -> list[list[int]]:
    """Return token sequences without special ids (those below 5)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, vocabulary, (n,), generator=generator).tolist() for n in lengths]


def states_alone(backbone: Any, ids: list[int]) -> Tensor:
    """Return the states `[L, D]` of one sequence by transformers' own attention, without any padding."""
    row = torch.tensor([ids])
    return backbone(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state[0]


def gap(first: Any, second: Any) -> float:
    """Return the largest difference between two arrays of one shape."""
    first, second = torch.as_tensor(first), torch.as_tensor(second)
    assert first.shape == second.shape
    return float((first - second).abs().max())
