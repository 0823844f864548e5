"""The providers of the installation: keys, addresses, models, circuits."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from domain.circuit import CircuitSettings
from domain.credentials import DEFAULT_CREDENTIAL
from infra.environment_variables import (
    Variable,
    names,
    pairs,
    readable_file,
    without_final_slash,
    yes_or_no,
)
from infra.settings.audit import AuditSettings
from infra.settings.kinds import (
    HttpUrl,
    InstallationProvider,
    NamedKey,
    NamedKeys,
    NonEmpty,
    named_keys,
    set_ones,
)


class ProviderSettings(AuditSettings, frozen=True, kw_only=True):
    """The providers of the installation."""

    openai_api_key: Annotated[
        str | None,
        Variable("OPENAI_API_KEY", "for projects that bring none of their own", "a key of OpenAI's", secret=True),
    ] = None
    anthropic_api_key: Annotated[
        str | None,
        Variable("ANTHROPIC_API_KEY", "for projects that bring none of their own", "a key of Anthropic's", secret=True),
    ] = None
    openai_api_keys: Annotated[
        NamedKeys,
        Variable(
            "GATEWAY_OPENAI_API_KEYS",
            "further keys of OpenAI's: calls are spread over all of them by weight, and a route may name one",
            "NAME=KEY or NAME:WEIGHT=KEY, with commas between",
            secret=True,
            parse=named_keys,
        ),
    ] = ()
    anthropic_api_keys: Annotated[
        NamedKeys,
        Variable(
            "GATEWAY_ANTHROPIC_API_KEYS",
            "further keys of Anthropic's, in the same way",
            "NAME=KEY or NAME:WEIGHT=KEY, with commas between",
            secret=True,
            parse=named_keys,
        ),
    ] = ()
    installation_providers: Annotated[
        tuple[InstallationProvider, ...] | None,
        Variable(
            "GATEWAY_INSTALLATION_PROVIDERS",
            "the providers whose keys the workers have, for an API process that has not; those whose keys it has are "
            "counted as well",
            "openai, anthropic, or a named key of one (openai/NAME), with commas between",
            parse=names,
        ),
    ] = None
    openai_base_url: Annotated[
        HttpUrl | None,
        Variable("OPENAI_BASE_URL", "where OpenAI is", "an http(s) address", parse=without_final_slash),
    ] = None
    anthropic_base_url: Annotated[
        HttpUrl | None,
        Variable("ANTHROPIC_BASE_URL", "where Anthropic is", "an http(s) address", parse=without_final_slash),
    ] = None
    upstream_models: Annotated[
        dict[NonEmpty, NonEmpty],
        Variable(
            "GATEWAY_UPSTREAM_MODELS",
            "the provider's own name for a model that callers know by another",
            "name=provider's name, with commas between",
            parse=pairs,
        ),
    ] = field(default_factory=dict)
    """The provider's name for a model, by the name that callers use. Looked up before the built-in table."""
    circuit_breaker: Annotated[
        bool,
        Variable(
            "GATEWAY_CIRCUIT_BREAKER",
            "whether a provider that does not answer, or asks for a pause, is left alone for a while",
            "yes or no",
            parse=yes_or_no,
        ),
    ] = True
    circuit_window_s: Annotated[
        float,
        Meta(ge=1, le=3_600),
        Variable(
            "GATEWAY_CIRCUIT_WINDOW_S",
            "for how long a call counts for the circuit of its provider, model and credential",
            "seconds, 1 to 3600",
        ),
    ] = 60.0
    circuit_min_calls: Annotated[
        int,
        Meta(ge=1, le=100_000),
        Variable("GATEWAY_CIRCUIT_MIN_CALLS", "calls in the window below which no circuit opens", "calls, 1 to 100000"),
    ] = 10
    circuit_failure_ratio: Annotated[
        float,
        Meta(gt=0, le=1),
        Variable(
            "GATEWAY_CIRCUIT_FAILURE_RATIO",
            "the part of the window's calls that has to fail for a circuit to open",
            "a number above 0, up to 1",
        ),
    ] = 0.5
    circuit_open_s: Annotated[
        float,
        Meta(ge=0.1, le=3_600),
        Variable(
            "GATEWAY_CIRCUIT_OPEN_S",
            "after how long a call probes an open circuit; doubled each time that the probe fails",
            "seconds, 0.1 to 3600",
        ),
    ] = 2.0
    circuit_max_open_s: Annotated[
        float,
        Meta(ge=0.1, le=3_600),
        Variable(
            "GATEWAY_CIRCUIT_MAX_OPEN_S",
            "the longest that a circuit is open without a probe, whatever the provider asks for",
            "seconds, 0.1 to 3600",
        ),
    ] = 60.0
    models_file: Annotated[
        Path | None,
        Variable(
            "GATEWAY_MODELS_FILE",
            "what is known of models beside, or instead of, the built-in table (docs/reference/models.md): limits, "
            "efforts, sampling",
            "a TOML file that can be read, with tables [models.NAME]",
            parse=readable_file,
        ),
    ] = None

    @property
    def circuits(self) -> CircuitSettings:
        """Return when circuits open, and for how long."""
        return CircuitSettings(
            is_on=self.circuit_breaker,
            window_s=self.circuit_window_s,
            min_calls=self.circuit_min_calls,
            failure_ratio=self.circuit_failure_ratio,
            open_s=self.circuit_open_s,
            max_open_s=self.circuit_max_open_s,
        )

    @property
    def provider_keys(self) -> dict[str, str]:
        """Return the installation's keys by provider, for projects without a key of their own.

        An empty one is with the workers alone, or has a name.
        """
        elsewhere = {one.partition("/")[0]: "" for one in self.installation_providers or ()}
        return (
            elsewhere
            | dict.fromkeys(self.further_provider_keys, "")
            | set_ones({"openai": self.openai_api_key, "anthropic": self.anthropic_api_key})
        )

    @property
    def further_provider_keys(self) -> dict[str, tuple[NamedKey, ...]]:
        """Return the installation's keys that have a name, by provider."""
        further = {"openai": self.openai_api_keys, "anthropic": self.anthropic_api_keys}
        return {provider: keys for provider, keys in further.items() if keys}

    @property
    def installation_credentials(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the installation's keys, by built-in provider: those that the workers have as well."""
        known: dict[str, dict[str, None]] = {}
        for one in self.installation_providers or ():
            provider, _, name = one.partition("/")
            known.setdefault(provider, {})[name or DEFAULT_CREDENTIAL] = None
        for provider, key in self.provider_keys.items():
            names = known.setdefault(provider, {})
            if key:
                names[DEFAULT_CREDENTIAL] = None
            names.update({one.name: None for one in self.further_provider_keys.get(provider, ())})
        return {provider: tuple(sorted(names)) for provider, names in known.items()}

    @property
    def provider_base_urls(self) -> dict[str, str]:
        """Return the addresses of the built-in providers that are not called at their vendor's address."""
        return set_ones({"openai": self.openai_base_url, "anthropic": self.anthropic_base_url})
