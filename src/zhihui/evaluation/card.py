"""The model card: how a model is used, what it was made from, what it scores, and what it is not good for.

The scores stand in the card's front matter as the `model-index` that C-MTEB's leaderboard and the hub read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.export import check_free, shown_name, staged, usage_card, write
from zhihui.encoder.export_check import verify_export
from zhihui.errors import InputError, RunFailure
from zhihui.evaluation.card_check import run_usage
from zhihui.evaluation.card_facts import (
    SetResult,
    TrainingFacts,
    find_system,
    set_results,
    shown_counts,
    training_facts,
    training_settings,
)
from zhihui.evaluation.compare import Comparison, compare
from zhihui.evaluation.compare_runs import EvaluationRun, read_run
from zhihui.evaluation.compare_stage import published_scores
from zhihui.evaluation.compare_tables import BASELINE, as_markdown, make_table
from zhihui.runs import atomic_open

CARD = "README.md"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_TASK_TYPE, _SUBSET = "Retrieval", "default"
_TAGS = ("sentence-transformers", "feature-extraction", "sentence-similarity", "text-retrieval", "zhihui")
_CLOSING = "\nMade with zhihui."


@dataclass(frozen=True, kw_only=True)
class CardConfig:
    """What a card says that the model's own files do not."""

    licence: str | None = None
    """Identifier as the hub has it, such as apache-2.0; None leaves it open."""
    base_model: str | None = None
    """Hub id of the model that training began with."""
    languages: tuple[str, ...] = ("zh",)
    """Codes of ISO 639-1."""
    results: tuple[Path, ...] = ()
    """Runs of `zhihui eval` whose scores are shown."""
    system: str | None = None
    """Name of the model in those runs; None finds it by its fingerprint."""
    trained: Path | None = None
    """Run the model is from; None looks for one above the model's folder."""
    about: Path | None = None
    """Markdown file with sections of one's own, such as sources, which stand before the results."""

    def __post_init__(self) -> None:
        if self.licence is not None and not _LICENCE.fullmatch(self.licence):
            raise InputError(f"licence {self.licence!r} is no identifier; write it as the hub does, e.g. apache-2.0")
        if not self.languages:
            raise InputError("no language; name at least one, such as zh")
        if self.about is not None and not self.about.is_file():
            raise InputError(f"about {self.about}: no such file; give a Markdown file")
        if self.system is not None and not self.results:
            raise InputError(f"system {self.system!r} names one of the results, and there are none; pass --results")


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card's further sections are written from."""

    training: TrainingFacts
    results: list[SetResult]
    tables: list[tuple[str, Comparison]] = field(repr=False)
    """The model's name in a run, and the run's systems."""


def gather(encoder: Encoder, model: str, config: CardConfig) -> CardFacts:
    """Read what a card tells of a model.

    Args:
        encoder: the model.
        model: folder or hub id it was loaded from.
        config: where to look.

    Raises:
        InputError: a run cannot be read, or has no system that is the model.
    """
    runs: list[EvaluationRun] = [read_run(folder) for folder in config.results]
    names = [find_system(run, encoder.fingerprint, config.system) for run in runs]
    results: dict[tuple[str, str], SetResult] = {}
    for run, name in zip(runs, names, strict=True):
        for one in set_results(run, name):
            key = (one.data_set, one.split)
            if key in results:
                raise InputError(f"{run.folder}: {one.name} is in another of the runs too; give each set once")
            results[key] = one
    return CardFacts(
        training=training_facts(Path(model), config.trained),
        results=list(results.values()),
        tables=[
            (name, compare([run], published=published_scores([run]))) for run, name in zip(runs, names, strict=True)
        ],
    )


