"""The quickstart's stages, in order; each is a folder under `stages/`, so a killed run goes on where it was."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhihui.encoder import Encoder, load
from zhihui.encoder.cache import CachedEncoder
from zhihui.encoder.stage import BuildConfig, build_files
from zhihui.errors import InputError
from zhihui.evaluation import (
    Bm25System,
    Curve,
    DenseSystem,
    Evaluation,
    HybridSystem,
    RetrievalSystem,
    evaluate,
    write_report,
    write_results_json,
)
from zhihui.evaluation.calibration import CalibrationConfig
from zhihui.evaluation.calibration_stage import calibrate_files
from zhihui.evaluation.stored import read_found, write_found
from zhihui.mining import Miner, MiningConfig
from zhihui.mining.stage import TRAIN, mine_files
from zhihui.quickstart import budget
from zhihui.quickstart.data import read_set, watched
from zhihui.quickstart.engine import RECIPE, add_section, run_engine
from zhihui.quickstart.searches import Search, search_export, write_searches
from zhihui.quickstart.shown import Engine
from zhihui.records import RetrievalSet, read_examples, write_beir, write_examples
from zhihui.records.shipped import ENGINE
from zhihui.runs import Manifest, fingerprint, read_manifest, run_stage
from zhihui.training.history import History
from zhihui.training.stage import MODEL, train_files

RESULTS, REPORT, SEARCHES, STAGES = "results.json", "report.html", "searches.json", "stages"
"""What the output folder holds, beside `model/` and the manifest."""

Say = Callable[[str], None]

FOUND = "found.jsonl"
_WATCHED_QUERIES, _WATCHED_PASSAGES = 200, 500
_MINING = MiningConfig(
    miners=(Miner(method="bm25", first=2, last=50, count=2), Miner(method="dense", first=2, last=50, count=2)),
    ratio=0.95,
)


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """What a quickstart's numbers depend on besides its data and its starting model."""

    seed: int = 0
    """Of splits, weights, mining, batches and sample queries."""
    training_tokens: int = 1_000_000
    """Tokens encoded in training, about: 100 seconds of two CPU cores with the `nano` shape."""
    shape: str = "nano"
    """Of the fresh model, when none is given."""

    def __post_init__(self) -> None:
        if self.training_tokens < 1:
            raise InputError(f"training_tokens {self.training_tokens} is too few; use at least 1")


