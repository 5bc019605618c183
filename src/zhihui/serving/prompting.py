"""Prompting: which of a model's prompts a call wants before its texts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, get_args

from zhihui.encoder.settings import EncoderSettings, Role
from zhihui.serving.models import ServedModel
from zhihui.serving.refusals import bad_input

_INPUT_TYPES: dict[str, Role] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
}
"""Words by which clients say what a text is (Cohere's and Voyage's among them)."""


class Prompting(NamedTuple):
    """What stands before the texts of a call."""

    settings: EncoderSettings
    """The model's, its prompts reduced to what this call wants."""
    role: Role
    instruction: str | None = None

    @property
    def text(self) -> str:
        """The prompt itself."""
        return self.settings.prompt(self.role, self.instruction)


def choose(
    model: ServedModel,
    *,
    role: Role | None = None,
    prompt_name: str | None = None,
    input_type: str | None = None,
    instruction: str | None = None,
) -> Prompting:
    """Return the prompt of a call; one that says nothing gets none, as clients of bare models expect.

    Args:
        model: whose prompts they are.
        role: said by the model's alias.
        prompt_name: the name of one of the model's prompts.
        input_type: what the texts are.
        instruction: a task in words; belongs to queries.

    Raises:
        Refusal: 400, an unknown word, or two that contradict each other.
    """
    settings = model.encoder.settings
    names = {*settings.prompts, *get_args(Role)}
    if prompt_name is not None and prompt_name not in names:
        message = f"prompt_name {prompt_name[:100]!r} is unknown; {model.name} has {', '.join(sorted(names))}"
        raise bad_input(message, param="prompt_name")
    if input_type is not None and input_type not in _INPUT_TYPES:
        message = f"input_type {input_type[:100]!r} is unknown; use {', '.join(_INPUT_TYPES)}"
        raise bad_input(message, param="input_type")
    said: dict[str, str] = {}
    if role is not None:
        said["the model's alias"] = role
    if prompt_name is not None:
        said["prompt_name"] = prompt_name
    if input_type is not None:
        said["input_type"] = _INPUT_TYPES[input_type]
    if instruction is not None:
        said["instruction (which belongs to queries)"] = "query"
    if len({*said.values()}) > 1:
        each = " and ".join(f"{place} says {name}" for place, name in said.items())
        raise bad_input(f"{each}; leave one of them out", param="prompt_name")
    name = next(iter(said.values()), None)
    if name is None:
        return Prompting(replace(settings, prompts={}), "document")
    for known in get_args(Role):
        if name == known:
            return Prompting(settings, known, instruction)
    return Prompting(replace(settings, prompts={"document": settings.prompts[name]}), "document")
