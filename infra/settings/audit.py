"""What signs the log, and where the signed heads are kept."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from infra.environment_variables import (
    Variable,
    addresses,
)
from infra.settings.access import AccessSettings
from infra.settings.kinds import (
    EncryptionKey,
    OperatorsUrl,
    StoreUrl,
)


class AuditSettings(AccessSettings, frozen=True, kw_only=True):
    """What signs the log."""

    audit_key: Annotated[
        EncryptionKey | None,
        Variable(
            "GATEWAY_AUDIT_KEY",
            "signs the heads of the log; only the projector needs it. Unset: it is derived from "
            "GATEWAY_ENCRYPTION_KEY; if that is unset too, `gateway up` makes one and keeps it in its directory",
            "32 bytes in base64 (openssl rand -base64 32)",
            secret=True,
        ),
    ] = None
    audit_public_keys: Annotated[
        tuple[EncryptionKey, ...],
        Variable(
            "GATEWAY_AUDIT_PUBLIC_KEYS",
            "the public keys of former audit keys, whose signatures still count (`gateway audit keys` shows them)",
            "32 bytes in base64, or several with commas between",
            parse=addresses,
        ),
    ] = ()
    audit_interval_s: Annotated[
        float,
        Meta(ge=1, le=3_600),
        Variable("GATEWAY_AUDIT_INTERVAL_S", "how often the head of the log is signed", "seconds, 1 to 3600"),
    ] = 60.0
    audit_anchor_file: Annotated[
        Path | None,
        Variable(
            "GATEWAY_AUDIT_ANCHOR_FILE",
            "where the projector adds each signed head, on a disk that the database's owner cannot write to; unset: "
            "`gateway up` takes audit.anchors in its directory, a single process none",
            "a file",
            parse=Path,
        ),
    ] = None
    audit_webhook: Annotated[
        OperatorsUrl | None,
        Variable(
            "GATEWAY_AUDIT_WEBHOOK",
            "where the projector sends each signed head, as JSON",
            "an https address, or http on this machine",
            secret=True,
        ),
    ] = None
    audit_object_store: Annotated[
        StoreUrl | None,
        Variable(
            "GATEWAY_AUDIT_OBJECT_STORE",
            "an object store (S3 or the like) where the projector puts each signed head, with the key to write there; "
            "the parts of the key are percent-encoded",
            "https://KEY_ID:SECRET@HOST/BUCKET/FOLDER?region=REGION, or http on this machine",
            secret=True,
        ),
    ] = None
