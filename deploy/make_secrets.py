"""Writes the secrets of an installation with `compose.yaml` into a folder, once: keys, passwords and certificates.

Containers get each of them as a file of its own. Files that exist stay as they are, apart from the certificates,
which `--renew` makes anew. The providers' keys are yours to fill in.
"""

import base64
import os
import secrets
import tempfile
from pathlib import Path

import click

from deploy.certificates import VALID_FOR, Authority
from infra.audit_keys import AUDIT_KEY_BYTES, encode_key
from infra.nkey import NKey
from infra.settings import ENCRYPTION_KEY_BYTES

FOLDER_MODE = 0o700
FILE_MODE = 0o444
"""Of a file: the processes in the containers are other users, and the folder keeps this machine's users out."""
TOKEN_BYTES = 32
DATABASE_HOST = "postgres"
QUEUE_HOST = "nats"
DATABASE_ROLES = ("owner", "api", "worker", "projector")
"""Of `gateway_owner` and so on: the owner migrates, the others may do what their process has to."""
CLIENT = "gateway"
PROVIDER_KEYS = ("openai_api_key", "anthropic_api_key", "openai_api_keys", "anthropic_api_keys")
_MOUNTED = "/run/secrets"


def make_secrets(folder: Path, *, renew: bool = False) -> list[str]:
    """Write what is missing. Return the names of the files that were written.

    Raises:
        OSError: a file cannot be written.

    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    user = NKey(os.urandom(32))
    together = [
        _database(),
        {
            "nats_seed": user.seed,
            "nats_users": f'authorization {{ users: [ {{ nkey: "{user.public_key}" }} ] }}',
        },
        {"master_key": f"gw_master_{secrets.token_urlsafe(TOKEN_BYTES)}"},
        {"metrics_token": secrets.token_urlsafe(TOKEN_BYTES)},
        {"grafana_password": secrets.token_urlsafe(TOKEN_BYTES)},
        {"encryption_key": base64.b64encode(os.urandom(ENCRYPTION_KEY_BYTES)).decode()},
        {"audit_key": encode_key(os.urandom(AUDIT_KEY_BYTES))},
        *({name: ""} for name in PROVIDER_KEYS),
    ]
    written = [name for group in together for name in _write_missing(folder, group)]
    return written + _write_missing(folder, _certificates(), overwrite=renew)


def _database() -> dict[str, str]:
    """The administrator's password, the statements that make the roles and the database, and each role's address."""
    passwords = {role: secrets.token_urlsafe(TOKEN_BYTES) for role in DATABASE_ROLES}
    statements = [f"CREATE ROLE gateway_{role} LOGIN PASSWORD '{password}';" for role, password in passwords.items()]
    urls = {
        f"database_url_of_{role}": f"postgresql://gateway_{role}:{password}@{DATABASE_HOST}:5432/gateway"
        f"?sslmode=verify-full&sslrootcert={_MOUNTED}/authority"
        for role, password in passwords.items()
    }
    return urls | {
        "postgres_password": secrets.token_urlsafe(TOKEN_BYTES),
        "database_roles": "\n".join([*statements, "CREATE DATABASE gateway OWNER gateway_owner;"]),
    }


def _certificates() -> dict[str, str]:
    """A new authority, and certificates of both servers and of their client."""
    authority = Authority("the gateway's own authority")
    made = {"authority": authority.pem.decode()}
    with tempfile.TemporaryDirectory() as folder:
        for host in (DATABASE_HOST, QUEUE_HOST, CLIENT):
            certificate, key = authority.sign(Path(folder), host)
            made |= {f"{host}_certificate": certificate.read_text("ascii"), f"{host}_key": key.read_text("ascii")}
    return made


def _write_missing(folder: Path, files: dict[str, str], *, overwrite: bool = False) -> list[str]:
    """Write files that belong together: all of them, or none if one exists.

    Raises:
        OSError: some exist and others do not, so that they would not fit each other; or as `make_secrets`.

    """
    existing = [name for name in files if (folder / name).exists()]
    if existing and not overwrite:
        if len(existing) < len(files):
            missing = sorted(set(files) - set(existing))
            raise OSError(f"{folder} has {existing[0]} but not {missing[0]}: restore it, or remove what belongs to it")
        return []
    for name, text in files.items():
        (folder / name).unlink(missing_ok=True)
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text if text.endswith("\n") or not text else f"{text}\n")
        (folder / name).chmod(FILE_MODE)
    return list(files)


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("secrets"),
    show_default=True,
    help="Where to write them.",
)
@click.option("--renew", is_flag=True, help=f"Make the certificates anew; each is valid for {VALID_FOR.days} days.")
def main(folder: Path, *, renew: bool) -> None:
    """Write the secrets for compose.yaml, and say which files were written."""
    try:
        written = make_secrets(folder, renew=renew)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    click.echo("\n".join(str(folder / name) for name in written) or f"{folder} has everything")


if __name__ == "__main__":
    main()
