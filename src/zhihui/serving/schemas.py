"""Schemas: the bodies that calls have. Fields that are not here are ignored, as clients send all sorts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from zhihui.serving.encodings import Format, OutputType
from zhihui.serving.preparing import Cutting, Direction
from zhihui.serving.refusals import bad_input


def whole(text: str) -> str:
    """Refuse half a surrogate pair, which JSON may hold and no encoding can write."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair; send whole characters") from None
    return text


Text = Annotated[StrictStr, AfterValidator(whole)]
TokenIds = list[StrictInt]
Inputs = Text | list[Text] | TokenIds | list[TokenIds]
Truncate = StrictBool | Literal["NONE", "START", "END"]
Length = Annotated[StrictInt, Field(ge=1, le=2**31)]


class Prompted(BaseModel):
    """Fields that say which prompt is put before the texts; none is by default."""

    model_config = ConfigDict(extra="ignore")

    model: Text | None = Field(None, description="NAME, NAME:query or NAME:document; the first model if left out.")
    prompt_name: Text | None = Field(None, description="One of the model's prompts: query, document, ...")
    input_type: Text | None = Field(None, description="query, document, search_query, search_document or passage.")
    instruction: Text | None = Field(None, description="A task in words, in place of the query prompt.")

    def prompting(self) -> dict[str, Any]:
        """Return the fields as `zhihui.serving.prompting.choose` takes them."""
        return {"prompt_name": self.prompt_name, "input_type": self.input_type, "instruction": self.instruction}


class Cut(BaseModel):
    """Fields that say what is done with texts that are too long."""

    model_config = ConfigDict(extra="ignore")

    truncate: Truncate | None = Field(None, description="Cut texts that are too long (default) or refuse them.")
    truncation_direction: Text | None = Field(None, description="right (default) or left: the side that goes.")
    truncate_prompt_tokens: StrictInt | None = Field(None, description="Tokens left; -1 takes the model's most.")

    def cutting(self) -> Cutting:
        """Return the same as settings.

        Raises:
            Refusal: 400, an unknown direction.
        """
        given = (self.truncation_direction or "right").lower()
        if given not in ("left", "right"):
            raise bad_input("truncation_direction must be left or right", param="truncation_direction")
        direction: Direction = "left" if given == "left" or self.truncate == "START" else "right"
        allowed = self.truncate not in (False, "NONE")
        return Cutting(allowed=allowed, direction=direction, length=self.truncate_prompt_tokens)


class EmbeddingsRequest(Prompted, Cut):
    """The body of /v1/embeddings."""

    input: Inputs = Field(description="A text, a list of texts, or token ids where the server takes them.")
    encoding_format: Format | None = Field(None, description="float (default) or base64 of little-endian fp32.")
    dimensions: Length | None = Field(None, description="Cut the vectors to this length, of unit norm again.")
    output_dtype: OutputType | None = Field(None, description="float (default), int8, binary or ubinary.")


class EmbedRequest(Prompted, Cut):
    """The body of TEI's /embed."""

    inputs: Inputs = Field(description="A text, a list of texts, or token ids where the server takes them.")
    normalize: StrictBool | None = Field(None, description="Unit norm (default).")
    dimensions: Length | None = Field(None, description="Cut the vectors to this length, of unit norm again.")


class SimilarityInputs(BaseModel):
    """A sentence and those it is compared with."""

    source_sentence: Text
    sentences: list[Text]


class SimilarityParameters(Prompted, Cut):
    """Settings of /similarity, beside its inputs."""


class SimilarityRequest(BaseModel):
    """The body of TEI's /similarity."""

    model_config = ConfigDict(extra="ignore")

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    model: Text | None = None


class Document(BaseModel):
    """A passage as an object."""

    model_config = ConfigDict(extra="ignore")

    text: Text


class RerankRequest(Cut):
    """The body of /rerank: TEI's with `texts`, Cohere's and Jina's with `documents`."""

    query: Text
    texts: list[Text] | None = None
    documents: list[Text | Document] | None = None
    model: Text | None = None
    instruction: Text | None = Field(None, description="A task in words, in place of the query prompt.")
    top_n: Length | None = Field(None, description="Give only so many of the best (with documents).")
    return_text: StrictBool | None = Field(None, description="Give the texts back (with texts).")
    return_documents: StrictBool | None = Field(None, description="Give the documents back (with documents).")


class TokenizeRequest(BaseModel):
    """The body of TEI's /tokenize."""

    model_config = ConfigDict(extra="ignore")

    inputs: Text | list[Text]
    add_special_tokens: StrictBool = True
    prompt_name: Text | None = None
    model: Text | None = None


class Usage(BaseModel):
    """Tokens read, prompts and EOS included."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """A vector in OpenAI's shape."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    """The answer of /v1/embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(BaseModel):
    """A model in OpenAI's list."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsResponse(BaseModel):
    """The answer of /v1/models."""

    object: Literal["list"]
    data: list[ModelCard]


class OpenAIError(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorResponse(BaseModel):
    """An error on /v1."""

    error: OpenAIError


class ErrorResponse(BaseModel):
    """An error in TEI's shape."""

    error: str
    error_type: str


class Rank(BaseModel):
    """A text's place in TEI's ranking."""

    index: int
    score: float
    text: str | None = None


class RerankResult(BaseModel):
    """A document's place in Cohere's ranking."""

    index: int
    relevance_score: float
    document: Document | None = None


class RerankResponse(BaseModel):
    """The answer of /rerank to `documents`."""

    id: str
    model: str
    score_type: Literal["cosine", "probability"]
    results: list[RerankResult]
    usage: Usage


class Token(BaseModel):
    """A token of a text, with its place in characters."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None
