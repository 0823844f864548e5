"""Several credentials of one provider: their names, and which one a call is made with. Pure; knows no key."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from msgspec import Meta

from domain.names import END

CredentialName = Annotated[str, Meta(pattern=rf"^[a-z0-9][a-z0-9_-]{{0,62}}{END}")]
MAX_WEIGHT = 1_000
CredentialWeight = Annotated[int, Meta(ge=0, le=MAX_WEIGHT)]
DEFAULT_CREDENTIAL = "default"
"""The name of the key that a project, an installation or a provider has without naming it."""
MAX_CREDENTIALS = 16
"""Of one provider, for one project or for the installation."""

Weighted = TypeVar("Weighted")


def drawn(
    credentials: Sequence[Weighted], weight: Callable[[Weighted], float], draw: Callable[[], float]
) -> list[Weighted]:
    """Put credentials into the order in which one request tries them: each next one is drawn by weight.

    Those without weight come last, in their order. `draw` gives a number from 0 up to 1, each time another.
    """
    left = list(credentials)
    order: list[Weighted] = []
    while left:
        point = draw() * sum(map(weight, left))
        chosen = left[0]
        for credential in left:
            point -= weight(credential)
            if point < 0:
                chosen = credential
                break
        left.remove(chosen)
        order.append(chosen)
    return order
