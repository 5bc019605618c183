"""Synthesis as a stage: from passages or examples, or nothing, to a folder of examples made by teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.records import REJECTED, RejectLog, is_beir, write_examples
from zhihui.runs import Manifest, run_stage
from zhihui.synthesis.methods import Config, method_of, read_book
from zhihui.synthesis.query import QueryConfig
from zhihui.synthesis.roundtrip import check_encoder
from zhihui.synthesis.tools import Tools
from zhihui.teacher.asking import Teacher

TRAIN = "train.jsonl"


def synth_files(
    data: Path | None,
    out: Path,
    config: Config,
    teacher: Teacher,
    *,
    templates: Path | None = None,
    split: str = "train",
    encoder: TextEncoder | None = None,
    quarantine: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Make examples; `out` gets train.jsonl and, if anything was not accepted, rejected.jsonl.

    A run that was killed is done again from the teacher's cache, and asks only what is not answered yet.

    Args:
        data: for query and expand a BEIR folder or a file of rows with a text; for label, rewrite and refine examples
            or a BEIR folder; None for triplet.
        out: the stage's folder.
        config: of one of the methods, which it selects.
        teacher: who is asked.
        templates: folder of own templates; None uses those shipped.
        split: of a BEIR folder, where examples are wanted: whose queries become examples.
        encoder: for a dense round trip, and only for that.
        quarantine: set unusable rows aside in place of stopping at the first.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data or templates, no data where some are needed or the other way round, a dense round
            trip without an encoder.
        RunFailure: the teacher's budget is used up, or it cannot be asked; what was answered is kept.
    """
    method = method_of(config)
    check_data(config, given=data is not None)
    check_model(config, given=encoder is not None)
    book = read_book(templates)

    def work(folder: Path) -> dict[str, Any]:
        with RejectLog(folder / REJECTED) as rejects:
            tools = Tools(teacher=teacher, book=book, rejects=rejects, encoder=encoder)
            made = method.run(data, split, config, tools, rejects if quarantine else None)
            write_examples(folder / TRAIN, made.examples)
        spent: dict[str, Any] = dict(getattr(teacher, "counts", {}))
        return {**made.counts, "teacher": spent, "rejected": dict(sorted(rejects.counts.items()))}

    inputs: dict[str, Path | str] = {"teacher": teacher.fingerprint, "templates": book.fingerprint(method.prompts)}
    if data is not None:
        inputs["data"] = data
    if encoder is not None:
        inputs["encoder"] = encoder.fingerprint
    splits = method.starts_from == "examples" and data is not None and is_beir(data)
    settings = {"split": split if splits else None, "quarantine": quarantine, "settings": config}
    return run_stage(method.stage, out, work, inputs=inputs, config=settings, overwrite=overwrite)


def check_data(config: Config, *, given: bool) -> None:
    """Check that data are given exactly when the method starts from some.

    Raises:
        InputError: they are not, or are and have no use.
    """
    method = method_of(config)
    if given and method.starts_from == "nothing":
        raise InputError(f"{config.method} starts from no data; leave the data out")
    if not given and method.starts_from != "nothing":
        what = "passages: a BEIR folder or a file of rows with a text"
        if method.starts_from == "examples":
            what = "examples: a file or folder of examples, or a BEIR folder"
        raise InputError(f"{config.method} starts from {what}; give it")


def check_model(config: Config, *, given: bool) -> None:
    """Check before a model is loaded that one is given exactly when a round trip uses it.

    Raises:
        InputError: a dense round trip without a model, or a model without a dense round trip.
    """
    check_encoder(config.retriever if isinstance(config, QueryConfig) else "none", given=given)
