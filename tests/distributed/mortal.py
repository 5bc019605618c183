"""An encoder that logs what it encodes, and fails or dies where it is told to; opened in Ray's workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from zhihui.encoder.devices import open_on
from zhihui.runs import to_json


class Mortal:
    """Encodes as another does.

    Args:
        encoder: the other one.
        log: folder; gets a file for each call, with its texts.
        dies: so many times, at the first call with a text that holds `at`, its process is killed.
        fails: whether a call with such a text fails.
        at: part of a text.
    """

    def __init__(self, encoder, log: Path, *, dies: int = 0, fails: bool = False, at: str = "") -> None:
        self._encoder, self._log = encoder, log
        self._dies, self._fails, self._at = dies, fails, at
        self.name, self.fingerprint = encoder.name, encoder.fingerprint

    def encode_queries(self, texts, *, instruction=None):
        self._live(texts)
        return self._encoder.encode_queries(texts, instruction=instruction)

    def encode_documents(self, texts):
        self._live(texts)
        return self._encoder.encode_documents(texts)

    def _live(self, texts) -> None:
        self._log.mkdir(exist_ok=True)
        if any(self._at in text for text in texts):
            if self._fails:
                raise ArithmeticError("told to fail")
            deaths = len(list(self._log.glob("died-*")))
            if deaths < self._dies:
                (self._log / f"died-{deaths}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        (self._log / f"call-{os.getpid()}-{len(os.listdir(self._log))}.json").write_text(to_json(list(texts)))


def open_mortal(device: str, *, model: str, log: Path, **fate) -> Mortal:
    return Mortal(open_on(device, model=model), log, **fate)
