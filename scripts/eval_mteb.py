"""Measure a model on C-MTEB's retrieval tasks into mteb's own result files, one task after the other.

    python scripts/eval_mteb.py --model_name_or_path Lenovo-Zhihui/Zhihui_LLM_Embedding --task T2Retrieval

writes OUTPUT_DIR/results/<org__name>/<revision>/T2Retrieval.json and model_meta.json, which mteb's results repository
takes, and OUTPUT_DIR/runs/<org__name>/<revision>/T2Retrieval/ with intervals and a report. A task that was finished by
the same checkpoint is not measured again; one that was killed goes on where it was. It is `zhihui eval` underneath.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from zhihui.encoder.cache import BLOCK
from zhihui.encoder.devices import check_device
from zhihui.errors import InputError, RunFailure
from zhihui.evaluation.cmteb import ALL, Task, find_tasks
from zhihui.evaluation.mteb_tasks import result_place
from zhihui.evaluation.registry import System, find_system, systems
from zhihui.evaluation.registry_models import ModelSource, check_runnable, open_all
from zhihui.evaluation.sets import task_sets
from zhihui.evaluation.stage import MTEB, EvaluationConfig, Measurement, systems_of
from zhihui.evaluation.systems import RetrievalSystem
from zhihui.runs import read_json

MODEL_META = "model_meta.json"


def parser() -> argparse.ArgumentParser:
    """Return the options, under the names that evaluation scripts of model cards use."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("-m", "--model_name_or_path", required=True, help="folder or hub id of an embedding model")
    found.add_argument("--system", help="registered system that a folder is a copy of, such as zhihui")
    found.add_argument("-t", "--task", nargs="+", default=[ALL], help="T2Retrieval, ... or all (the default)")
    found.add_argument("--output_dir", type=Path, default=Path("results"), help="where results go (results)")
    found.add_argument("--data_dir", type=Path, help="local mirror of the data sets; else they are fetched")
    found.add_argument("--cache_dir", type=Path, help="folder of vectors that several runs share")
    found.add_argument("--instruction", help="the task in words, in place of each task's own")
    found.add_argument("--max_length", "--max_seq_length", type=int, help="tokens a text is cut to; the model's own")
    found.add_argument("--pooling", choices=("lasttoken", "mean", "cls"), help="the model's own")
    found.add_argument("--device", nargs="+", default=[], help="cpu, cuda:0, ...; several for a process on each")
    found.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Measure; return the exit status: 0 done, 1 failed, 2 bad input."""
    options = parser().parse_args(given)
    try:
        measure(options)
    except InputError as error:
        print(f"eval_mteb: {error}", file=sys.stderr)
        return 2
    except RunFailure as error:
        print(f"eval_mteb: {error}", file=sys.stderr)
        return 1
    return 0


def measure(options: argparse.Namespace) -> None:
    """Open the model once and measure task after task."""
    tasks = find_tasks(options.task)
    system = registered(options.model_name_or_path) if options.system is None else find_system(options.system)
    if system is not None:
        check_runnable(system, trust_remote_code=options.trust_remote_code)
    source = ModelSource(
        model=options.model_name_or_path,
        system=system,
        forced=options.instruction is not None,
        max_length=options.max_length,
        pooling=options.pooling,
        trust_remote_code=options.trust_remote_code,
    )
    for device in options.device:
        check_device(device)
    config = EvaluationConfig(baseline="none", instruction=options.instruction)
    first = task_sets(tasks[:1], options.data_dir)  # its faults show before a model of 14 GB is loaded
    scores = []
    with ExitStack() as running:
        encoders = open_all([source], options.device, running)
        about = dict.fromkeys(encoders, source.about)
        for task in tasks:
            sets = first if task is tasks[0] else task_sets([task], options.data_dir)
            measurement = Measurement(sets, config)
            (model,) = systems_of(encoders, config, instructions=measurement.instructions, about=about)
            scores.append(measure_task(measurement, model, task, options))
            print(f"{task.name}: nDCG@10 {100 * scores[-1]:.2f}", flush=True)
    print(f"average of {len(scores)}: {100 * sum(scores) / len(scores):.2f}")


def measure_task(measurement: Measurement, model: RetrievalSystem, task: Task, options: argparse.Namespace) -> float:
    """Measure one task, put mteb's files where they are looked for, and return the main score."""
    place = result_place(model.name, model.fingerprint)
    run = options.output_dir / "runs" / place / task.name
    measurement.run([model], run, cache=options.cache_dir, block=BLOCK * max(1, len(options.device)), overwrite=True)
    results = options.output_dir / "results" / place
    results.mkdir(parents=True, exist_ok=True)
    for file in (f"{task.name}.json", MODEL_META):
        shutil.copyfile(run / MTEB / "results" / place / file, results / file)
    return float(read_json(results / f"{task.name}.json")["scores"][task.split][0]["main_score"])


def registered(model: str) -> System | None:
    """Return the registered system of a hub id, which is then loaded as its authors do."""
    return next((system for system in systems().values() if system.hub == model), None)


if __name__ == "__main__":
    sys.exit(main())
