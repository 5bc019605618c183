"""Cross-encoders: models that read a query and a passage together and say how well they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zhihui import progress
from zhihui.errors import InputError
from zhihui.records.hub import model_folder
from zhihui.runs import fingerprint, fingerprint_path

_TOKENS = 16384
"""Tokens computed together, padding included."""
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
# The words Qwen3-Reranker was trained with; another prompt gives other scores.
_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_PAIR = "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


class Reranker(Protocol):
    """A cross-encoder, as mining uses it."""

    @property
    def name(self) -> str:
        """Short name for messages."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the scores may."""

    def score(
        self, queries: Sequence[str], passages: Sequence[str], *, instruction: str | None = None
    ) -> NDArray[np.float32]:
        """Return how well each passage answers the query in its place, `[N]`, from 0 to 1."""


@progress.same_for_transformers()
def load_reranker(model: str | Path, *, device: str | None = None, max_length: int = 512) -> CrossEncoder:
    """Load a cross-encoder.

    A model for sequence classification gives the sigmoid of its one label or the probability of the second of two. A
    causal language model gives the probability of "yes" against "no" as its next token (Zhang et al. 2025,
    Qwen3-Reranker). Decoders of either kind read the pair in that model's prompt, with the instruction; encoders read
    the two texts as a pair, without.

    Args:
        model: folder or hub id.
        device: where to compute; None takes a GPU if there is one.
        max_length: tokens a pair is cut to, the passage's end first; at least 8.

    Raises:
        InputError: no such model, neither of the two kinds, more than two labels, no usable tokenizer, or no "yes" and
            "no" among its tokens.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from zhihui.ranking import bf16

    if max_length < 8:
        raise InputError(f"max_length is {max_length}; a pair needs at least 8 tokens")
    folder = model_folder(model)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # Said, or transformers would ask on a terminal whether to run code that comes with a model.
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        kind = _auto_class(config, str(model))
        # Where bf16 is emulated, weights stored in it are computed in fp32.
        dtype = "auto" if bf16.is_native(device) else torch.float32
        network = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True).to(device).eval()
    except InputError:
        raise
    except Exception as error:  # an unusable config, tokenizer or weights fail in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{model}: cannot be loaded as a cross-encoder ({reason})") from None
    digest = fingerprint([fingerprint_path(folder), max_length, str(network.dtype), _BEFORE, _PAIR, _AFTER])
    return CrossEncoder(network, tokenizer, name=Path(str(model)).name, fingerprint=digest, max_length=max_length)


class CrossEncoder:
    """A `Reranker` by a transformers model."""

    def __init__(self, network: Any, tokenizer: Any, *, name: str, fingerprint: str, max_length: int) -> None:
        """Take a loaded model; `load_reranker` makes one.

        Raises:
            InputError: more than two labels, or no "yes" and "no" among the tokens.
        """
        self.name, self.fingerprint = name, fingerprint
        self._network, self._tokenizer, self._max_length = network, tokenizer, max_length
        self._is_decoder = _is_decoder(network.config)
        self._answers: list[int] | None = None
        if not _classifies(network.config):
            self._answers = tokenizer.convert_tokens_to_ids(["no", "yes"])
            if len(set(self._answers) - {None, tokenizer.unk_token_id}) < 2:
                raise InputError(f'{name}: "yes" and "no" are not tokens of it; give a yes/no reranker')
        elif network.config.num_labels > 2:
            raise InputError(f"{name}: has {network.config.num_labels} labels; a cross-encoder has 1, or 2 (no, yes)")
        self._pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        if _classifies(network.config) and network.config.pad_token_id is None:
            network.config.pad_token_id = self._pad  # by it a decoder's head finds the last token

    def score(
        self, queries: Sequence[str], passages: Sequence[str], *, instruction: str | None = None
    ) -> NDArray[np.float32]:
        """Return how well each passage answers the query in its place, `[N]`, from 0 to 1.

        Raises:
            ValueError: different numbers of queries and passages.
        """
        rows = self.token_rows(queries, passages, instruction)
        scores = np.empty(len(rows), dtype=np.float32)
        with progress.bar(len(rows), "score pairs") as bar:
            for numbers in _batches([len(row["input_ids"]) for row in rows]):
                scores[numbers] = self._score([rows[number] for number in numbers])
                bar.advance(len(numbers))
        return scores

    def token_rows(
        self, queries: Sequence[str], passages: Sequence[str], instruction: str | None
    ) -> list[dict[str, list[int]]]:
        """Return each pair as the model reads it: `input_ids`, and `token_type_ids` where it has them.

        Raises:
            ValueError: different numbers of queries and passages.
            InputError: the prompt leaves no room for a pair.
        """
        pairs = list(zip(queries, passages, strict=True))
        if not self._is_decoder:
            found = [
                self._tokenizer(query, passage, truncation="longest_first", max_length=self._max_length)
                for query, passage in pairs
            ]
            return [{name: list(row[name]) for name in row} for row in found]
        before, after = (self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in (_BEFORE, _AFTER))
        room = self._max_length - len(before) - len(after)
        if room < 1:
            raise InputError(f"{self.name}: max_length {self._max_length} leaves no room for a pair; give more")
        rows = []
        for query, passage in pairs:
            text = _PAIR.format(instruction=instruction or _INSTRUCTION, query=query, passage=passage)
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            rows.append({"input_ids": [*before, *ids[:room], *after]})
        return rows

    def _score(self, rows: list[dict[str, list[int]]]) -> NDArray[np.float32]:
        """Return the scores of one batch; padded on the left, the last token is in the last column."""
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self._pad, "attention_mask": 0, "token_type_ids": 0}
        rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        if self._is_decoder:
            padded = {n: [[fill[n]] * (longest - len(r[n])) + r[n] for r in rows] for n in rows[0]}
        else:
            padded = {n: [r[n] + [fill[n]] * (longest - len(r[n])) for r in rows] for n in rows[0]}
        inputs: dict[str, Any] = {
            name: torch.tensor(value, device=self._network.device) for name, value in padded.items()
        }
        if self._is_decoder:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        if self._answers is not None:
            inputs["logits_to_keep"] = 1
        with torch.inference_mode():
            logits = self._network(**inputs).logits.float()
        if self._answers is not None:
            return logits[:, -1, self._answers].softmax(1)[:, 1].cpu().numpy()
        if logits.shape[1] == 1:
            return logits[:, 0].sigmoid().cpu().numpy()
        return logits.softmax(1)[:, 1].cpu().numpy()


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows of like length, the longest first, within the budget of tokens."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > _TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _auto_class(config: Any, name: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if _classifies(config):
        return AutoModelForSequenceClassification
    if any(each.endswith("ForCausalLM") for each in config.architectures or ()):
        return AutoModelForCausalLM
    raise InputError(
        f"{name}: is a {', '.join(config.architectures or ['model of no named kind'])}; a cross-encoder is a model "
        "for sequence classification or a causal language model"
    )


def _classifies(config: Any) -> bool:
    return any(each.endswith("ForSequenceClassification") for each in config.architectures or ())


def _is_decoder(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
