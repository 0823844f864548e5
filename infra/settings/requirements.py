"""What a process requires of its settings before it starts."""

import ipaddress
from urllib.parse import urlsplit

from infra.settings.whole import Settings, SettingsError

LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Return whether an address or a name always means this machine."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_master_key(settings: Settings) -> None:
    """Refuse to serve other machines without a master key.

    Raises:
        SettingsError: the host is not a loopback address and there is no master key.

    """
    if settings.master_key is None and not is_loopback(settings.host):
        raise SettingsError(
            f"GATEWAY_MASTER_KEY is not set, and host {settings.host!r} is open to other machines: set it to at least "
            "16 printable characters, or serve 127.0.0.1"
        )


def require_other_providers(settings: Settings) -> None:
    """Refuse a provider address that is the gateway's own: each request would call the gateway again, without end.

    Raises:
        SettingsError: the gateway itself serves the address of a built-in provider.

    """
    for provider, url in settings.provider_base_urls.items():
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        is_here = is_loopback(host) or host == settings.host
        if port == settings.port and is_here:
            raise SettingsError(
                f"{provider.upper()}_BASE_URL is {url!r}, which is this gateway itself: it names the provider that the "
                "gateway calls, so unset it here, or serve another port"
            )


def require_servers(settings: Settings, *, audit_key_serves: bool = False) -> None:
    """Refuse to run a single process without the servers and the encryption key that all processes share.

    The projector opens nothing that is sealed. It signs: with `audit_key_serves` the audit key is enough.

    Raises:
        SettingsError: a variable is missing; the message names the first one.

    """
    for name, value in (
        ("GATEWAY_DATABASE_URL", settings.database_url),
        ("GATEWAY_NATS_URL", settings.nats_urls),
        ("GATEWAY_ENCRYPTION_KEY", settings.encryption_key or (audit_key_serves and settings.audit_key)),
    ):
        if not value:
            raise SettingsError(f"{name} is not set: a single process needs it (`gateway up` brings its own)")
