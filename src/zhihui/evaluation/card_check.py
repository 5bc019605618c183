"""Proof of a card: its code is run on the model it describes, and must give the model's own scores."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from zhihui.encoder.container import first_line
from zhihui.encoder.encoder import Encoder
from zhihui.encoder.export_check import hushed, tolerance
from zhihui.errors import RunFailure

_BLOCK = re.compile(r"^## Use with ([^\n]+)\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXACT = 1e-4
"""By how much a cosine may differ in fp32; in half precision by what the vectors may, a few times."""


def run_usage(card: str, folder: Path, encoder: Encoder, *, name: str) -> list[str]:
    """Run the code of a card on the model in a folder, and return the libraries whose code was run.

    The code of a library that is not installed is left out.

    Args:
        card: the text of the card.
        folder: holds the model.
        encoder: the same model, whose scores the code must give.
        name: what the code loads; the folder is loaded in its place.

    Raises:
        RunFailure: the code fails, gives other scores, or there is none.
    """
    done = []
    for library, code in _BLOCK.findall(card):
        if find_spec(library.replace("-", "_")) is None:
            continue
        values = _run(library, code.replace(json.dumps(name, ensure_ascii=False), repr(str(folder))), encoder.name)
        expected = encoder.encode_queries(values["queries"]) @ encoder.encode_documents(values["documents"]).T
        found = values["scores"]
        scores = np.asarray(found if isinstance(found, np.ndarray) else found.float().cpu().numpy())
        difference = float(np.abs(scores - expected).max())
        allowed = max(_EXACT, 4 * tolerance(encoder))
        if not difference <= allowed:  # NaN is beyond it too
            raise RunFailure(
                f"{encoder.name}: the card's code for {library} gives scores that differ by {difference:.1e}; at most "
                f"{allowed:.1e} is allowed"
            )
        done.append(library)
    if not done:
        raise RunFailure(f"{encoder.name}: the card has no code that could be run here")
    return done


def _run(library: str, code: str, model: str) -> dict[str, Any]:
    values: dict[str, Any] = {"__name__": "card"}
    try:
        with hushed(), redirect_stdout(io.StringIO()):
            exec(compile(code, f"card of {model}", "exec"), values)
    except Exception as error:  # whatever it raises, the card's readers would meet
        raise RunFailure(f"{model}: the card's code for {library} fails ({first_line(error)})") from error
    return values
