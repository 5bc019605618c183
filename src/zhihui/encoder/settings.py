"""What turns hidden states into a retrieval model: prompts, pooling, length, normalisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from zhihui.errors import InputError

Pooling = Literal["lasttoken", "mean", "cls"]
Role = Literal["query", "document"]

DEFAULT_TASK = "Given a Chinese search query, retrieve web passages that answer the question"
"""The task of T2Retrieval and DuRetrieval in E5-mistral's C-MTEB list: the widest of them."""


def query_prompt(task: str) -> str:
    """Return what stands before a query for a task in words; an empty task gives a bare query."""
    return f"Instruct: {task}\nQuery: " if task else ""


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Everything besides weights and tokenizer that a text's vector depends on."""

    pooling: Pooling = "lasttoken"
    """Which hidden states make the vector: the last token's, the mean of all, or the first token's."""
    normalize: bool = True
    """Whether vectors are scaled to unit L2 norm."""
    max_length: int = 512
    """Tokens a text is cut to, prompt and EOS included."""
    prompts: dict[str, str] = field(default_factory=lambda: {"query": query_prompt(DEFAULT_TASK), "document": ""})
    """Text put before a text, by role; a role that is absent gets nothing."""

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise InputError(f"pooling {self.pooling!r} is unknown; choose one of {', '.join(get_args(Pooling))}")
        if self.max_length < 2:
            raise InputError(f"max_length {self.max_length} leaves no room for a token and EOS; use at least 2")
        if not isinstance(self.prompts, dict) or not all(isinstance(text, str) for text in self.prompts.values()):
            raise InputError(f"prompts {self.prompts!r} must map a role (query, document) to a text")

    def prompt(self, role: Role, instruction: str | None = None) -> str:
        """Return the text before a text of this role; an instruction (queries only) replaces the model's own.

        Raises:
            ValueError: an instruction was given for a document; passages are encoded bare.
        """
        if instruction is None:
            return self.prompts.get(role, "")
        if role != "query":
            raise ValueError("an instruction belongs to queries; documents are encoded without one")
        return query_prompt(instruction)
