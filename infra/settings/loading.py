"""Reads the settings from the environment, and refuses what is wrong by the variable's name."""

import difflib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from infra.broker_access import tls_context
from infra.environment_variables import (
    SecretFileError,
    Setting,
    text_of,
)
from infra.settings.telemetry import COLLECTOR_VARIABLES
from infra.settings.whole import SETTINGS, VARIABLE_NAMES, Settings, SettingsError
from infra.telemetry.settings import OTEL_PREFIX

_TLS_SCHEMES = frozenset(("tls", "wss"))
_TEST_PREFIX = "GATEWAY_TEST_"


def environment(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the environment, with the values of the directory's `.env` for variables that are not set."""
    from_file = {name: value for name, value in dotenv_values(directory / ".env").items() if value is not None}
    return from_file | dict(environ)


def load_settings(
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, object] | None = None,
    on_terminal: bool = False,
    sends_telemetry: bool = True,
    on_ignored: Callable[[str], None] = lambda _: None,
) -> Settings:
    """Read the settings. A flag that is not None takes precedence over its variable.

    A wrong variable of OpenTelemetry's stops only a process that would send telemetry: elsewhere `on_ignored` is told
    what is wrong, and the default counts.

    Raises:
        SettingsError: a value is wrong, or a GATEWAY_ variable does not exist.

    """
    for name in sorted(environ):
        if name.startswith("GATEWAY_") and name not in VARIABLE_NAMES and not name.startswith(_TEST_PREFIX):
            near = difflib.get_close_matches(name, VARIABLE_NAMES, n=1)
            raise SettingsError(f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else ""))
    values: dict[str, Any] = {}
    wrong_for_telemetry: list[SettingsError] = []
    for setting in SETTINGS:
        try:
            value = _read(setting, (flags or {}).get(setting.field), environ)
        except SettingsError as error:
            if not setting.variable.name.startswith(OTEL_PREFIX):
                raise
            wrong_for_telemetry.append(error)
        else:
            if value is not None:
                values[setting.field] = value
    sends_telemetry = sends_telemetry and _has_collector(environ) and not values.get("telemetry_disabled", False)
    for wrong in wrong_for_telemetry:
        if sends_telemetry:
            raise wrong
        on_ignored(str(wrong))
    values.setdefault("keyless_projects", "master_key" not in values)
    values.setdefault("log_format", "console" if on_terminal else "json")
    settings = Settings(**values)
    if settings.max_bytes_in_hand < 2 * settings.max_body_bytes:  # one owner gets at most half
        raise SettingsError(
            f"GATEWAY_MAX_BYTES_IN_HAND is {settings.max_bytes_in_hand}: it must be at least twice "
            f"GATEWAY_MAX_BODY_BYTES, which is {settings.max_body_bytes}"
        )
    _check_nats_tls(settings)
    return settings


def _has_collector(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in COLLECTOR_VARIABLES)


def _check_nats_tls(settings: Settings) -> None:
    """Refuse what would send the credentials of NATS in clear where TLS is meant.

    Raises:
        SettingsError: some URLs are for TLS and others not, or files for TLS are set without such a URL.

    """
    schemes = {urlsplit(url).scheme for url in settings.nats_urls}
    if len(schemes) > 1:
        raise SettingsError(
            f"GATEWAY_NATS_URL has {' and '.join(sorted(schemes))} URLs: allowed is one of them for all"
        )
    files = {
        "GATEWAY_NATS_CA": settings.nats_ca,
        "GATEWAY_NATS_CERT": settings.nats_certificate,
        "GATEWAY_NATS_KEY": settings.nats_key,
    }
    set_ones = [name for name, path in files.items() if path is not None]
    if set_ones and not schemes <= _TLS_SCHEMES:
        raise SettingsError(f"{set_ones[0]} is set, and GATEWAY_NATS_URL is not tls://: without TLS it has no effect")
    if (settings.nats_certificate is None) != (settings.nats_key is None):
        raise SettingsError(f"{set_ones[-1]} is set alone: GATEWAY_NATS_CERT and GATEWAY_NATS_KEY go together")
    if settings.nats_certificate is not None:
        try:
            tls_context(ca=settings.nats_ca, certificate=settings.nats_certificate, key=settings.nats_key)
        except (OSError, ssl.SSLError):
            raise SettingsError(
                f"GATEWAY_NATS_KEY is {str(settings.nats_key)!r}: allowed is the private key of GATEWAY_NATS_CERT"
            ) from None


def set_directly(values: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for a child process, with those unset that name a file with the same secret."""
    files = {
        setting.variable.file_name: ""
        for setting in SETTINGS
        if setting.variable.file_name is not None and setting.variable.name in values
    }
    return files | dict(values)


def _read(setting: Setting, flag: object, environ: Mapping[str, str]) -> Any:
    """Return the value of a setting; None: it is not set."""
    try:
        text = str(flag) if flag is not None else text_of(setting.variable, environ)
    except SecretFileError as error:
        raise SettingsError(str(error)) from None
    return _value(setting, text) if text is not None else None


def _value(setting: Setting, text: str) -> Any:
    variable = setting.variable
    try:
        return setting.read(text)
    except ValueError:
        shown = f"{len(text)} characters" if variable.secret else repr(text)
        raise SettingsError(f"{variable.name} is {shown}: allowed is {variable.allowed}") from None
