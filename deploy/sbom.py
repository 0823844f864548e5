"""Writes what the gateway consists of as CycloneDX: each package that the image installs, with its version, its licence
and what needs it. PostgreSQL and NATS are in the packages that bring their binaries. requirements.txt has the hashes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.requirements import ROOT, pinned

SCHEMA_VERSION = SchemaVersion.V1_6
_TOOL = (sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", "--spec-version")
_OPTIONS = ("--output-reproducible", "--pyproject", str(ROOT / "pyproject.toml"))


def make_sbom() -> dict[str, Any]:
    """Return the document. Equal environments give equal documents.

    Raises:
        subprocess.CalledProcessError: CycloneDX's tool fails; it says why.

    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "sbom.json"
        command = [*_TOOL, SCHEMA_VERSION.to_version(), *_OPTIONS, "--output-file", str(output), sys.executable]
        subprocess.run(command, check=True)  # noqa: S603 - our own arguments
        return _without_development(json.loads(output.read_bytes()))


def fault_of(document: dict[str, Any]) -> str | None:
    """Return what is wrong with a document by CycloneDX's schema, or None. Takes seconds."""
    fault = JsonStrictValidator(SCHEMA_VERSION).validate_str(json.dumps(document))
    return str(fault) if fault is not None else None


def _without_development(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what this environment has for development, and the image has not."""
    installed = pinned(ROOT / "requirements.txt")
    kept = [one for one in document["components"] if _normal(one["name"]) in installed]
    root = document["metadata"]["component"]["bom-ref"]
    known = {root} | {one["bom-ref"] for one in kept}
    dependencies = [
        one | {"dependsOn": [needed for needed in one.get("dependsOn", ()) if needed in known]}
        for one in document["dependencies"]
        if one["ref"] in known
    ]
    return document | {"components": kept, "dependencies": dependencies}


def _normal(name: str) -> str:
    """A package's name as package indexes compare it (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
def main(path: Path) -> None:
    """Write the document to PATH."""
    document = make_sbom()
    if (fault := fault_of(document)) is not None:
        raise click.ClickException(f"the document is not as CycloneDX has it: {fault}")
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
