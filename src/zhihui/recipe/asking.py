"""Asking: what the stages of a recipe that ask a teacher have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.errors import require
from zhihui.recipe import stage
from zhihui.records import is_beir
from zhihui.records.beir import check_split
from zhihui.runs import Manifest
from zhihui.synthesis.methods import Config, read_book
from zhihui.synthesis.stage import TRAIN, synth_files
from zhihui.synthesis.teachers import check_teacher, open_teacher, read_teacher
from zhihui.teacher import RecordedTeacher


@dataclass(frozen=True, kw_only=True)
class Asking(stage.Stage):
    """A stage that asks a teacher."""

    gives = ("examples", TRAIN)

    teacher: stage.Outside | None = None
    """YAML file: endpoints, roles, budget, cache."""
    recording: stage.Outside | None = None
    """File of recorded answers in place of a teacher."""

    def check_asking(self, templates: Path | None) -> None:
        """See that teacher and templates can be used.

        Raises:
            InputError: they cannot.
        """
        read_book(templates)
        if self.teacher is not None:
            read_teacher(self.teacher)
            require("openai", extra="synth", purpose="asking a teacher")
        if self.recording is not None:
            RecordedTeacher(self.recording)

    def check_given(self) -> None:
        """Check that either teacher or recording is given.

        Raises:
            InputError: both are, or none.
        """
        check_teacher(self.teacher, self.recording)

    def synth(
        self,
        data: Path | None,
        out: Path,
        config: Config,
        around: stage.Surroundings,
        *,
        templates: Path | None,
        split: str = "train",
        model: str | None = None,
        quarantine: bool = False,
    ) -> Manifest:
        """Do the work as a stage in the folder `out`."""
        encoder = None
        if model is not None:
            from zhihui.encoder import load

            encoder = load(model, device=around.device)
        return synth_files(
            data,
            out,
            config,
            open_teacher(self.teacher, self.recording, out=out),
            templates=templates,
            split=split,
            encoder=encoder,
            quarantine=quarantine,
            overwrite=around.overwrite,
        )


@dataclass(frozen=True, kw_only=True)
class AskingOfExamples(Asking):
    """A stage that asks a teacher about examples, or about the judged queries of a retrieval set."""

    templates: stage.Outside | None = None
    """Folder of own templates; None uses those shipped."""
    split: str = "train"
    """Of a retrieval set: whose queries become examples."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def check_examples(self, data: Path) -> None:
        """See that teacher, templates and split are there.

        Raises:
            InputError: they are not.
        """
        self.check_asking(self.templates)
        if is_beir(data):
            check_split(data, self.split)

    def synth_examples(self, data: Path, out: Path, config: Config, around: stage.Surroundings) -> Manifest:
        """Do the work as a stage in the folder `out`."""
        return self.synth(
            data, out, config, around, templates=self.templates, split=self.split, quarantine=self.quarantine
        )
