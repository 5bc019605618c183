"""`zhihui synth`: examples made by teachers, by one of the methods of synthesis."""

from __future__ import annotations

from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhihui.commands.convert import OnError
from zhihui.commands.encode import RayAddress
from zhihui.commands.stage_options import Overwrite, Show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zhihui.synthesis.methods import Config
    from zhihui.teacher import ApiTeacher, RecordedTeacher, Teacher


class Way(StrEnum):
    """A method of synthesis."""

    QUERY = "query"
    LABEL = "label"
    TRIPLET = "triplet"
    REWRITE = "rewrite"
    EXPAND = "expand"


# Options that `zhihui refine` has as well.
Out = Annotated[Path, typer.Option(help="Output folder; it gets train.jsonl.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of the method's settings.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in queries=5 or checks.chinese=0; several times."),
]
TeacherFile = Annotated[Path | None, typer.Option(help="YAML file: endpoints, roles, budget, cache.")]
RecordingFile = Annotated[Path | None, typer.Option(help="Recorded answers in place of a teacher; no network.")]
RecordFile = Annotated[
    Path | None, typer.Option(help="Also write all answers to a file, for --recording.", metavar="FILE")
]
Templates = Annotated[Path | None, typer.Option(help="Folder of own templates, named as the shipped ones.")]
Split = Annotated[str, typer.Option(help="BEIR folder: the split whose queries become examples.")]
OnErrorOption = Annotated[
    OnError, typer.Option(help="Unusable rows: stop at the first, or set them aside in rejected.jsonl.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be asked, in calls, tokens and cost; ask nothing.")
]
BatchOut = Annotated[
    Path | None, typer.Option(help="Write the open requests as a file for a batch API, and stop.", metavar="FILE")
]
BatchIn = Annotated[
    Path | None,
    typer.Option(help="Take a batch's results; goes on only if no request is left open.", metavar="FILE"),
]
BatchEndpoint = Annotated[
    str | None, typer.Option(help="--batch-out: the endpoint whose requests are written, if there are several.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON; no progress bar.")]


