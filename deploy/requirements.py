"""What the image installs: reads requirements.txt and its like. As a program: prints what builds the wheel."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from msgspec import Struct

ROOT = Path(__file__).parent.parent
_LINE = re.compile(
    r"^(?P<name>[a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n",
    re.MULTILINE,
)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class Pinned(Struct, frozen=True, kw_only=True):
    """A package with its only version, and the hashes of the files that it may be installed from."""

    version: str
    hashes: tuple[str, ...]
    marker: str | None
    """On which systems it is installed. None: on all."""


def pinned(path: Path) -> dict[str, Pinned]:
    """Read a file of requirements, by the names of their packages.

    Raises:
        ValueError: a line is something else than a package with a version and hashes.

    """
    text = path.read_text(encoding="utf-8")
    if rest := _LINE.sub("", text).strip():
        raise ValueError(f"{path.name} has a line without a version and a hash: {rest.splitlines()[0]}")
    return {
        line["name"]: Pinned(
            version=line["version"], hashes=tuple(_HASH.findall(line["hashes"])), marker=line["marker"]
        )
        for line in _LINE.finditer(text)
    }


def project() -> dict[str, Any]:
    """Return the content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.stdout.write("\n".join(project()["build-system"]["requires"]) + "\n")
