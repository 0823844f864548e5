"""The process's settings: environment variables and flags, read once. A wrong value is refused by the variable's name.

`Settings` (`whole.py`) is the table of the variables, an area in each module. No message and no repr shows a secret.
Other packages import from here.
"""

from infra.settings.kinds import (
    ANCHOR_FILE,
    ENCRYPTION_KEY_BYTES,
    METRICS_SOCKET_SUFFIX,
    AccessLines,
    LogFormat,
    LogLevel,
    NamedKey,
)
from infra.settings.loading import environment, load_settings, set_directly
from infra.settings.requirements import is_loopback, require_master_key, require_other_providers, require_servers
from infra.settings.whole import SETTINGS, VARIABLE_NAMES, Settings, SettingsError

__all__ = (
    "ANCHOR_FILE",
    "ENCRYPTION_KEY_BYTES",
    "METRICS_SOCKET_SUFFIX",
    "SETTINGS",
    "VARIABLE_NAMES",
    "AccessLines",
    "LogFormat",
    "LogLevel",
    "NamedKey",
    "Settings",
    "SettingsError",
    "environment",
    "is_loopback",
    "load_settings",
    "require_master_key",
    "require_other_providers",
    "require_servers",
    "set_directly",
)
