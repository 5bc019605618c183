"""Bidirectional adaptation: a decoder whose causal mask was removed learns to use what it now sees, from raw text.

It comes before contrastive training, which it spares the unlearning of one direction (LLM2Vec).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.utils.data import Dataset

from zhihui.encoder.encoder import Encoder, packed_states
from zhihui.encoder.export_check import export_checked
from zhihui.encoder.packing import Packed, plan_batches
from zhihui.encoder.texts import read_texts
from zhihui.encoder.tokens import tokenize
from zhihui.errors import InputError, require
from zhihui.runs import Manifest, fingerprint, run_stage
from zhihui.training.history import History, last_checkpoint
from zhihui.training.lora import LoraSettings, apply_lora, merge_lora
from zhihui.training.masking import Hidden, hide, mask_id, prediction_loss

MODEL = "model"
_CHECKPOINTS = "checkpoints"
_CHECKED = 16
"""Texts on which the merging of adapters is checked."""
Head = Literal["tied", "fresh"]


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """A run of masked next-token prediction."""

    share: float = 0.2
    """Share of a text's tokens that is hidden."""
    mask: str | None = None
    """Text of the token that hides others; None for the tokenizer's own, or "_"."""
    head: Head = "tied"
    """What predicts tokens from states: the embeddings themselves, or a copy that learns apart and is thrown away."""
    lora: LoraSettings | None = None
    """Adapters to train in place of the model, merged at the end; None trains all of it."""
    batch_tokens: int = 32768
    """Tokens a step."""
    chunk_tokens: int = 8192
    """Tokens computed together."""
    epochs: int = 1
    """Passes over the texts."""
    max_steps: int | None = None
    """Steps after which to stop; None for all passes."""
    learning_rate: float = 5e-5
    """Highest learning rate of AdamW."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly to zero in the rest."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """Gradients of a larger norm are scaled down to it."""
    bf16: bool = False
    """Whether to compute in bf16 with fp32 weights (autocast)."""
    save_steps: int = 0
    """Steps between checkpoints, from which a killed run goes on; 0 writes none."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise InputError(f"share {self.share} is out of range; use more than 0 and less than 1, such as 0.2")
        if self.head not in get_args(Head):
            raise InputError(f"head {self.head!r} is unknown; choose {', '.join(get_args(Head))}")
        if self.chunk_tokens < 1 or self.batch_tokens < self.chunk_tokens:
            raise InputError(
                f"batch_tokens {self.batch_tokens} is less than chunk_tokens {self.chunk_tokens}, or that less than 1"
            )
        if self.epochs < 1 or (self.max_steps is not None and self.max_steps < 1):
            raise InputError(f"epochs {self.epochs} and max_steps {self.max_steps} must be 1 or more")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate {self.learning_rate} is not above 0")
        if not 0.0 <= self.warmup < 1.0:
            raise InputError(f"warmup {self.warmup} is no share; use 0 or more and less than 1")
        if self.weight_decay < 0 or self.max_grad_norm <= 0 or self.save_steps < 0:
            raise InputError("weight_decay and save_steps must be 0 or more, and max_grad_norm above 0")