def command(
    method: Annotated[Way, typer.Argument(help="What is made, and how.", metavar="METHOD")],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="query, expand: BEIR folder or file of rows with a text. label, rewrite: examples, or BEIR folder. "
            "triplet: nothing.",
            metavar="[DATA]",
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    teacher: TeacherFile = None,
    recording: RecordingFile = None,
    record: RecordFile = None,
    templates: Templates = None,
    model: Annotated[
        str | None, typer.Option(help="query with retriever=dense: folder or hub id of an embedding model.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... for the model; by default a GPU if any.")
    ] = None,
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
    """Make examples with LLM teachers: query, label, triplet, rewrite or expand."""
    carry_out(
        method.value,
        data,
        out,
        config=config,
        settings=settings,
        teacher=teacher,
        recording=recording,
        record=record,
        templates=templates,
        model=model,
        device=device,
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


def carry_out(
    method: str,
    data: Path | None,
    out: Path,
    *,
    config: Path | None,
    settings: list[str] | None,
    teacher: Path | None,
    recording: Path | None,
    record: Path | None,
    templates: Path | None,
    split: str,
    dry_run: bool,
    batch_out: Path | None,
    batch_in: Path | None,
    batch_endpoint: str | None,
    ray: str | None,
    quarantine: bool,
    show: bool,
    overwrite: bool,
    as_json: bool,
    model: str | None = None,
    device: str | None = None,
) -> None:
    """Do what the options of `zhihui synth` and `zhihui refine` ask for."""
    from zhihui import progress
    from zhihui.config import read_settings, to_yaml
    from zhihui.errors import InputError
    from zhihui.synthesis.methods import METHODS
    from zhihui.synthesis.stage import check_data, check_model, synth_files
    from zhihui.synthesis.teachers import open_teacher
    from zhihui.synthesis.teachers import record as write_answers

    progress.quiet(as_json)
    wanted: Config = read_settings(METHODS[method].config, config, settings)
    if show:
        typer.echo(to_yaml(wanted), nl=False)
        return
    check_data(wanted, given=data is not None)
    check_model(wanted, given=model is not None)
    if batch_endpoint is not None and batch_out is None:
        raise InputError("--batch-endpoint chooses what --batch-out writes; give that as well, or leave it out")
    if recording is not None and (batch_out or batch_in):
        raise InputError("a recording has no batch route; give a teacher (--teacher)")
    if record is not None and (dry_run or batch_out):
        raise InputError("--record writes the answers of a run; leave it out where nothing is run")
    if ray is not None and (recording is not None or dry_run or batch_out is not None):
        raise InputError("--ray spreads calls to a teacher; leave it out with --recording, --dry-run and --batch-out")
    teaching = open_teacher(teacher, recording, out=out)
    if dry_run or batch_out or batch_in:
        ahead = _look_ahead(data, wanted, teaching, templates, split, quarantine, batch_in, batch_out, batch_endpoint)
        if dry_run or batch_out or ahead["open"]:
            _show_ahead(ahead, as_json=as_json)
            return
    encoder = None
    if model is not None:
        from zhihui.encoder import load

        encoder = load(model, device=device)
    with _spread(teaching, ray) as asked:
        manifest = synth_files(
            data,
            out,
            wanted,
            asked,
            templates=templates,
            split=split,
            encoder=encoder,
            quarantine=quarantine,
            overwrite=overwrite,
        )
    if record is not None:
        write_answers(record, data, wanted, teaching, templates=templates, split=split, quarantine=quarantine)
    _show_made(out, manifest, as_json=as_json)


@contextmanager
def _spread(teacher: ApiTeacher | RecordedTeacher, address: str | None) -> Iterator[Teacher]:
    """Let the workers of a cluster, if one is named, ask in the place of this process."""
    from zhihui.teacher import ApiTeacher

    if address is None or not isinstance(teacher, ApiTeacher):
        yield teacher
        return
    from zhihui.distributed.cluster import join
    from zhihui.distributed.teacher import RayTeacher

    with join(address) as cluster, closing(RayTeacher(cluster, teacher)) as workers:
        yield workers


def _look_ahead(
    data: Path | None,
    config: Config,
    teacher: ApiTeacher | RecordedTeacher,
    templates: Path | None,
    split: str,
    quarantine: bool,
    batch_in: Path | None,
    batch_out: Path | None,
    endpoint: str | None,
) -> dict[str, Any]:
    """Return what would be asked, with a batch's results taken in before and the open requests written after."""
    from dataclasses import asdict

    from zhihui.synthesis.rehearsal import later, rehearse
    from zhihui.synthesis.teachers import known_to
    from zhihui.teacher import ApiTeacher, read_batch, write_batch

    found: dict[str, Any] = {}
    if batch_in is not None and isinstance(teacher, ApiTeacher):
        found["batch_in"] = {"file": str(batch_in), **asdict(read_batch(teacher, batch_in))}
    rehearsal = rehearse(data, config, known_to(teacher), templates=templates, split=split, quarantine=quarantine)
    found |= {"answered": rehearsal.answered, "open": len(rehearsal.open), "later": later(config, rehearsal)}
    if isinstance(teacher, ApiTeacher):
        found["estimate"] = asdict(teacher.estimate(rehearsal.open))
        if batch_out is not None and rehearsal.open:
            counts = write_batch(teacher, rehearsal.open, batch_out, endpoint=endpoint)
            found["batch_out"] = {"file": str(batch_out), **asdict(counts)}
    return found


def _show_ahead(found: dict[str, Any], *, as_json: bool) -> None:
    from zhihui.runs import to_json

    if as_json:
        typer.echo(to_json(found, indent=2))
        return
    if "batch_in" in found:
        took = found["batch_in"]
        typer.echo(
            f"{took['file']}: {took['written']:,} replies taken, {took['known']:,} known, {took['failed']:,} failed"
        )
    typer.echo(f"questions: {found['answered']:,} answered before, {found['open']:,} open")
    if found["open"] and "estimate" in found:
        each = found["estimate"]
        cost = "unknown (an endpoint has no price)" if each["cost"] is None else f"at most {each['cost']:,.4f}"
        typer.echo(f"  {each['calls']:,} calls, about {each['prompt_tokens']:,} prompt tokens")
        typer.echo(f"  at most {each['answer_tokens']:,} answer tokens; cost {cost}")
    for line in found["later"]:
        typer.echo(f"  then {line}")
    if "batch_out" in found:
        typer.echo(f"{found['batch_out']['file']}: {found['batch_out']['written']:,} requests written")


def _show_made(out: Path, manifest: Any, *, as_json: bool) -> None:
    from zhihui.runs import to_json
    from zhihui.synthesis.stage import TRAIN

    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    typer.echo(f"{out / TRAIN}: {counts['accepted']:,} examples")
    for name, value in counts.items():
        if name not in ("accepted", "teacher", "judge", "rejected", "passages_by_fate") and value:
            typer.echo(f"  {name.replace('_', ' ')}: {value:,}")
    for name, value in counts.get("passages_by_fate", {}).items():
        typer.echo(f"  {name.replace('_', ' ')}: {value:,}")
    spent = counts["teacher"]
    if spent:
        typer.echo(
            f"  teacher: {spent['calls']:,} calls, {spent['prompt_tokens']:,} + {spent['answer_tokens']:,} tokens, "
            f"cost {spent['cost']:,.4f}, {spent['cached']:,} from the cache"
        )
    for reason, count in counts["rejected"].items():
        typer.echo(f"  not accepted: {count:,} ({reason}); see {out / 'rejected.jsonl'}")
    if counts["rejected"].get("cut_off"):
        typer.echo("  answers were cut off: raise parameters.max_answer_tokens of the teacher's endpoint")
    if counts["rejected"].get("unreachable"):
        typer.echo(f"  to ask the unreachable ones again, remove {out} and run again: the other answers are kept")
