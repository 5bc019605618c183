"""`zhihui refine`: examples whose positives and negatives a judge has looked through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhihui.commands.convert import OnError
from zhihui.commands.encode import RayAddress
from zhihui.commands.stage_options import Overwrite, Show
from zhihui.commands.synth import (
    AsJson,
    BatchEndpoint,
    BatchIn,
    BatchOut,
    ConfigFile,
    DryRun,
    OnErrorOption,
    Out,
    RecordFile,
    RecordingFile,
    Settings,
    Split,
    TeacherFile,
    Templates,
    carry_out,
)


def command(
    data: Annotated[Path, typer.Argument(help="File or folder of examples, or BEIR folder.", metavar="DATA")],
    out: Out,
    config: ConfigFile = None,
    settings: Settings = None,
    teacher: TeacherFile = None,
    recording: RecordingFile = None,
    record: RecordFile = None,
    templates: Templates = None,
    split: Split = "train",
    dry_run: DryRun = False,
    batch_out: BatchOut = None,
    batch_in: BatchIn = None,
    batch_endpoint: BatchEndpoint = None,
    ray: RayAddress = None,
    on_error: OnErrorOption = OnError.STOP,
    show: Show = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Grade positives and negatives by a teacher: each stays, moves or goes, with its reason."""
    carry_out(
        "refine",
        data,
        out,
        config=config,
        settings=settings,
        teacher=teacher,
        recording=recording,
        record=record,
        templates=templates,
        split=split,
        dry_run=dry_run,
        batch_out=batch_out,
        batch_in=batch_in,
        batch_endpoint=batch_endpoint,
        ray=ray,
        quarantine=on_error is OnError.QUARANTINE,
        show=show,
        overwrite=overwrite,
        as_json=as_json,
    )
