"""All settings of a process as one struct, the table of their variables, and which of their values are secret."""

import base64
from urllib.parse import parse_qsl, unquote, urlsplit

from domain.secret_text import is_secret
from infra.environment_variables import (
    settings_of,
)
from infra.settings.kinds import (
    NamedKey,
)
from infra.settings.lines import LineSettings

_WITH_TOKENS = frozenset({"nats", "tls", "ws", "wss"})
"""A name alone in such an address is a token."""
_WEB_SCHEMES = frozenset({"http", "https"})


class SettingsError(Exception):
    """A setting is missing or wrong. The message is one line: the name, the value, the allowed values."""


class Settings(LineSettings, frozen=True, kw_only=True):
    """The configuration of a process.

    Each area goes on from the one before it: msgspec makes one struct of several only in a line.
    """

    @property
    def secret_texts(self) -> tuple[str, ...]:
        """Return the texts of these settings that no log line may have."""
        values = [getattr(self, setting.field) for setting in SETTINGS if setting.variable.secret]
        texts = [text for value in values if value is not None for text in _secrets_of(value)]
        collectors = (self.telemetry_endpoint, self.traces_endpoint, self.metrics_endpoint)
        addresses = [*self.provider_base_urls.values(), *(url for url in collectors if url is not None)]
        in_addresses = [text for url in addresses for text in _secrets_in_url(url)]
        return tuple(dict.fromkeys(text for text in (*texts, *in_addresses) if is_secret(text)))

    def __repr__(self) -> str:
        """Show the host, the port and the directory; no secret, and no address with a password."""
        return f"Settings(host={self.host!r}, port={self.port}, data_dir={str(self.data_dir)!r})"


def _secrets_of(
    value: str | bytes | NamedKey | dict[str, str] | tuple[str | bytes | NamedKey, ...],
) -> list[str]:
    """What is secret in the value of a variable with a secret."""
    if isinstance(value, dict):  # headers: a value may have a scheme in front, such as `Bearer`
        decoded = [text for one in value.values() for text in (one, unquote(one))]
        return [text for one in decoded for text in (one, one.rpartition(" ")[2])]
    if isinstance(value, NamedKey):
        return [value.key]
    if isinstance(value, tuple):
        return [text for part in value for text in _secrets_of(part)]
    if isinstance(value, bytes):
        return [base64.b64encode(value).decode()]
    if "://" not in value:
        return [value]
    parts = urlsplit(value)
    # a webhook's secret is often its path; that of a database is its name
    path = value[value.index(parts.netloc) + len(parts.netloc) :] if parts.scheme in _WEB_SCHEMES else ""
    return [path, *_secrets_in_url(value)]


def _secrets_in_url(url: str) -> list[str]:
    """The password of an address, or its token, as it is written and as it is read; and those of its query."""
    parts = urlsplit(url)
    in_name = parts.password or (parts.username if parts.scheme in _WITH_TOKENS else None)
    in_query = [value for name, value in parse_qsl(parts.query) if "password" in name]
    return [text for text in (in_name, unquote(in_name or ""), *in_query) if text]


SETTINGS = settings_of(Settings)
VARIABLE_NAMES = frozenset(
    name for setting in SETTINGS for name in (setting.variable.name, setting.variable.file_name) if name is not None
)
