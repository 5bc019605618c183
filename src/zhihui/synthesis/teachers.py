"""The teacher that a user names: an API's config in a YAML file, or a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from zhihui.config import from_mapping, read_yaml
from zhihui.errors import InputError
from zhihui.synthesis.methods import Config
from zhihui.synthesis.rehearsal import Known, rehearse
from zhihui.teacher import ApiTeacher, Ask, Failure, Outcome, RecordedTeacher, TeacherConfig, write_recording


def check_teacher(config: Path | None, recording: Path | None) -> None:
    """Check that exactly one of the two is given.

    Raises:
        InputError: both are, or none.
    """
    if (config is None) == (recording is None):
        what = "no teacher" if config is None else "a teacher and a recording"
        raise InputError(
            f"{what}; give either a teacher's YAML file (teacher) or a file of recorded answers (recording)"
        )


def read_teacher(path: Path) -> TeacherConfig:
    """Read a teacher's YAML file.

    Raises:
        InputError: no such file, or a setting that cannot be used.
    """
    return from_mapping(TeacherConfig, read_yaml(path), where=str(path))


def open_teacher(config: Path | None, recording: Path | None, *, out: Path) -> ApiTeacher | RecordedTeacher:
    """Return the teacher; what it spends is bounded for the destination `out`, over all restarts.

    Raises:
        InputError: both or none is given, or the file cannot be used.
    """
    check_teacher(config, recording)
    if recording is not None:
        return RecordedTeacher(recording)
    assert config is not None, "checked above"
    return ApiTeacher(read_teacher(config), run=str(out.resolve()))


def known_to(teacher: ApiTeacher | RecordedTeacher) -> Known:
    """Return what tells the outcome of a question without spending anything."""

    def known(ask: Ask[Any]) -> Outcome[Any] | None:
        if isinstance(teacher, ApiTeacher):
            step = teacher.next_step(ask)
            return step if isinstance(step, Outcome) else None
        (outcome,) = teacher.ask([ask], label="look up")
        return None if outcome.failure == "not_recorded" else outcome

    return known


def record(
    path: Path,
    data: Path | None,
    config: Config,
    teacher: ApiTeacher | RecordedTeacher,
    *,
    templates: Path | None = None,
    split: str = "train",
    quarantine: bool = False,
) -> int:
    """Write the answers of a finished stage to a recording, and return how many it has; arguments as in `synth_files`.

    Args:
        path: destination; appears whole or not at all.
        data: of the stage.
        config: of the stage.
        teacher: who answered.
        templates: of the stage.
        split: of the stage.
        quarantine: of the stage.
    """
    known = known_to(teacher)
    pairs: list[tuple[Ask[Any], BaseModel | Failure]] = []

    def noting(ask: Ask[Any]) -> Outcome[Any] | None:
        outcome = known(ask)
        if outcome is not None:
            pairs.append((ask, outcome.value if outcome.value is not None else cast(Failure, outcome.failure)))
        return outcome

    rehearse(data, config, noting, templates=templates, split=split, quarantine=quarantine)
    return write_recording(path, pairs)
