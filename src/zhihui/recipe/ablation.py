"""Ablation: from a baseline's stages and a list of variants to ordinary stages, one chain for each variant and seed.

    stages:
      start: {stage: build, data: rows.jsonl}
      train: {data: rows.jsonl, model: $start}
      evaluate: {models: {model: $train}, sets: [set]}
    ablation:
      seeds: [0, 1, 2]
      seeded: [start, train]            # whose `seed` is each of these in turn
      points:
        attention:
          causal: {start.attention: causal}
        hardness:
          importance: {train.loss.hardness: importance, train.loss.strength: 1.0}

Each variant is the baseline with some settings changed. What `evaluate` depends on is laid out for each variant and
seed; a stage that comes out with the settings and inputs of an earlier one is that one, so nothing is done twice. A
last stage, `ablation`, compares the measurements. What is laid out is a recipe like any other: it is planned, run,
killed and gone on with as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from zhihui.config import did_you_mean, from_mapping
from zhihui.errors import InputError
from zhihui.recipe.references import KIND, NAME, SHIPPED, parts_of
from zhihui.recipe.stages import STAGES, stage_named
from zhihui.runs import fingerprint, to_json

REPORT = "ablation"
"""The last stage's name."""
Change = dict[str, Any]
"""STAGE.SETTING and its new value."""


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """What is varied.

    Raises:
        InputError: no point or no variant, no seed or one twice, a name that cannot be a folder's.
    """

    of: str = "evaluate"
    """The stage whose measurements are compared."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each variant is made once with each."""
    seeded: tuple[str, ...] = ("train",)
    """Stages whose setting `seed` these are."""
    points: dict[str, dict[str, Change]] = field(default_factory=dict)
    """Point of the method -> variant -> the settings in which it differs from the baseline."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds {list(self.seeds)} must be at least one, none twice")
        if not self.points:
            raise InputError("points is empty; name at least one, with its variants")
        for point, variants in self.points.items():
            if not variants:
                raise InputError(f"points.{point} holds no variant; name at least one, or leave the point out")
            for variant, change in variants.items():
                for name in (point, variant):
                    if not NAME.fullmatch(name):
                        why = "cannot be part of a folder's name; use letters, digits, - and _"
                        raise InputError(f"points.{point}.{variant}: {name!r} {why}")
                if not change:
                    raise InputError(f"points.{point}.{variant} changes nothing; write STAGE.SETTING: VALUE")


def lay_out(stages: Mapping[str, Any], given: Any, *, file: Path) -> dict[str, Any]:
    """Return the stages of all variants and seeds, and the one that compares them.

    Stages that the measurement does not depend on stay as they are.

    Args:
        stages: the baseline's, by name, as written.
        given: the recipe's `ablation`, as written.
        file: the recipe, for messages.

    Raises:
        InputError: what is written is no ablation, changes a stage that is not there, or changes nothing that the
            measurement depends on.
    """
    where = f"{file}: {REPORT}"
    if not isinstance(given, Mapping):
        raise InputError(f"{where} is {given!r}; it is a group of settings: points, seeds, ...")
    config = from_mapping(AblationConfig, _text_keys(given), where=where)
    if REPORT in stages:
        raise InputError(f"{where}: a stage has this name, which is that of the comparison; rename the stage")
    for name in (config.of, *config.seeded):
        if name not in stages:
            raise InputError(f"{where}: no stage {name}; {did_you_mean(name, stages)}")
    layout = _Layout(stages, config, file)
    baseline = [layout.place(config.of, _Variant(seed=seed)) for seed in config.seeds]
    variants: dict[str, list[str]] = {}
    for point, choices in config.points.items():
        for variant, change in choices.items():
            name = f"{point}-{variant}"
            chain = _Variant(name=name, changes=layout.changes(name, change))
            placed = [layout.place(config.of, replace(chain, seed=seed)) for seed in config.seeds]
            if placed == baseline:
                raise InputError(f"{where}: {point}.{variant} leaves {config.of} as it is; change what it depends on")
            variants[f"{point}/{variant}"] = [f"${each}" for each in placed]
    others = {name: settings for name, settings in stages.items() if name not in layout.reached}
    if strangers := sorted(layout.laid.keys() & others.keys()):
        raise InputError(f"{where}: {strangers[0]} is the name of a variant's stage too; rename the stage")
    changes = {
        f"{point}/{variant}": [f"{key}: {_shown(value)}" for key, value in change.items()]
        for point, choices in config.points.items()
        for variant, change in choices.items()
    }
    first = [f"${each}" for each in baseline]
    report = {KIND: "ablate", "baseline": first, "variants": variants, "changes": changes}
    return {**layout.laid, **others, REPORT: report}


@dataclass(frozen=True, kw_only=True)
class _Variant:
    name: str = ""
    """Empty for the baseline."""
    seed: int = 0
    changes: dict[str, Change] = field(default_factory=dict)
    """By stage: setting -> value."""


class _Placed(NamedTuple):
    name: str
    """Of the stage laid out, which may be one that another variant or seed has too."""
    varied: bool
    """Whether it depends on what the variant changes."""
    seeded: bool
    """Whether it depends on the seed."""


class _Layout:
    """The stages laid out so far."""

    def __init__(self, stages: Mapping[str, Any], config: AblationConfig, file: Path) -> None:
        self.stages, self.config = stages, config
        self.file, self.where = file, f"{file}: {REPORT}"
        self.laid: dict[str, Any] = {}
        self.reached: set[str] = set()
        self._named: dict[str, str] = {}
        """Fingerprint of what a stage does -> its name."""

    def changes(self, name: str, change: Change) -> dict[str, Change]:
        """Return a variant's changes by stage.

        Raises:
            InputError: a key is no STAGE.SETTING of a stage that is there.
        """
        found: dict[str, Change] = {}
        for key, value in change.items():
            stage, dot, setting = key.partition(".")
            if not dot or not all(setting.split(".")):
                raise InputError(f"{self.where}: {name}: {key} is no setting; write STAGE.SETTING, as in train.epochs")
            if stage not in self.stages:
                mend = did_you_mean(stage, self.stages)
                raise InputError(f"{self.where}: {name}: {key}: no stage {stage}; {mend}")
            found.setdefault(stage, {})[setting] = value
        return found

    def place(self, stage: str, chain: _Variant) -> str:
        """Lay a stage out for a variant and seed, after those it refers to, and return the name it has there.

        Raises:
            InputError: stages refer to one another in a circle, two would have one name, or settings are unknown or
                out of bounds.
        """
        return self._placed(stage, chain, ()).name

    def _placed(self, stage: str, chain: _Variant, waiting: tuple[str, ...]) -> _Placed:
        if stage in waiting:
            raise InputError(f"{self.where}: {stage} waits for itself; break the circle")
        if not isinstance(self.stages[stage], Mapping):
            raise InputError(f"{self.file}: {stage} is {self.stages[stage]!r}; it is a group of settings")
        self.reached.add(stage)
        own = chain.changes.get(stage, {})
        settings = dict(self.stages[stage])
        if stage in self.config.seeded:
            settings["seed"] = chain.seed
        for setting, value in own.items():
            settings = _with(settings, setting, value)
        varied, seeded = bool(own), stage in self.config.seeded

        def renamed(value: Any) -> Any:
            nonlocal varied, seeded
            if isinstance(value, dict):
                return {key: renamed(each) for key, each in value.items()}
            if isinstance(value, list):
                return [renamed(each) for each in value]
            refers = parts_of(value) if isinstance(value, str) else None
            if refers is None or refers[0] in SHIPPED or refers[0] not in self.stages:
                return value  # what refers to nothing is refused with all other references
            needed = self._placed(refers[0], chain, (*waiting, stage))
            varied, seeded = varied or needed.varied, seeded or needed.seeded
            return f"${needed.name}" if refers[1] is None else f"${needed.name}/{refers[1]}"

        settings = renamed(settings)
        settings.setdefault(KIND, stage)
        parts = (stage, chain.name if varied else "", f"s{chain.seed}" if seeded else "")
        name = "-".join(filter(None, parts))
        written = fingerprint(settings)
        if written not in self._named:
            whole = fingerprint(_complete(settings, where=f"{self.file}: {name}"))
            if whole not in self._named:
                if name in self.laid:
                    raise InputError(f"{self.where}: two stages would be called {name}; rename a variant")
                self.laid[name], self._named[whole] = settings, name
            self._named[written] = self._named[whole]
        return _Placed(self._named[written], varied, seeded)


def _complete(settings: dict[str, Any], *, where: str) -> Any:
    """Return the settings with all defaults, so that one that is left out equals its default."""
    kind = settings[KIND]
    if kind not in STAGES:
        return settings  # refused where stages are read
    given = {key: value for key, value in settings.items() if key != KIND}
    return [kind, asdict(from_mapping(stage_named(kind), given, where=where))]  # type: ignore[call-overload]


def _with(settings: Any, setting: str, value: Any) -> dict[str, Any]:
    """Return settings with another value at a place, groups on the way made where there is none."""
    first, dot, rest = setting.partition(".")
    group = dict(settings) if isinstance(settings, Mapping) else {}
    return {**group, first: _with(group.get(first), rest, value) if dot else value}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _text_keys(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Return points and variants under names that are texts: YAML reads 512 as a number."""
    named = {str(key): value for key, value in given.items()}
    if isinstance(named.get("points"), Mapping):
        named["points"] = {
            str(point): {str(name): change for name, change in variants.items()}
            if isinstance(variants, Mapping)
            else variants
            for point, variants in named["points"].items()
        }
    return named
