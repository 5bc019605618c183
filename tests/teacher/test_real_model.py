"""The wire against a real model: a tiny one that generates freely, or only what a JSON schema allows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from loopback import Loopback, completion
from questions import Grade, ask, teacher
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from zhihui.teacher import Parameters

TOKENIZER = Path(__file__).parents[1] / "encoder" / "data" / "tokenizer.json"
ALLOWED = [f'{{"grade": {grade}, "reason": "{reason}"}}' for grade in range(5) for reason in ("答了", "没有答")]


class Served:
    """A model of two layers behind the API; a JSON schema narrows decoding to the answers above."""

    def __init__(self) -> None:
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = Qwen2Config(
            vocab_size=len(self.tokenizer), num_key_value_heads=2, initializer_range=0.5, eos_token_id=0, **shape
        )
        self.model = Qwen2ForCausalLM(config).eval()
        self.paths = [[*self.tokenizer.encode(text, add_special_tokens=False), 0] for text in ALLOWED]
        self.usage: Counter[str] = Counter()

    def __call__(self, call):
        text = "\n".join(f"{message['role']}: {message['content']}" for message in call.body["messages"])
        prompt = torch.tensor([self.tokenizer.encode(text, add_special_tokens=False)])

        def allowed(_, ids):
            said = ids[prompt.shape[1] :].tolist()
            return [path[len(said)] for path in self.paths if path[: len(said)] == said]

        with torch.no_grad():
            ids = self.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=call.body["max_tokens"],
                do_sample=False,
                pad_token_id=0,
                prefix_allowed_tokens_fn=allowed if call.form == "json_schema" else None,
            )[0, prompt.shape[1] :].tolist()
        finish = "stop" if 0 in ids else "length"
        self.usage.update(calls=1, prompt_tokens=prompt.shape[1], answer_tokens=len(ids))
        said = self.tokenizer.decode([one for one in ids if one], skip_special_tokens=False)
        return completion(said, finish=finish, prompt=prompt.shape[1], answer=len(ids))


@pytest.fixture(scope="module")
def served() -> Served:
    return Served()


def test_a_model_that_is_held_to_the_schema_answers_every_question(tmp_path, served):
    served.usage.clear()
    with Loopback(served) as server, teacher(tmp_path, server.url, timeout=60.0) as asked:
        found = list(asked.ask((ask(number) for number in range(3)), label="t"))
        assert all(isinstance(one.value, Grade) and one.value.reason in ("答了", "没有答") for one in found)
        counts = asked.counts
    assert {name: counts[name] for name in served.usage} == served.usage
    assert served.usage["calls"] == 3


def test_a_model_that_babbles_fails_by_name_and_within_the_length_allowed(tmp_path, served):
    served.usage.clear()
    short = Parameters(max_answer_tokens=12)
    with (
        Loopback(served) as server,
        teacher(tmp_path, server.url, answers="text", parameters=short, timeout=60.0) as asked,
    ):
        found = list(asked.ask((ask(number) for number in range(2)), label="t"))
        counts = asked.counts
    assert {one.failure for one in found} <= {"cut_off", "not_json", "wrong_schema"}
    assert {name: counts[name] for name in served.usage} == served.usage
    assert counts["answer_tokens"] <= counts["calls"] * 12
