"""Evaluation as a stage: retrieval systems measured set by set, into a folder with results and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.evaluation.report import write_report, write_results_json
from zhihui.evaluation.run import Evaluation, evaluate
from zhihui.evaluation.stored import read_found, write_found
from zhihui.evaluation.systems import Bm25System, DenseSystem, HybridSystem, RetrievalSystem
from zhihui.ranking import TopK
from zhihui.records import RetrievalSet, is_beir, read_beir
from zhihui.records.shipped import set_name
from zhihui.runs import Manifest, fingerprint, fingerprint_path, run_stage

RESULTS, REPORT, SETS, MTEB = "results.json", "report.html", "sets", "mteb"
"""What the output folder holds, beside the manifest."""
FOUND = "found.jsonl"
Baseline = Literal["bm25", "none"]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured besides the models, and on which judgements."""

    split: str = "test"
    """Judgements to measure on, those of qrels/SPLIT.tsv."""
    baseline: Baseline = "bm25"
    """Measured beside the models, and compared with: BM25 over Chinese words, or nothing."""
    hybrid: bool = False
    """Whether each model is measured fused with BM25 by reciprocal rank too."""
    instruction: str | None = None
    """The task in words, in place of the models' own query prompt."""

    def __post_init__(self) -> None:
        if self.baseline not in get_args(Baseline):
            raise InputError(f"baseline {self.baseline!r} is unknown; choose {' or '.join(get_args(Baseline))}")


class Measurement:
    """Systems to be measured on sets: everything is checked and read when it is built, before a model is at work."""

    def __init__(self, folders: Mapping[str, Path], config: EvaluationConfig) -> None:
        """Read the sets.

        Args:
            folders: BEIR folders by the set's name, see `set_folders`.
            config: what is measured.

        Raises:
            InputError: unusable data, or a set without the split.
        """
        self.folders, self.config = dict(folders), config
        self.sets = {name: read_beir(folder) for name, folder in folders.items()}
        for data in self.sets.values():
            data.judged(config.split)

    def identity(self, systems: Sequence[RetrievalSystem]) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the inputs and settings that the results depend on, as the manifest has them."""
        inputs = {f"set:{name}": fingerprint_path(folder) for name, folder in self.folders.items()}
        inputs |= {f"system:{system.name}": system.fingerprint for system in systems}
        names = [system.name for system in systems]
        return inputs, {"split": self.config.split, "systems": names, "instruction": self.config.instruction}

    def run(self, systems: Sequence[RetrievalSystem], out: Path, *, overwrite: bool = False) -> Manifest:
        """Measure into the stage folder `out`: results.json (the average), report.html, sets/ and mteb/.

        A run that was killed goes on at the set it was in.

        Raises:
            InputError: two systems of one name, or `out` is taken.
        """
        inputs, settings = self.identity(systems)
        work = partial(self._measure, systems=systems)
        return run_stage("evaluate", out, work, inputs=inputs, config=settings, overwrite=overwrite)

    def _measure(self, folder: Path, *, systems: Sequence[RetrievalSystem]) -> dict[str, Any]:
        evaluations: list[Evaluation] = []
        for name, data in self.sets.items():
            found = folder / SETS / name / FOUND
            if found.is_file():
                evaluations.append(read_found(found, data))
                continue
            evaluation = measure_set(folder / MTEB, data, systems, self.config)
            write_results_json(folder / SETS / name / RESULTS, evaluation)
            write_found(found, evaluation)  # last: it marks the set as done
            evaluations.append(evaluation)
        write_results_json(folder / RESULTS, evaluations)
        settings = {
            "split": self.config.split,
            "sets": list(self.sets),
            "systems": [system.name for system in systems],
            "query instruction": self.config.instruction or "the models' own",
            "passages ranked": 1000,
        }
        what = next(iter(self.sets)) if len(self.sets) == 1 else f"{len(self.sets)} sets"
        write_report(folder / REPORT, title=f"Retrieval on {what}", evaluation=evaluations, settings=settings)
        return {
            "sets": len(self.sets),
            "systems": len(systems),
            "queries": sum(len(one.query_ids) for one in evaluations),
            "passages": sum(len(one.corpus) for one in self.sets.values()),
        }


def measure_set(
    folder: Path, data: RetrievalSet, systems: Sequence[RetrievalSystem], config: EvaluationConfig
) -> Evaluation:
    """Evaluate one set, and let mteb score the same rankings into its own result files under `folder`."""
    from zhihui.evaluation import mteb_tasks

    task = mteb_tasks.make_task(data, config.split, instruction=config.instruction)

    def keep(system: RetrievalSystem, ranking: TopK) -> None:
        model = mteb_tasks.RankingSearch(ranking, data, config.split, name=system.name, revision=system.fingerprint)
        mteb_tasks.write_mteb_results(folder, model, [task])

    return evaluate(data, config.split, systems, observe=keep)


# --------------------------------------------------------------------------- what is measured


def set_folders(given: Sequence[Path]) -> dict[str, Path]:
    """Return BEIR folders by the set's name; a folder of BEIR folders stands for those inside.

    Raises:
        InputError: no such folder, none in it, or two sets of one name.
    """
    found: dict[str, Path] = {}
    for path in given:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder")
        inside = [path] if is_beir(path) else sorted(child for child in path.iterdir() if is_beir(child))
        if not inside:
            raise InputError(f"{path}: neither a BEIR folder nor a folder of such; a set has corpus.jsonl in it")
        for folder in inside:
            name = set_name(folder)
            if name in found and found[name].resolve() != folder.resolve():
                raise InputError(f"{folder} and {found[name]}: two sets of one name; rename a folder")
            found[name] = folder
    return found


def systems_of(encoders: Mapping[str, TextEncoder], config: EvaluationConfig) -> list[RetrievalSystem]:
    """Return the systems in the order they are shown: baseline, models by name, hybrids."""
    bm25 = Bm25System()
    dense = [DenseSystem(one, name=name, instruction=config.instruction) for name, one in encoders.items()]
    systems: list[RetrievalSystem] = [] if config.baseline == "none" else [bm25]
    systems += dense
    if config.hybrid:
        label = "hybrid" if len(dense) == 1 else "hybrid of {}"
        systems += [HybridSystem([bm25, one], name=label.format(one.name)) for one in dense]
    return systems


def check_systems(count: int, config: EvaluationConfig) -> None:
    """Check before a model is loaded that there is something to measure.

    Args:
        count: how many models are given.
        config: what else is measured.

    Raises:
        InputError: neither model nor baseline, or a hybrid of no model.
    """
    if not count and config.baseline == "none":
        raise InputError("nothing to measure; name a model, or leave out baseline none")
    if config.hybrid and not count:
        raise InputError("hybrid fuses BM25 with a model; name a model")


def during_training(folder: Path, split: str) -> tuple[Callable[[TextEncoder], dict[str, float]], str]:
    """Return a function that measures an encoder on a split, and the fingerprint of what it measures.

    Raises:
        InputError: unusable data, or no such split.
    """
    data = read_beir(folder)
    data.judged(split)

    def scores(encoder: TextEncoder) -> dict[str, float]:
        (result,) = evaluate(data, split, [DenseSystem(encoder, name="model")]).systems
        return {metric: result.intervals[metric].value for metric in ("ndcg_at_10", "recall_at_100")}

    return scores, fingerprint([fingerprint_path(folder), split])
