"""The model card: its results as the hub reads them, its code as its readers run it, its facts as the manifests say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from run_folders import write_run

from zhihui.encoder import EncoderSettings, build
from zhihui.encoder.export import export
from zhihui.errors import InputError, RunFailure
from zhihui.evaluation import card_facts
from zhihui.evaluation.card import CardConfig, card_text, front_matter, gather, write_card
from zhihui.evaluation.card_check import run_usage
from zhihui.evaluation.card_facts import METRICS, find_system, set_results, training_facts
from zhihui.evaluation.compare_runs import read_run
from zhihui.records import write_rows
from zhihui.runs import fingerprint, fingerprint_path, run_stage

TEXTS = ["租房押金不退怎么办，可以投诉或者起诉。", "干香菇用温水泡半小时。", "高铁票开车前八天以上退票不收手续费。"]
COVID = "CovidRetrieval"


@pytest.fixture(scope="module")
def encoder():
    settings = EncoderSettings(max_length=64, prompts={"query": "问：", "document": ""})
    return build("tiny", TEXTS, seed=0, settings=settings)


@pytest.fixture
def covid(tmp_path, encoder):
    scores = {COVID: {"bm25": [0.9] * 949, "tiny": [0.5] * 949}, "own|set": {"bm25": [0.1, 0.2], "tiny": [0.3, 0.5]}}
    return write_run(tmp_path / "run", scores, split="dev", fingerprints={"tiny": encoder.fingerprint})


def front(text: str) -> dict:
    return yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))


def test_the_model_index_is_that_of_c_mteb_cards(encoder, covid):
    config = CardConfig(licence="apache-2.0", base_model="org/base", results=(covid,))
    text = card_text(encoder, gather(encoder, "nowhere", config), config, name="org/model")
    about = front(text)
    assert (about["license"], about["language"], about["base_model"]) == ("apache-2.0", ["zh"], "org/base")
    assert "mteb" in about["tags"]
    (index,) = about["model-index"]
    assert index["name"] == "model"
    first, second = index["results"]
    assert first["task"] == {"type": "Retrieval"}
    assert first["dataset"] == {
        "type": "C-MTEB/CovidRetrieval",
        "name": "MTEB CovidRetrieval",
        "config": "default",
        "split": "dev",
        "revision": "1271c7809071a13532e05f25fb53511ffce77117",
    }
    assert [metric["type"] for metric in first["metrics"]][:7] == [
        *("map_at_1", "map_at_10", "map_at_100", "map_at_1000", "map_at_3", "map_at_5", "mrr_at_1"),
    ]
    assert len(first["metrics"]) == 30
    assert {metric["value"] for metric in first["metrics"]} == {50.0}
    assert second["dataset"] == {"type": "own|set", "name": "own|set", "config": "default", "split": "dev"}


def test_the_hub_reads_back_what_was_written(encoder, covid):
    config = CardConfig(results=(covid,))
    facts = gather(encoder, "nowhere", config)
    text = card_text(encoder, facts, config, name="model")
    name, results = model_index_to_eval_results(front(text)["model-index"])
    assert name == "model"
    assert results == front_matter(facts.results, config, name="model").eval_results
    assert ModelCard(text).data.eval_results == results
    assert {(one.dataset_type, one.metric_type, one.metric_value) for one in results} == {
        (one.data_set, metric, value) for one in facts.results for metric, value in one.metrics.items()
    }


def test_a_part_of_a_task_does_not_pass_for_the_task(tmp_path):
    run = read_run(write_run(tmp_path / "part", {COVID: {"m": [0.5] * 10}}, split="dev"))
    (result,) = set_results(run, "m")
    assert (result.data_set, result.name, result.revision) == (COVID, COVID, None)
    assert list(result.metrics) == list(METRICS)


def test_results_and_limits_are_told(encoder, covid):
    config = CardConfig(results=(covid,))
    text = card_text(encoder, gather(encoder, "nowhere", config), config, name="model")
    assert "| tiny | 50.00 | *40.00* |" not in text, "the own set is no task, so nothing published is comparable"
    assert "| tiny | *50.00* | **40.00** | *45.00* |" in text
    assert "this model is `tiny`" in text
    assert "- BM25 is better on CovidRetrieval: where words decide, combine the two." in text
    assert "cut to 64 tokens" in text
    assert "No licence is stated here" in text
    bare = CardConfig(licence="mit")
    text = card_text(encoder, gather(encoder, "nowhere", bare), bare, name="model")
    assert "No measured results are part of this card" in text
    assert "model-index" not in front(text)


def test_sections_of_ones_own_stand_before_the_results(tmp_path, encoder, covid):
    own = tmp_path / "own.md"
    own.write_text("\n## Sources\n\nStatutes {{ as they stand }}.\n", encoding="utf-8")
    config = CardConfig(results=(covid,), about=own)
    text = card_text(encoder, gather(encoder, "nowhere", config), config, name="model")
    assert text.count("\n\n## Sources\n\nStatutes {{ as they stand }}.\n\n## Results\n") == 1


def test_a_run_of_tasks_alone_shows_the_published_systems(tmp_path, encoder):
    run = write_run(
        tmp_path / "run", {COVID: {"m": [0.99] * 949}}, split="dev", fingerprints={"m": encoder.fingerprint}
    )
    config = CardConfig(results=(run,))
    text = card_text(encoder, gather(encoder, "nowhere", config), config, name="model")
    assert "| m | **99.00** | **99.00** |" in text
    assert "| Zhihui_LLM_Embedding (published) | 84.39 | 84.39 |" in text
    assert "were not measured again" in text


def test_the_model_is_known_by_its_fingerprint_or_by_name(tmp_path):
    scores = {"s": {"bm25": [0.1], "a": [0.2], "b": [0.3]}}
    run = read_run(write_run(tmp_path / "run", scores, fingerprints={"b": "mine"}))
    assert find_system(run, "mine", None) == "b"
    assert find_system(run, "other", "a") == "a"
    with pytest.raises(InputError, match="measured bm25, a, b, none of them this very model"):
        find_system(run, "other", None)
    with pytest.raises(InputError, match="no system 'c'; there are: bm25, a, b"):
        find_system(run, "mine", "c")
    told = read_run(write_run(tmp_path / "told", scores, fingerprints={"a": fingerprint(["mine", None])}))
    assert find_system(told, "mine", None) == "a", "the instruction is part of a system's fingerprint"


def test_a_set_in_two_runs_is_refused(tmp_path, encoder):
    for name in ("a", "b"):
        write_run(tmp_path / name, {"s": {"m": [0.5]}}, fingerprints={"m": encoder.fingerprint})
    with pytest.raises(InputError, match="s is in another of the runs too"):
        gather(encoder, "nowhere", CardConfig(results=(tmp_path / "a", tmp_path / "b")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"licence": "Apache 2"}, "licence 'Apache 2' is no identifier"),
        ({"languages": ()}, "no language"),
        ({"system": "m"}, "there are none; pass --results"),
        ({"about": Path("nowhere.md")}, "about nowhere.md: no such file; give a Markdown file"),
    ],
    ids=["licence", "language", "system", "about"],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        CardConfig(**settings)


# --------------------------------------------------------------------------- training


@pytest.fixture
def trained(tmp_path):
    """A run of a recipe: mining, training, and an evaluation, which is no part of what made the model."""
    run = tmp_path / "whole"

    def mined(folder):
        rows = [{"query": "问", "pos": ["答"], "neg": [], "source": source} for source in ("甲|乙", "甲|乙", "丙")]
        write_rows(folder / "train.jsonl", rows)
        return {"examples": 3, "rejected": {"near": 4, "false": 5}, "share": 0.5}

    run_stage("mine", run / "mine", mined, inputs={}, config={})
    data = fingerprint_path(run / "mine" / "train.jsonl")
    settings = {"batches": {"size": 8, "negatives": 2}, "epochs": 3, "loss": {"temperature": 0.05}, "lora": None}
    (run / "stages.json").write_text("{}", encoding="utf-8")

    def model(folder):
        (folder / "model").mkdir()
        return {"steps": 12}

    run_stage("train", run / "train", model, inputs={"data": data}, config=settings)
    run_stage("evaluate", run / "evaluate", lambda folder: {"queries": 9}, inputs={}, config={})
    return run


def test_the_manifests_above_a_model_tell_of_its_training(encoder, trained):
    facts = training_facts(trained / "train" / "model", None)
    assert [one.stage for one in facts.stages] == ["mine", "train"]
    assert facts.sources == {"甲|乙": 2, "丙": 1}
    text = card_text(encoder, gather(encoder, str(trained / "train" / "model"), CardConfig()), CardConfig(), name="m")
    assert "| 甲\\|乙 | 2 |" in text
    assert "| mine | 3 examples, 9 rejected |" in text
    assert "Settings: batch 8, hard negatives for each example 2, epochs 3, temperature 0.05." in text
    assert str(trained) not in text


def test_a_run_may_be_named_and_must_have_manifests(trained, tmp_path):
    assert training_facts(tmp_path / "elsewhere", trained).sources == {"甲|乙": 2, "丙": 1}
    assert training_facts(tmp_path / "elsewhere", None).stages == []
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="no manifest of a finished stage in it"):
        training_facts(tmp_path / "bare", tmp_path / "bare")


def test_examples_that_changed_since_are_not_counted(trained):
    write_rows(trained / "mine" / "train.jsonl", [{"query": "问", "pos": ["答"], "source": "丁"}])
    assert training_facts(trained / "train" / "model", None).sources == {}


def test_older_manifests_tell_what_they_have():
    stage = card_facts.TrainingStage(stage="train", counts={}, config={"epochs": 2})
    facts = card_facts.TrainingFacts(stages=[stage], sources={})
    assert card_facts.training_settings(facts) == ["epochs 2"]
    assert card_facts.shown_counts(stage) == "–"


# --------------------------------------------------------------------------- code


def test_the_code_of_the_card_is_run_on_the_model(encoder, tmp_path):
    export(encoder, tmp_path / "model", name="org/model")
    config = CardConfig()
    facts = gather(encoder, str(tmp_path / "model"), config)
    assert write_card(encoder, tmp_path / "model", facts, config, name="org/model") == [
        "sentence-transformers",
        "transformers",
    ]
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert '"org/model"' in card
    assert str(tmp_path) not in card
    wrong = card.replace('query_prompt = "问："', 'query_prompt = ""')
    assert wrong != card
    with pytest.raises(RunFailure, match="the card's code for transformers gives scores that differ by"):
        run_usage(wrong, tmp_path / "model", encoder, name="org/model")
    broken = card.replace("import torch\n", "import torch.no_such_part\n")
    with pytest.raises(RunFailure, match=r"the card's code for transformers fails .*no_such_part"):
        run_usage(broken, tmp_path / "model", encoder, name="org/model")
    with pytest.raises(RunFailure, match="no code that could be run"):
        run_usage("# A card\n", tmp_path / "model", encoder, name="org/model")
