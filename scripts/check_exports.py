"""Proof that exported models give zhihui's vectors in whatever transformers and sentence-transformers are installed.

    python scripts/check_exports.py write OUT    # with zhihui: small models of every family, exported, with references
    python scripts/check_exports.py check OUT    # in any environment with transformers; zhihui is not imported

`check` prints, for each model, the largest difference of a number in a vector from the reference:

left, right     AutoModel with trust_remote_code=True, padded on that side; BERT counts positions through the padding,
                so it is never padded on the left
eager           the same with attn_implementation="eager"
plain           AutoModel without trust_remote_code; not before transformers 5.2, which reads an open decoder as causal
st, st plain    SentenceTransformer.encode with and without trust_remote_code

It exits with 1 when a number is beyond the tolerance or a loader fails.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COLUMNS = ("left", "right", "eager", "plain", "st", "st plain")
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.02}
"""In bfloat16 a number has 8 significant bits; padding alone moves the vectors of 64 numbers by about 0.005."""
SINCE = {"qwen3": (4, 51)}
"""The first transformers that has a family."""
HONOURS_IS_CAUSAL = (5, 2)


# --------------------------------------------------------------------------- write, with zhihui


def write(out: Path, names: Sequence[str] | None = None) -> None:
    """Make, export and encode with the models of these names, or with all."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "encoder"))
    from families import CASES, PASSAGES, make

    from zhihui.encoder.export import export

    texts = {
        "query": ["租房押金不退怎么办", "干香菇怎么泡发？", "iPhone 15 換電池要多少錢"],
        "document": [PASSAGES[0], "好", PASSAGES[1] + PASSAGES[2], "What is 检索？\n第二行。"],
    }
    for name in names or CASES:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            encoder = make(case, PASSAGES, Path(folder) / "checkpoint")
        export(encoder, out / name / "model", overwrite=True)
        reference = {
            "family": case.family,
            "open_decoder": case.attention == "bidirectional",
            "pooling": case.pooling,
            "dense": case.dense,
            "normalize": case.normalize,
            "dtype": case.dtype,
            "max_length": encoder.settings.max_length,
            "prompts": {role: encoder.settings.prompt(role) for role in texts},
            "texts": texts,
            "ids": {role: encoder.tokenize(texts[role], role=role) for role in texts},
            "vectors": {role: encoder.encode(texts[role], role=role).tolist() for role in texts},
        }
        (out / name / "reference.json").write_text(json.dumps(reference, ensure_ascii=False), encoding="utf-8")
        print(f"{out / name}")


# --------------------------------------------------------------------------- check, without zhihui


def check(out: Path) -> int:
    import torch
    import transformers

    release = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, sentence-transformers {_st_version()}")
    print(f"{'':18}" + "".join(f"{column:>11}" for column in COLUMNS))
    failures: list[str] = []
    paths = sorted(out.glob("*/reference.json"))
    if not paths:
        sys.exit(f"{out}: no exported models; make them with `write`")
    for path in paths:
        reference = json.loads(path.read_text(encoding="utf-8"))
        if release < SINCE.get(reference["family"], (0,)):
            print(f"{path.parent.name:18}  skipped: no {reference['family']} before {SINCE[reference['family']]}")
            continue
        cells = []
        for column in COLUMNS:
            why_not = skipped(column, reference, release)
            cells.append(why_not or cell(path.parent, reference, column, failures))
        print(f"{path.parent.name:18}" + "".join(f"{cell:>11}" for cell in cells), flush=True)
    print("\n".join(failures) if failures else "all within the tolerance")
    return 1 if failures else 0


def _st_version() -> str:
    try:
        import sentence_transformers
    except ModuleNotFoundError:
        return "not installed"
    return str(sentence_transformers.__version__)


def skipped(column: str, reference: dict[str, Any], release: tuple[int, ...]) -> str | None:
    """Return why a column does not apply to a model here, or None."""
    if column.startswith("st") and _st_version() == "not installed":
        return "absent"
    if column == "left" and reference["family"] == "bert":
        return "positions"
    if column.endswith("plain") and reference["open_decoder"] and release < HONOURS_IS_CAUSAL:
        return "causal"
    if not column.startswith("st") and reference["dense"]:
        return "dense"
    return None


def cell(folder: Path, reference: dict[str, Any], column: str, failures: list[str]) -> str:
    run: Callable[[str, dict[str, Any], str], float] = _st if column.startswith("st") else _hf
    try:
        difference = run(str(folder / "model"), reference, column)
    except Exception as error:  # whatever a loader raises is what we want to know
        place = traceback.extract_tb(error.__traceback__)[-1]
        failures.append(f"{folder.name}, {column}: {repr(error)[:300]} ({place.filename}:{place.lineno})")
        return "ERROR"
    if not difference <= TOLERANCE[reference["dtype"]]:
        failures.append(f"{folder.name}, {column}: differs by {difference:.1e}")
        return f"*{difference:.1e}"
    return f"{difference:.1e}"


def _hf(folder: str, reference: dict[str, Any], column: str) -> float:
    import torch
    from transformers import AutoModel, AutoTokenizer

    trust = column != "plain"
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    if column in ("left", "right"):
        tokenizer.padding_side = column
    options: dict[str, Any] = {"attn_implementation": "eager"} if column == "eager" else {}
    dtype = getattr(torch, reference["dtype"])
    model = AutoModel.from_pretrained(folder, trust_remote_code=trust, torch_dtype=dtype, **options).eval()
    worst = 0.0
    for role, texts in reference["texts"].items():
        prompted = [reference["prompts"][role] + text for text in texts]
        length = reference["max_length"]
        inputs = tokenizer(prompted, padding=True, truncation=True, max_length=length, return_tensors="pt")
        mask = inputs["attention_mask"]
        ids = [row[kept.bool()].tolist() for row, kept in zip(inputs["input_ids"], mask, strict=True)]
        assert ids == reference["ids"][role], f"token ids {ids} are not {reference['ids'][role]}"
        with torch.no_grad():
            states = model(**inputs).last_hidden_state
        vectors = _pool(states.float(), mask, reference["pooling"])
        if reference["normalize"]:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        worst = max(worst, _difference(vectors, reference["vectors"][role]))
    return worst


def _st(folder: str, reference: dict[str, Any], column: str) -> float:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", trust_remote_code=column == "st")
    assert model.max_seq_length == reference["max_length"], f"max_seq_length is {model.max_seq_length}"
    return max(
        _difference(model.encode(texts, prompt_name=role, convert_to_tensor=True).float(), reference["vectors"][role])
        for role, texts in reference["texts"].items()
    )


def _pool(states: Any, mask: Any, pooling: str) -> Any:
    """Return the vectors `[B, D]` of padded states `[B, L, D]`, padded on either side."""
    import torch

    if pooling == "mean":
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    # The first maximum is the first token; counted from the end, the last.
    at = mask.argmax(1) if pooling == "cls" else mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return states[torch.arange(len(states)), at]


def _difference(vectors: Any, expected: list[list[float]]) -> float:
    import torch

    reference = torch.tensor(expected)
    assert vectors.shape == reference.shape, f"vectors are {list(vectors.shape)}, not {list(reference.shape)}"
    return float((vectors - reference).abs().max())


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "check"):
        sys.exit(__doc__)
    if sys.argv[1] == "check":
        sys.exit(check(Path(sys.argv[2])))
    write(Path(sys.argv[2]))
