"""Schemas of searching: what is asked of an index, and what it answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr

from zhihui.serving.schemas import Text, Usage, whole

MOST_HITS = 1000
"""As many as are fused; more would be a download."""
LONGEST_QUERY = 10_000
"""Characters; no model reads more of a query."""
LONGEST_FILTER = 2000
"""Characters."""
Condition = Annotated[StrictStr, Field(max_length=LONGEST_FILTER), AfterValidator(whole)]
Query = Annotated[StrictStr, Field(max_length=LONGEST_QUERY), AfterValidator(whole)]


class SearchRequest(BaseModel):
    """The body of /search."""

    model_config = ConfigDict(extra="ignore")

    query: Query = Field(description="In plain words.")
    top_k: Annotated[StrictInt, Field(ge=1, le=MOST_HITS)] = Field(10, description="Hits at most.")
    mode: Literal["hybrid", "dense", "bm25"] = Field(
        "hybrid", description="By vectors (dense), by words (bm25), or by both."
    )
    fusion: Literal["scores", "ranks"] = Field(
        "scores", description="Hybrid: add up scores, or what ranks bring (reciprocal rank fusion)."
    )
    dense_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Hybrid: weight of the ranking by vectors; if left out, 0.6 of scores and 0.5 of ranks."
    )
    filters: Condition | Annotated[list[Condition], Field(max_length=20)] | None = Field(
        None, description="Conditions on the metadata, as in 'source = a.md and year >= 2020'; a hit meets all."
    )
    index: Text | None = Field(None, description="Name of an index; the first one if left out.")
    model: Text | None = Field(None, description="In place of index: takes the first one that this model made.")
    instruction: Text | None = Field(None, description="A task in words, in place of the model's query prompt.")


class ScoreShown(BaseModel):
    """What one ranking says of a passage."""

    value: float
    rank: int


class SnippetShown(BaseModel):
    """The part of a passage that fits the query best, in one line."""

    text: str
    highlights: list[tuple[int, int]]


class HitShown(BaseModel):
    """A passage that was found. Offsets count characters (code points), not UTF-16 units."""

    rank: int
    id: str
    title: str
    source: str
    start: int
    end: int
    score: float
    dense: ScoreShown | None
    bm25: ScoreShown | None
    fused: ScoreShown | None
    text: str
    highlights: list[tuple[int, int]]
    snippet: SnippetShown
    metadata: dict[str, Any]


class SearchResponse(BaseModel):
    """The answer of /search."""

    query: str
    index: str
    model: str
    mode: Literal["hybrid", "dense", "bm25"]
    passages: int
    """In the index."""
    truncated: bool
    """Whether the model reads the beginning of the query only."""
    stale: str | None
    """Why a newer state of the index is not searched."""
    hits: list[HitShown]
    usage: Usage
    timing: dict[str, float]


class IndexCard(BaseModel):
    """An index in the list."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["index"]
    model: str
    passages: int


class IndexesResponse(BaseModel):
    """The answer of /v1/indexes."""

    object: Literal["list"]
    data: list[IndexCard]
