"""The trainer: a run from examples to trained weights, on one process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from zhihui import progress
from zhihui.encoder.encoder import Encoder
from zhihui.records import Example
from zhihui.training.batches import plan
from zhihui.training.checks import check
from zhihui.training.collate import Batches
from zhihui.training.config import TrainConfig
from zhihui.training.history import History, last_checkpoint
from zhihui.training.loop import Loop
from zhihui.training.preflight import Preflight, preflight
from zhihui.training.processes import Processes
from zhihui.training.refresh import Reserves
from zhihui.training.sharded_loop import ShardedLoop
from zhihui.training.sharding import sharded
from zhihui.training.trainee import Trainee
from zhihui.training.watch import Evaluate, Watch


def train(
    encoder: Encoder,
    examples: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
    logs: Path | None = None,
    announce: Callable[[Preflight], None] | None = None,
) -> History:
    """Train an encoder in place; run again after a kill, it goes on from the last checkpoint in `folder`.

    Under torchrun all processes call it with the same arguments and end with the same weights; the folder is one they
    share. The first of them evaluates and writes. The lengths of a Matryoshka loss are written into the model's config,
    as `matryoshka_dimensions`.

    Args:
        encoder: the model, in fp32. With `shard`, only the first process's has weights afterwards.
        examples: with hard negatives where there are any.
        config: the run.
        folder: for checkpoints; they are removed by whoever owns the folder.
        evaluate: called before the first step, every `eval_steps` and after the last.
        logs: where TensorBoard's files go; None logs nothing there.
        announce: told in the first process, before a run starts and not when it goes on, what it is about to do.

    Raises:
        InputError: the data cannot fill the batches, or settings do not suit data, model or processes.
        RunFailure: the loss or its gradient became NaN or infinite; the batch is in `folder`.
    """
    processes = Processes.join(cpu=encoder.device.type == "cpu")
    if not processes.first:
        progress.quiet()
    batches = plan(examples, config.batches, epochs=config.epochs, seed=config.seed)
    check(
        config,
        examples,
        batches,
        dimension=encoder.dimension,
        measured=evaluate is not None,
        processes=processes,
    )
    device = encoder.device
    checkpoint = processes.from_first(last_checkpoint(folder) if processes.first else None)
    if announce is not None and checkpoint is None and processes.first:
        announce(preflight(encoder, examples, config, batches=batches))
    trainee = Trainee(sharded(encoder, processes, bf16=config.bf16) if config.shard else encoder, config.loss)
    history = History() if checkpoint is None else History.read(checkpoint)
    if checkpoint is not None and _exhausted(history, config):
        batches = batches[: len(history.loss)]  # stopped early, and killed after that
    reserves = Reserves(examples, config.batches, config.refresh) if config.refresh.every else None
    data = Batches(
        encoder,
        examples,
        batches,
        config.batches,
        seed=config.seed,
        processes=processes,
        graded=config.loss.distillation > 0,
        reserves=reserves,
    )
    if config.gradient_checkpointing:
        _checkpointing(trainee.encoder, "enable", {"use_reentrant": False})
    kind = ShardedLoop if config.shard else Loop
    trainer = kind(trainee, encoder, config, folder, data, history, processes, device)
    trainer.remove_callback(PrinterCallback)
    logging = bool(trainer.args.report_to)
    if logs is not None and _tensorboard(config):
        logging = True
        board = TensorBoardCallback()
        board.logging_dir = str(logs)
        trainer.add_callback(board)
    watch = Watch(trainer, config, folder, history, processes, evaluate, steps=len(batches), logging=logging)
    trainer.add_callback(watch)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    watch.finish()
    if trainee.learned is not None:
        history.final_temperature = _temperature(history, config, last=trainee.temperature)
    if config.gradient_checkpointing:
        _checkpointing(trainee.encoder, "disable")
    if config.loss.matryoshka:
        # By this name servers know what vectors may be cut to. Lengths that an earlier run trained stay otherwise.
        encoder.backbone.config.matryoshka_dimensions = sorted(config.loss.matryoshka)
    encoder.eval()
    return history


def _temperature(history: History, config: TrainConfig, *, last: float) -> float:
    """Return τ as it was with the weights that a run ends with."""
    if config.keep == "best":
        step, _ = history.evaluations[history.best(config.metric)]
        return dict(history.temperature).get(step + 1, last)
    return last


def _exhausted(history: History, config: TrainConfig) -> bool:
    """Tell whether a run has stopped early."""
    if not config.patience or not history.evaluations:
        return False
    return len(history.evaluations) - 1 - history.best(config.metric) >= config.patience


def _checkpointing(encoder: Encoder, what: str, *arguments: Any) -> None:
    """Call transformers' switch, which changed its name in 5.2x."""
    found = getattr(encoder.backbone, f"activation_checkpointing_{what}", None)
    (found or getattr(encoder.backbone, f"gradient_checkpointing_{what}"))(*arguments)


def _tensorboard(config: TrainConfig) -> bool:
    wanted = config.report_to is None or "tensorboard" in config.report_to
    return wanted and find_spec("tensorboard") is not None
