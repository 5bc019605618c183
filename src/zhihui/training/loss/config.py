"""LossConfig: the settings of the loss and its masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from zhihui.errors import InputError

Hardness = Literal["none", "additive", "importance"]
Scope = Literal["all", "in_batch", "explicit"]
Term = Literal["query_query", "passage_query", "passage_passage"]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss and its masks."""

    temperature: float = 0.02
    """τ, by which cosines are divided."""
    learn_temperature: bool = False
    """Whether τ is trained, starting from `temperature` (see `LearnedTemperature`)."""
    hardness: Hardness = "none"
    """How negatives are weighted by their similarity to the query."""
    strength: float = 5.0
    """α or β; has no meaning with hardness "none"."""
    scope: Scope = "all"
    """Which negatives are weighted: all, only those of other queries, or only the query's own hard negatives."""
    debias: float = 0.0
    """τ⁺, the share of negatives taken to be positives in truth; 0 switches debiasing off. Importance only."""
    terms: tuple[Term, ...] = ()
    """Further negatives: query against queries, positive against other queries, positive against other positives."""
    false_negative_margin: float | None = 0.1
    """A negative is dropped when its similarity exceeds the positive's by more than this; None drops none."""
    mask_curated: bool = False
    """Whether the margin applies to a query's own hard negatives too, which somebody chose."""
    distillation: float = 0.0
    """Weight of the divergence from the teacher's grades; 0 leaves grades unused."""
    teacher_temperature: float = 1.0
    """By which the teacher's grades are divided before their softmax, in units of a grade."""
    matryoshka: tuple[int, ...] = ()
    """Lengths of the prefixes the loss is computed on and summed over; empty for the whole vector alone."""
    matryoshka_weights: tuple[float, ...] = ()
    """A weight for each prefix; empty for 1 each."""
    rows: int | None = None
    """Rows computed at once; None suits the memory. Has no influence on the result beyond rounding."""

    def __post_init__(self) -> None:
        for name, choices in (("hardness", Hardness), ("scope", Scope)):
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"{name} {getattr(self, name)!r} is unknown; choose {', '.join(get_args(choices))}")
        for number, term in enumerate(self.terms):
            if term not in get_args(Term):
                raise InputError(f"term {term!r} is unknown; choose {', '.join(get_args(Term))}")
            if term in self.terms[:number]:
                raise InputError(f"term {term!r} is named twice; name it once")
        if not 0.0 < self.temperature <= 1.0:
            raise InputError(f"temperature {self.temperature} is out of range; use more than 0 and at most 1")
        if not self.strength >= 0:
            raise InputError(f"strength {self.strength} would favour easy negatives; use 0 or more")
        if not 0.0 <= self.debias < 1.0:
            raise InputError(f"debias {self.debias} is no share; use 0 or more and less than 1")
        if self.debias and self.hardness != "importance":
            raise InputError("debias belongs to hardness importance; set that, or leave debias at 0")
        if self.false_negative_margin is not None and not self.false_negative_margin >= 0:
            raise InputError(f"false_negative_margin {self.false_negative_margin} is no margin; use 0 or more, or none")
        if self.mask_curated and self.false_negative_margin is None:
            raise InputError("mask_curated widens false_negative_margin; set that, or leave mask_curated off")
        if not self.distillation >= 0:
            raise InputError(f"distillation {self.distillation} is no weight; use 0 or more")
        if not self.teacher_temperature > 0:
            raise InputError(f"teacher_temperature {self.teacher_temperature} is out of range; use more than 0")
        self._check_prefixes()
        if self.rows is not None and self.rows < 1:
            raise InputError(f"rows {self.rows} is too few; use at least 1, or none")

    def _check_prefixes(self) -> None:
        if any(length < 1 for length in self.matryoshka):
            raise InputError(f"matryoshka {self.matryoshka} holds a length below 1; use 1 or more")
        if len(set(self.matryoshka)) < len(self.matryoshka):
            raise InputError(f"matryoshka {self.matryoshka} holds a length twice; weigh it in matryoshka_weights")
        if self.matryoshka_weights and len(self.matryoshka_weights) != len(self.matryoshka):
            given, wanted = len(self.matryoshka_weights), len(self.matryoshka)
            raise InputError(f"matryoshka_weights holds {given} weights for {wanted} lengths; give one each, or none")
        if not all(weight > 0 for weight in self.matryoshka_weights):
            raise InputError(
                f"matryoshka_weights {self.matryoshka_weights} must be above 0; leave a length out instead"
            )
