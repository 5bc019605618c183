from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize
from transformers import Qwen2Config, Qwen2Model

from zhihui.encoder.fresh import train_tokenizer
from zhihui.errors import InputError
from zhihui.training.loss import Layout, LossConfig, info_nce
from zhihui.training.st_loss import HardnessInfoNCE

ROWS = [
    ("泡绿茶用多热的水", "绿茶用八十度的水冲泡，茶汤不苦。", "红茶要用沸水冲泡。"),
    ("小猫几个月打疫苗", "小猫满两个月以后可以接种疫苗。", "小狗每年要打一次狂犬疫苗。"),
    ("图书馆几点关门", "图书馆周末开放到晚上九点。", "书店每天十点开门。"),
    ("高铁票怎么改签", "高铁车票发车前可以免费改签一次。", "飞机票改签要收手续费。"),
    ("番茄炒蛋先放什么", "番茄炒蛋要先炒鸡蛋再炒番茄。", "蛋炒饭要用隔夜的米饭。"),
    ("电动车冬天跑不远", "电动汽车冬天续航会缩短。", "汽油车冬天要先热车。"),
    ("台风天要带什么", "台风登陆会下大雨，出门带好雨具。", "晴天出门注意防晒。"),
    ("发烧三天怎么办", "发烧超过三天应当去医院检查。", "感冒要多喝水多休息。"),
]


class FixedVectors(nn.Module):
    """A model whose vectors are given by the first token id."""

    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(vectors)

    def forward(self, features):
        return {"sentence_embedding": self.table[features["input_ids"][:, 0]]}


def column(ids: list[int], *, width: int = 3) -> dict[str, torch.Tensor]:
    """Texts of one token each, padded to a width."""
    padded = torch.zeros(len(ids), width, dtype=torch.long)
    padded[:, 0] = torch.tensor(ids)
    mask = torch.zeros_like(padded)
    mask[:, 0] = 1
    return {"input_ids": padded, "attention_mask": mask}


def test_it_is_the_closed_form_behind_autograd():
    torch.manual_seed(0)
    model = FixedVectors(torch.randn(9, 6))
    config = LossConfig(temperature=0.1, hardness="additive", distillation=0.5, learn_temperature=True)
    loss_module = HardnessInfoNCE(model, config)
    grades = torch.tensor([[3.0, 1.0], [2.0, torch.nan], [0.5, 0.1]])
    # Passage 3 is also the second query's hard negative, in a column of another width: an equal text.
    columns = [column([0, 1, 2]), column([3, 4, 5]), column([6, 3, 8], width=5)]
    loss = loss_module(columns, grades)
    (2 * loss).backward()

    table = model.table.detach().clone().requires_grad_()
    vectors = normalize(table, dim=-1)
    places = torch.tensor([3, 4, 5, 6, 3, 8])
    layout = Layout(
        owner=torch.tensor([0, 1, 2, 0, 1, 2]),
        is_positive=torch.tensor([True] * 3 + [False] * 3),
        passage_key=places,
        query_key=torch.arange(3),
        grade=grades.T.flatten(),
    )
    wanted = info_nce(vectors[:3], vectors[places], layout, config)
    torch.autograd.backward([vectors[:3], vectors[places]], [2 * wanted.queries, 2 * wanted.passages])
    assert float(loss.detach()) == pytest.approx(float(wanted.loss))
    torch.testing.assert_close(model.table.grad, table.grad)
    assert table.grad.abs().max() > 1e-3
    assert loss_module.learned is not None
    assert float(loss_module.learned.log.grad) == pytest.approx(2 * 0.1 * float(wanted.temperature), rel=1e-5)
    assert loss_module.masked == wanted.masked
    assert int(wanted.masked.known) == 1


def test_inputs_without_token_ids_equal_no_other():
    model = nn.Module()
    model.forward = lambda features: {"sentence_embedding": features["pixel_values"]}
    loss = HardnessInfoNCE(model, LossConfig(false_negative_margin=None))
    loss([{"pixel_values": torch.ones(3, 4)}, {"pixel_values": torch.ones(3, 4)}])
    assert loss.masked is not None
    assert int(loss.masked.known) == 0


def test_missing_columns_and_grades_are_refused():
    loss = HardnessInfoNCE(FixedVectors(torch.eye(6)), LossConfig(distillation=1.0))
    with pytest.raises(InputError, match="has 1 text column"):
        loss([column([0, 1])])
    with pytest.raises(InputError, match=r"labels \[2, 1\]; they are none"):
        loss([column([0, 1]), column([2, 3])])
    with pytest.raises(InputError, match=r"they are of shape \[2\]"):
        loss([column([0, 1]), column([2, 3])], torch.zeros(2))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of a few thousand weights."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([text for row in ROWS for text in row], 400)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2Model(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_it_trains_in_sentence_transformers_own_trainer(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.models import Pooling, Transformer

    word = Transformer(str(model_folder))
    model = SentenceTransformer(modules=[word, Pooling(32, pooling_mode="lasttoken")], device="cpu")
    config = LossConfig(
        temperature=0.1, hardness="additive", strength=2.0, learn_temperature=True, distillation=0.2, matryoshka=(32, 8)
    )
    loss = HardnessInfoNCE(model, config)
    names = ("anchor", "positive", "negative")
    data = {name: [row[place] for row in ROWS] for place, name in enumerate(names)}
    data["label"] = [[2.0, -2.0]] * len(ROWS)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        max_steps=12,
        learning_rate=5e-3,
        lr_scheduler_type="constant",
        seed=0,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=Dataset.from_dict(data), loss=loss)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    assert any(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert abs(loss.temperature - 0.1) > 1e-4, "the learned temperature stood still"
    assert json.loads(json.dumps(loss.get_config_dict()))["hardness"] == "additive"  # goes into the model card
