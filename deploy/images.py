"""Looks up the digests of the images that the Dockerfile and compose.yaml use, and writes them to a file.

A digest names one image for ever, and Docker checks what it gets against it. Run it again to take up the security fixes
of the images, and keep the file with your configuration.
"""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import click

IMAGES: Mapping[str, str] = {
    "PYTHON_IMAGE": "python:3.11-slim",
    "POSTGRES_IMAGE": "postgres:18",
    "NATS_IMAGE": "nats:2.12-alpine",
    "PROMETHEUS_IMAGE": "prom/prometheus:v3.5.0",
    "GRAFANA_IMAGE": "grafana/grafana:12.1.1",
}
TIMEOUT_S = 120
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FIRST_LINE = "# Written by `make images`. Each is one image for ever: write it anew to take up fixes.\n"


class NoDigestError(Exception):
    """The digest of an image cannot be learnt. The message is one line."""


def digest_of(image: str) -> str:
    """Ask the image's registry, through Docker.

    Raises:
        NoDigestError: Docker is not installed, or cannot say it.

    """
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 - our own arguments
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDigestError(f"docker cannot be run: {error}") from None
    digest = done.stdout.strip()
    if done.returncode != 0 or not _DIGEST.fullmatch(digest):
        raise NoDigestError(f"docker does not know the digest of {image}: {(done.stderr or digest).strip()[-300:]}")
    return digest


def lines(digest: Callable[[str], str] = digest_of) -> str:
    """Return the file: a variable for each image. Raises NoDigestError."""
    return _FIRST_LINE + "".join(f"{name}={image}@{digest(image)}\n" for name, image in IMAGES.items())


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
def main(path: Path) -> None:
    """Write the file."""
    try:
        path.write_text(lines(), encoding="utf-8")
    except NoDigestError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