def export_with_card(
    encoder: Encoder, out: Path, facts: CardFacts, config: CardConfig, *, name: str | None, overwrite: bool = False
) -> tuple[float, list[str]]:
    """Export a model with a whole card; the folder appears once the vectors and the card's code are checked.

    Args:
        encoder: the model.
        out: the folder to make.
        facts: as `gather` found them.
        config: what else the card says.
        name: what the card's code loads, such as a hub id; None for the folder.
        overwrite: replace a folder that holds such a model; never anything else.

    Returns:
        The largest difference of a number, as `verify_export` has it, and the libraries whose code was run.

    Raises:
        InputError: `out` is taken, or the model cannot be exported.
        RunFailure: the export does not give the model's vectors, or the card's code does not give its scores.
    """
    check_free(out, overwrite=overwrite)
    shown = name or shown_name(out)
    with staged(out, overwrite=overwrite) as folder:
        write(encoder, folder, name=shown)
        difference = verify_export(encoder, folder)
        ran = write_card(encoder, folder, facts, config, name=shown)
    return difference, ran


def write_card(encoder: Encoder, folder: Path, facts: CardFacts, config: CardConfig, *, name: str) -> list[str]:
    """Write the whole card of a model into its folder, and return the libraries whose code was run.

    Raises:
        RunFailure: the card's code does not give the model's scores.
    """
    text = card_text(encoder, facts, config, name=name)
    ran = run_usage(text, folder, encoder, name=name)
    with atomic_open(folder / CARD) as stream:
        stream.write(text)
    return ran


def card_text(encoder: Encoder, facts: CardFacts, config: CardConfig, *, name: str) -> str:
    """Return the whole card: front matter, what the model is, its use, training, results and limits.

    Raises:
        RunFailure: the hub's own reader does not get the results back out of it.
    """
    from huggingface_hub import ModelCard

    _, _, body = usage_card(encoder, name).partition("\n---\n")
    about = front_matter(facts.results, config, name=name)
    before, closing, _ = body.rpartition(_CLOSING)
    assert closing, "the card of an export ends with its closing line"
    text = f"---\n{about.to_yaml()}\n---\n{before.rstrip()}\n\n{_sections(encoder, facts, config)}{closing}\n"
    read: Any = ModelCard(text).data
    if (read.eval_results or []) != (about.eval_results or []):
        raise RunFailure(f"{name}: the card's results are not read back as they were written")
    return text


def front_matter(results: Sequence[SetResult], config: CardConfig, *, name: str) -> Any:
    """Return the card's metadata as the hub's `ModelCardData`, the results as its `model-index`."""
    from huggingface_hub import EvalResult, ModelCardData

    entries = [
        EvalResult(
            task_type=_TASK_TYPE,
            dataset_type=one.data_set,
            dataset_name=one.name,
            dataset_config=_SUBSET,
            dataset_split=one.split,
            dataset_revision=one.revision,
            metric_type=metric,
            metric_value=value,
        )
        for one in results
        for metric, value in one.metrics.items()
    ]
    tags = [*_TAGS, *["mteb"] * any(one.revision is not None for one in results)]
    return ModelCardData(
        language=list(config.languages),
        license=config.licence,
        base_model=config.base_model,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=tags,
        model_name=name.rsplit("/", 1)[-1],
        eval_results=entries or None,
    )


def _sections(encoder: Encoder, facts: CardFacts, config: CardConfig) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zhihui.evaluation"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["counts"] = shown_counts
    return environment.get_template("card_sections.md.j2").render(
        training=facts.training,
        settings=training_settings(facts.training),
        tables=[
            (system, found, as_markdown(make_table(found)), _beaten(system, found)) for system, found in facts.tables
        ],
        query_prompt=encoder.settings.prompt("query"),
        max_length=encoder.settings.max_length,
        about="" if config.about is None else config.about.read_text(encoding="utf-8").strip(),
        licence=config.licence,
        base_model=config.base_model,
        languages=config.languages,
    )


def _beaten(system: str, found: Comparison) -> list[str]:
    """Return the sets on which BM25 is better, which a reader should know before an embedding model is deployed."""
    own = next(one for one in found.systems if one.name == system)
    baseline = next((one for one in found.systems if one.name == BASELINE), None)
    if baseline is None:
        return []
    pairs = zip(found.sets, own.per_set, baseline.per_set, strict=True)
    return [one.name for one, mine, other in pairs if other.value > mine.value]