def quickstart(
    out: Path,
    config: QuickstartConfig,
    *,
    data: Path | None = None,
    model: str | None = None,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> Manifest:
    """Run the whole system on a set and leave model/, results.json, report.html and searches.json in `out`.

    On the shipped set the report also shows the data engine at work, from a teacher's recorded answers.

    Args:
        out: the run's folder.
        config: seed and size.
        data: BEIR folder; None for the shipped starter set.
        model: folder or hub id of the model to start from; None builds a fresh one on the set's own text.
        overwrite: replace a finished run of other inputs or settings.
        say: told what is being done, a line at a time.

    Raises:
        InputError: unusable data or model.
    """
    whole = read_set(data, seed=config.seed)
    inputs: dict[str, Path | str] = {"data": data or "starter"}
    if model is not None:
        inputs["model"] = load(model).fingerprint
    # The split queries are part of what is measured: the shipped set may change with the package.
    inputs["passages"] = _fingerprint(whole)
    if data is None:
        inputs |= {"engine": ENGINE, "engine_recipe": RECIPE}

    def work(folder: Path) -> dict[str, Any]:
        return _Run(folder, out, whole, config, model, say, shipped=data is None).all()

    return run_stage("quickstart", out, work, inputs=inputs, config=config, overwrite=overwrite)


def _fingerprint(data: RetrievalSet) -> str:
    return fingerprint([{key: passage.full for key, passage in data.corpus.items()}, data.queries, data.qrels])


class _Run:
    """One run: `all` goes through its steps, each of which finds its work done when it was."""

    def __init__(
        self,
        folder: Path,
        out: Path,
        data: RetrievalSet,
        config: QuickstartConfig,
        model: str | None,
        say: Say,
        *,
        shipped: bool,
    ) -> None:
        self.folder, self.out, self.stages, self.shipped = folder, out, folder / STAGES, shipped
        self.data, self.config, self.start_from, self._say = data, config, model, say
        self.trainee = model or str(self.stages / "start" / MODEL)
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        """Tell what begins, and after how many seconds."""
        self._say(f"[{time.monotonic() - self.started:5.0f} s] {line}")

    def all(self) -> dict[str, Any]:
        """Run every step and return the run's counts."""
        queries = {split: len(judged) for split, judged in self.data.qrels.items()}
        shown = ", ".join(f"{count:,} {split}" for split, count in queries.items())
        self.say(f"{self.data.name}: {len(self.data.corpus):,} passages; queries: {shown}")
        self.write_data()
        engine = self.engine()
        before = self.start()
        self.mine(self.calibrated(before))
        history = self.train()
        after = load(self.trained / MODEL)
        evaluation = self.measure(before, after)
        searches = self.search(after, evaluation)
        difference = self.publish(evaluation, history, searches, engine)
        return {
            "passages": len(self.data.corpus),
            "queries": queries,
            "steps": len(history.loss),
            "export_difference": difference,
        }

    # ----------------------------------------------------------------------- before training

    @property
    def trained(self) -> Path:
        """The training stage's folder."""
        return self.stages / "trained"

    def write_data(self) -> None:
        """Write the set with its splits, for the stages and for people."""

        def work(folder: Path) -> dict[str, Any]:
            write_beir(folder, self.data)
            return {"passages": len(self.data.corpus), "queries": len(self.data.queries)}

        run_stage("prepare", self.stages / "data", work, inputs={"set": _fingerprint(self.data)}, config={})

    def engine(self) -> Engine | None:
        """Run the data engine on what is shipped; there is a recorded teacher for nothing else."""
        if not self.shipped:
            return None
        self.say("the data engine, from a teacher's recorded answers")
        return run_engine(self.stages / "engine")

    def start(self) -> Encoder:
        """Build or load the model that training starts from."""
        if self.start_from is not None:
            return load(self.start_from, dtype="float32")
        self.say(f"building a fresh {self.config.shape} model and its tokenizer on the set's own text")
        config = BuildConfig(shape=self.config.shape, seed=self.config.seed)
        build_files(self.stages / "data", self.stages / "start", config)
        return load(self.stages / "start" / MODEL)

    def calibrated(self, before: Encoder) -> Encoder:
        """Let a model of terms weigh its parts as the training queries ask, before they train it; others stay."""
        if before.has_layers:
            return before
        self.say("weighing the model's parts by the training queries")
        encoder = load(self.trainee, dtype="float32")  # is changed, and what was before is measured yet
        calibrate_files(self.stages / "data", encoder, self.stages / "calibrated", CalibrationConfig())
        self.trainee = str(self.stages / "calibrated" / MODEL)
        return load(self.trainee, dtype="float32")

    def cached(self, encoder: Encoder) -> CachedEncoder:
        """Let mining and measuring share the vectors of a model."""
        return CachedEncoder(encoder, self.stages / "vectors")

    def mine(self, encoder: Encoder) -> None:
        """Mine hard negatives for the training queries with BM25 and the starting model."""
        self.say("mining hard negatives with BM25 and the model")
        mine_files(self.stages / "data", self.stages / "mined", _MINING, encoder=self.cached(encoder))

    # ----------------------------------------------------------------------- training

    def train(self) -> History:
        """Train within the budget of tokens."""
        encoder = load(self.trainee, dtype="float32")
        tokens, seed = self.config.training_tokens, self.config.seed
        path = self.stages / "chosen" / TRAIN

        def work(folder: Path) -> dict[str, Any]:
            mined = list(read_examples(self.stages / "mined" / TRAIN))
            chosen = budget.choose(encoder, mined, tokens=tokens, seed=seed)
            write_examples(folder / TRAIN, chosen)
            return {"mined": len(mined), "chosen": len(chosen)}

        inputs: dict[str, Path | str] = {"mined": self.stages / "mined", "model": encoder.fingerprint}
        run_stage("choose", path.parent, work, inputs=inputs, config={"tokens": tokens, "seed": seed})
        examples = list(read_examples(path))
        config = budget.settings(encoder, examples, tokens=tokens, seed=seed)
        steps = config.epochs * (len(examples) // config.batches.size)
        self.say(f"training on {len(examples):,} examples, batches of {config.batches.size}, about {steps} steps")
        small = watched(self.data, "dev", queries=_WATCHED_QUERIES, passages=_WATCHED_PASSAGES)

        def scores(trainee: Encoder) -> Mapping[str, float]:
            (result,) = evaluate(small, "dev", [DenseSystem(trainee, name="model")], k=100).systems
            return {"ndcg_at_10": result.intervals["ndcg_at_10"].value}

        train_files(
            path,
            encoder,
            self.trained,
            config,
            name=str(self.out / MODEL),
            evaluate=scores,
            measured_on=_fingerprint(small),
        )
        return History.read(self.trained)

    # ----------------------------------------------------------------------- after training

    def measure(self, before: Encoder, after: Encoder) -> Evaluation:
        """Measure BM25, the model before and after, and its fusion with BM25 on the test queries."""
        self.say("measuring BM25, the model before and after training, and the hybrid on the test queries")
        bm25, trained = Bm25System(), DenseSystem(self.cached(after), name="after")
        start = DenseSystem(self.cached(before), name="before")
        systems: list[RetrievalSystem] = [bm25, start, trained, HybridSystem.with_bm25(bm25, trained)]

        def work(folder: Path) -> dict[str, Any]:
            write_found(folder / FOUND, evaluate(self.data, "test", systems, seed=self.config.seed))
            return {"queries": len(self.data.judged("test"))}

        inputs: dict[str, Path | str] = {system.name: system.fingerprint for system in systems}
        inputs["data"] = self.stages / "data"
        run_stage("measure", self.stages / "measured", work, inputs=inputs, config={"seed": self.config.seed})
        # Read back even when just measured, so that a run that was cut short and one that was not are the same.
        return read_found(self.stages / "measured" / FOUND, self.data, seed=self.config.seed)

    def search(self, after: Encoder, evaluation: Evaluation) -> list[Search]:
        """Answer three test queries with the export as sentence-transformers loads it."""
        self.say("searching with the exported model")
        chosen = random.Random(self.config.seed).sample(evaluation.query_ids, min(3, len(evaluation.query_ids)))
        return search_export(self.trained / MODEL, self.data, chosen, self.cached(after))

    def publish(
        self, evaluation: Evaluation, history: History, searches: Sequence[Search], engine: Engine | None
    ) -> float:
        """Put the results where people look; returns how far the export's vectors are from our own at most."""
        manifest = read_manifest(self.trained)
        assert manifest is not None, "training is done"
        difference = float(manifest.counts["export_difference"])
        write_results_json(self.folder / RESULTS, evaluation, seed=self.config.seed)
        write_searches(self.folder / SEARCHES, searches)
        steps, losses = zip(*history.loss, strict=True)
        measured_at = [step for step, _ in history.evaluations]
        watched_scores = [found["ndcg_at_10"] for _, found in history.evaluations]
        write_report(
            self.folder / REPORT,
            title=f"Quickstart on {self.data.name}",
            evaluation=evaluation,
            curves=[
                Curve(label="loss", x=steps, y=losses),
                Curve(label="after", x=measured_at, y=watched_scores, y_label="nDCG@10 (dev sample)"),
            ],
            settings={"quickstart": self.config, "start": self.start_from or "fresh"},
            notes=[
                "before: the model that was given or built. after: what training made of it, a model of terms having "
                "been calibrated on the training queries first; its weights at the best evaluation on a sample of the "
                "dev queries. hybrid: after and bm25, their scores fused. Measured on test queries, which "
                "training never saw.",
                f"The exported model, loaded by transformers and sentence-transformers, gives the same vectors to "
                f"{difference:.0e}.",
            ],
            seed=self.config.seed,
        )
        if engine is not None:
            add_section(self.folder / REPORT, engine)
        shutil.rmtree(self.folder / MODEL, ignore_errors=True)
        shutil.copytree(self.trained / MODEL, self.folder / MODEL)
        return difference