def adapt_files(
    texts: Path,
    encoder: Encoder,
    out: Path,
    config: AdaptConfig,
    *,
    field: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Adapt a model to bidirectional attention on raw text; `out` gets `model/`, as exported, and history.json.

    A run that was killed goes on from its last checkpoint, to the same weights.

    Args:
        texts: .jsonl, .jsonl.gz, .parquet or .txt, as `zhihui encode` reads it.
        encoder: the starting model; it is trained in place.
        out: the stage's folder.
        config: the run.
        field: key of the text; None for the obvious one.
        name: what the model card calls the model; None for "model".
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable texts, or a model that is causal or cannot be packed.
        RunFailure: the loss became NaN or infinite, or the export does not give the model's vectors.
    """
    require("accelerate", extra="train", purpose="training")

    def work(folder: Path) -> dict[str, Any]:
        found = [text.text for text in read_texts(texts, role="document", field=field)]
        checkpoints = folder / _CHECKPOINTS
        checkpoints.mkdir(exist_ok=True)
        history = adapt(encoder, found, config, checkpoints)
        difference = export_checked(encoder, folder / MODEL, name=name, overwrite=True)
        history.write(folder)
        shutil.rmtree(checkpoints)
        return {
            "texts": len(found),
            "steps": len(history.loss),
            "first_loss": history.loss[0][1],
            "last_loss": history.loss[-1][1],
            "export_difference": difference,
        }

    inputs: dict[str, Path | str] = {"texts": texts, "model": encoder.fingerprint}
    settings = asdict(config) | {"field": field}
    return run_stage("adapt", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def adapt(encoder: Encoder, texts: Sequence[str], config: AdaptConfig, folder: Path) -> History:
    """Train an encoder in place on texts; run again after a kill, it goes on from the last checkpoint in `folder`.

    The losses are means over the hidden tokens of a step, in nats.

    Raises:
        InputError: a causal or unpackable model, texts that have nothing to hide, or more than one process.
        RunFailure: the loss became NaN or infinite, or merging the adapters moved the vectors.
    """
    if encoder.is_causal or not encoder.packable:
        mend = "load it with attention bidirectional" if encoder.is_causal else "choose a decoder that can be packed"
        raise InputError(f"{encoder.name}: cannot learn to look both ways as it is; {mend}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("adaptation runs in one process; start it without torchrun")
    from zhihui.training.adapt_trainer import AdaptTrainer

    data = Steps(encoder, texts, config)
    checkpoint = last_checkpoint(folder)
    history = History() if checkpoint is None else History.read(checkpoint)
    if config.lora is not None:
        apply_lora(encoder, config.lora, seed=config.seed)
    AdaptTrainer(Predictor(encoder, config.head), config, folder, data, history).run(checkpoint)
    encoder.eval()
    if config.lora is not None:
        merge_lora(encoder, list(texts[:_CHECKED]))
    return history


class Predictor(nn.Module):
    """An encoder's backbone with a head over its vocabulary."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        """Put the two together; a fresh head begins as a copy of the embeddings."""
        super().__init__()
        self.encoder = encoder
        embeddings = encoder.backbone.get_input_embeddings().weight
        self.head = nn.Parameter(embeddings.detach().float().clone()) if head == "fresh" else None

    def forward(self, packed: Packed, hidden: Sequence[Hidden]) -> Tensor:
        """Return the summed loss of the hidden tokens of packed texts, in nats."""
        backbone = self.encoder.backbone
        head = backbone.get_input_embeddings().weight if self.head is None else self.head
        return prediction_loss(packed_states(backbone, packed)[0], packed, hidden, head)


class Steps(Dataset[list[list[Hidden]]]):
    """Step n's chunks of texts with hidden tokens; the same whoever asks, and when."""

    def __init__(self, encoder: Encoder, texts: Sequence[str], config: AdaptConfig) -> None:
        """Tokenize all texts as passages and put them into steps.

        Raises:
            InputError: no text has a token to hide.
        """
        tokenizer = encoder.tokenizer
        self.config, self.mask = config, mask_id(tokenizer, config.mask)
        self.special = {*tokenizer.all_special_ids}
        ids = tokenize(tokenizer, encoder.settings, texts, role="document") if texts else []
        # A text of one token has nothing before what could be hidden.
        self.ids = [each for each in ids if any(token not in self.special for token in each[1:])]
        if not self.ids:
            raise InputError(f"none of {len(texts)} texts has a token to hide; give texts of two tokens or more")
        self.steps = [step for epoch in range(config.epochs) for step in self._epoch(epoch)][: config.max_steps]

    def _epoch(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self.ids)))
        random.Random(fingerprint([self.config.seed, "adapt", epoch])).shuffle(order)
        steps: list[list[int]] = [[]]
        room = self.config.batch_tokens
        for number in order:
            if len(self.ids[number]) > room and steps[-1]:
                steps.append([])
                room = self.config.batch_tokens
            steps[-1].append(number)
            room -= len(self.ids[number])
        return steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> list[list[Hidden]]:
        draw = random.Random(fingerprint([self.config.seed, "mask", step]))
        found = [
            hide(self.ids[number], self.config.share, self.mask, special=self.special, draw=draw)
            for number in self.steps[step]
        ]
        texts = [each for each in found if each is not None]
        plan = plan_batches([len(each.ids) for each in texts], self.config.chunk_tokens)
        return [[texts[number] for number in chunk] for chunk in plan]
