"""What stands in place of an observer if nobody observes."""

from typing import Any, Self


class NotWatched:
    """Watches nothing, whatever it is told. What is told, and what is watched, a class below says by its own names."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, *_: Any, **__: Any) -> None:
        """Take nothing of it."""

    def watch(self, *_: Any, **__: Any) -> Self:
        """Watch nothing of the block."""
        return self

    async def close(self) -> None:
        """Nothing was seen."""
