"""The canonical embeddings request and answer."""

from typing import Annotated

from msgspec import Meta, Struct

from domain.canonical.chat import User
from domain.names import Name
from domain.tokens import AnswerUsage

MAX_INPUTS = 2_048
MAX_DIMENSIONS = 65_536

InputText = Annotated[str, Meta(min_length=1)]
Dimensions = Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)]


class EmbeddingsRequest(
    Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """Texts to turn into vectors. None means that the caller left the field out."""

    model: Name = "text-embedding-3-small"
    input: InputText | Annotated[list[InputText], Meta(min_length=1, max_length=MAX_INPUTS)]
    dimensions: Dimensions | None = None
    user: User | None = None


class Embedding(Struct, frozen=True, kw_only=True):
    """The vector of the input at `index`."""

    index: int
    embedding: list[float]


class EmbeddingsResponse(Struct, frozen=True, kw_only=True, rename="camel"):
    """A provider's response in the native shape, before its cost and delivery are added."""

    model: str
    """The model as the caller named it."""
    provider: str
    embeddings: list[Embedding]
    usage: AnswerUsage
