"""Models opened for measuring: a folder, a hub id or a registered system, told each task in the model's own words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.protocol import TextEncoder
from zhihui.encoder.settings import Pooling
from zhihui.errors import InputError
from zhihui.evaluation.registry import System, check_runnable, find_system
from zhihui.runs import fingerprint

HOUSE_TEMPLATE = "Instruct: {task}\nQuery: "
"""What `TextEncoder.encode_queries` makes of an instruction."""
RESERVED = {"bm25", "random", "hybrid", "rrf"}
"""Names of the systems that no model is behind alone."""
_TOLD = re.compile(r"^(Instruct(?:ion)?: ?).*?( ?\nQuery: ?)$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What is opened, on whichever device; it can be sent to the processes of a `ParallelEncoder`."""

    model: str
    """Folder or hub id."""
    system: System | None = None
    """The registered system whose model it is; None for any other model."""
    forced: bool = False
    """Whether instructions are passed on to models that do not seem to take one."""
    max_length: int | None = None
    """Tokens a text is cut to; None as the system or the model's folder says."""
    pooling: Pooling | None = None
    """None as the system or the model's folder says."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""

    def __call__(self, device: str | None) -> TextEncoder:
        """Open the model on a device.

        Raises:
            InputError: no such model or device, or unusable files.
        """
        return InstructedEncoder(
            self._load(device),
            template=None if self.system is None else self.system.template,
            forced=self.forced,
            name=None if self.system is None else self.system.hub,
        )

    @property
    def about(self) -> dict[str, Any]:
        """What mteb's record of the model shall say besides name and revision."""
        if self.system is None:
            return {}
        return {
            "license": self.system.licence,
            "embed_dim": self.system.dimension,
            "max_tokens": self.system.max_length,
            "open_weights": self.system.weights == "open",
            "use_instructions": self.system.template is not None,
            "reference": f"https://huggingface.co/{self.system.hub}",
        }

    def _load(self, device: str | None) -> TextEncoder:
        # Through the package, so that who replaces `zhihui.encoder.load` is heard.
        from zhihui import encoder
        from zhihui.encoder.tokens import ensure_eos

        own = {"max_length": self.max_length, "pooling": self.pooling, "trust_remote_code": self.trust_remote_code}
        more: dict[str, Any] = {name: value for name, value in own.items() if value}
        system = self.system
        if system is None:
            return encoder.load(self.model, device=device, **more)
        prompts = {}
        if system.query is not None and system.template is None:
            prompts["query"] = system.query
        if system.passage is not None:
            prompts["document"] = system.passage
        settings = {
            "pooling": system.pooling,
            "attention": system.attention,
            "max_length": system.max_length,
            "prompts": prompts or None,
        }
        loaded = encoder.load(self.model, device=device, **(settings | more))
        if system.append_eos:
            # Its published tokenizer does so in code of its own, which is not run.
            ensure_eos(loaded.tokenizer)
        return loaded


class InstructedEncoder:
    """A model that is told a task in its own form, or not at all where it takes no instruction."""

    def __init__(
        self, encoder: TextEncoder, *, template: str | None = None, forced: bool = False, name: str | None = None
    ) -> None:
        """Wrap a model.

        Args:
            encoder: the model.
            template: text before a query, {task} being the task in words; None tells it by the model's own prompt.
            forced: pass instructions on whatever the model's own prompt is.
            name: for tables; None takes the model's.
        """
        self._encoder = encoder
        self._template = own_template(encoder) if template is None else template
        if forced and self._template is None:
            self._template = HOUSE_TEMPLATE
        self.name = encoder.name if name is None else name

    @property
    def fingerprint(self) -> str:
        """The model's; with the form of its instructions where that is not the house's."""
        own = self._encoder.fingerprint
        return own if self._template in (None, HOUSE_TEMPLATE) else fingerprint([own, self._template])

    @property
    def unwrapped(self) -> TextEncoder:
        """The model itself."""
        return self._encoder

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return query vectors `[N, D]`; an instruction is left out where the model takes none."""
        if not instruction or self._template == HOUSE_TEMPLATE:
            return self._encoder.encode_queries(texts, instruction=instruction)
        if self._template is None:
            return self._encoder.encode_queries(texts)
        prompt = self._template.format(task=instruction)
        return self._encoder.encode_queries([prompt + text for text in texts], instruction="")

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return passage vectors `[N, D]`."""
        return self._encoder.encode_documents(texts)


def own_template(encoder: Any) -> str | None:
    """Return the form of a model's instructions, told by its own query prompt; None when that is no instruction."""
    if not hasattr(encoder, "settings"):
        return HOUSE_TEMPLATE  # a `TextEncoder` of unknown make takes instructions, as the protocol has it
    found = _TOLD.match(encoder.settings.prompt("query"))
    return None if found is None else f"{found[1]}{{task}}{found[2]}"


def model_of(system: System, model_dir: Path | None, *, trust_remote_code: bool) -> ModelSource:
    """Return what to open for a system: its hub id, or its folder in or at `model_dir`.

    Raises:
        InputError: the system cannot be run, or the folder is not there.
    """
    check_runnable(system, trust_remote_code=trust_remote_code)
    model = system.hub
    if model_dir is not None:
        inside = model_dir / system.hub.split("/")[1]
        folder = next((each for each in (inside, model_dir) if _is_model(each)), None)
        if folder is None:
            raise InputError(
                f"{model_dir}: neither a model folder nor holds {inside.name}/; fetch {system.hub} into it"
            )
        model = str(folder)
    return ModelSource(model=model, system=system, trust_remote_code=trust_remote_code)


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "modules.json"))


def sources_of(
    models: Sequence[str],
    systems: Sequence[str],
    *,
    model_dir: Path | None = None,
    forced: bool = False,
    max_length: int | None = None,
    trust_remote_code: bool = False,
) -> list[ModelSource]:
    """Return what to open, models first; nothing is opened.

    Args:
        models: folders or hub ids.
        systems: keys of the registry.
        model_dir: folder of a system's model, or of several by the names of their repositories; None fetches them.
        forced: whether instructions are passed on to models that do not seem to take one.
        max_length: tokens a text is cut to; None as each system or model's folder says.
        trust_remote_code: whether code that comes with a model may run.

    Raises:
        InputError: an unknown system, one that cannot be run, no such folder, or `model_dir` without a system.
    """
    if model_dir is not None and not systems:
        raise InputError(
            f"--model-dir {model_dir} belongs to a system; name one with --system, or give MODEL the folder"
        )
    plain = [ModelSource(model=model, trust_remote_code=trust_remote_code) for model in models]
    found = [
        model_of(find_system(key), model_dir, trust_remote_code=trust_remote_code) for key in dict.fromkeys(systems)
    ]
    return [replace(source, forced=forced, max_length=max_length) for source in plain + found]


def open_all(sources: Sequence[ModelSource], devices: Sequence[str], running: ExitStack) -> dict[str, TextEncoder]:
    """Open models by the name to show; with several devices each model gets a process on each.

    Raises:
        InputError: no such model or device, or unusable files.
        RunFailure: a process failed.
    """
    encoders: list[TextEncoder] = []
    for source in sources:
        if len(devices) > 1:
            from zhihui.encoder.devices import ParallelEncoder

            encoders.append(running.enter_context(ParallelEncoder(source, devices)))
        else:
            encoders.append(source(devices[0] if devices else None))
    names = [encoder.name for encoder in encoders]
    if len(set(names)) < len(names) or {*names} & RESERVED:
        names = [source.model for source in sources]  # folders of one name are told apart by their paths
    return dict(zip(names, encoders, strict=True))
