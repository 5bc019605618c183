"""evaluate: models and baselines measured on retrieval sets and C-MTEB's tasks, with intervals and a report."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from zhihui.errors import InputError
from zhihui.evaluation.cmteb import find_tasks
from zhihui.evaluation.cmteb_mirror import find_files
from zhihui.evaluation.registry_models import RESERVED, ModelSource, open_all, sources_of
from zhihui.evaluation.sets import beir_sets, set_folders, task_sets
from zhihui.evaluation.stage import (
    RESULTS,
    EvaluationConfig,
    Measurement,
    check_systems,
    systems_of,
)
from zhihui.recipe import stage
from zhihui.records.beir import check_split
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(EvaluationConfig, stage.Stage):
    """Measure models."""

    gives = ("results", RESULTS)
    needs = (("mteb", "eval"),)

    sets: tuple[stage.Sets, ...] = ()
    """Retrieval sets; a folder of such stands for all inside."""
    tasks: tuple[str, ...] = ()
    """Retrieval tasks of C-MTEB, such as T2Retrieval; "all" stands for the eight."""
    data_dir: stage.Outside | None = None
    """Local mirror of the tasks' data sets; None fetches them."""
    models: dict[str, stage.Model] = field(default_factory=dict)
    """Models by the name to show."""
    systems: tuple[str, ...] = ()
    """Published systems to run, by their keys in the registry."""
    model_dir: stage.Outside | None = None
    """Folder of the systems' models by repository name; None fetches them."""
    cache: Path | None = None
    """Folder of vectors that several runs share; None keeps them while a set is measured. It changes no result."""
    trust_remote_code: bool = False
    """Whether code that comes with a model may run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sets and not self.tasks:
            raise InputError("sets is empty; name at least one retrieval set, or a task of C-MTEB in tasks")
        find_tasks(self.tasks)
        if self.data_dir is not None and not self.tasks:
            raise InputError(f"data_dir {self.data_dir} is a mirror of C-MTEB's data sets; name tasks, or all")
        taken = sorted(RESERVED & {*self.models})
        if taken:
            raise InputError(f"models: {taken[0]} is the name of another system; choose another")
        check_systems(len(self.models) + len(self.systems), self)

    def check(self) -> None:
        """See that each set has the split, and each task and system its files."""
        for folder in set_folders(self.sets).values():
            check_split(folder, self.split)
        if self.data_dir is not None:
            for task in find_tasks(self.tasks):
                find_files(self.data_dir, task)
        self._systems()

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Measure."""
        config = stage.part_of(EvaluationConfig, self)
        sets = beir_sets(set_folders(self.sets), self.split)
        measurement = Measurement([*sets, *task_sets(find_tasks(self.tasks), self.data_dir)], config)
        devices = [] if around.device is None else [around.device]
        forced = self.instruction is not None
        with ExitStack() as running:
            encoders = {
                name: ModelSource(model=model, forced=forced, trust_remote_code=self.trust_remote_code)(around.device)
                for name, model in self.models.items()
            }
            found = self._systems()
            opened = open_all(found, devices, running)
            about = {name: source.about for name, source in zip(opened, found, strict=True)}
            systems = systems_of(encoders | opened, config, instructions=measurement.instructions, about=about)
            return measurement.run(systems, out, cache=self.cache, overwrite=around.overwrite)

    def _systems(self) -> list[ModelSource]:
        return sources_of(
            [],
            self.systems,
            model_dir=self.model_dir,
            forced=self.instruction is not None,
            trust_remote_code=self.trust_remote_code,
        )
