"""The Helm chart, as Helm's own library renders it: every object is valid, a process gets what it needs and no more."""

from typing import Any, cast

import helm_python
import kubernetes_validate
import pytest
import yaml

from deploy.make_secrets import PROVIDER_KEYS, make_secrets
from deploy.requirements import ROOT
from infra.settings import SETTINGS, VARIABLE_NAMES

CHART = ROOT / "deploy" / "helm"
KUBERNETES = ("1.30.0", "1.37.0")
PROCESSES = ("migrate", "api", "worker", "projector")
ANCHORED: dict[str, Any] = {"projector": {"anchors": {"webhookKey": "audit_webhook"}}}
EVERYTHING: dict[str, Any] = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {"GATEWAY_REQUEST_TIMEOUT_S": "300"},
    "nats": {"replicas": 3},
    "furtherKeys": {"openai": ["eu", "us"]},
    "telemetry": {"endpoint": "http://collector:4318", "headersKey": "collector_headers"},
    "api": {"autoscaling": {"enabled": True}, "service": {"type": "LoadBalancer"}},
    "worker": {"autoscaling": {"enabled": True}},
    "projector": {"anchors": {"webhookKey": "hook", "objectStoreKey": "store", "claim": "anchors"}},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {}}],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "database": {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "port": 5433},
        "nats": {"to": [{"podSelector": {"matchLabels": {"app": "nats"}}}], "port": 4222},
        "collector": {"to": [{"podSelector": {"matchLabels": {"app": "collector"}}}], "port": 4318},
    },
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gateway", "operator": "Exists"}],
}
LEAST: dict[str, Any] = {
    "nats": {"url": "nats://nats:4222", "credentials": False, "clientCertificate": False},
    "authority": False,
    "providers": [],
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "projector": {"anchors": {"claim": "anchors"}},
}
VALUES = {"anchored": ANCHORED, "everything": EVERYTHING, "least": LEAST}


def objects(values: dict[str, Any]) -> list[dict[str, Any]]:
    rendered = helm_python.Chart.load(CHART).render(values, name="gw", namespace="gateway")
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found is not None]


def install(chart: helm_python.Chart, values: dict[str, Any]) -> None:
    """Do what `helm install` does before it speaks to a cluster."""
    chart.validate_schema(values)
    chart.render(values, name="gw")


def pods(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the specification of each process's pod."""
    found = [one for one in objects(values) if one["kind"] in ("Deployment", "Job")]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"]["spec"] for one in found}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    return cast(dict[str, Any], only)


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(pod)["env"]}


def secret_keys(pod: dict[str, Any]) -> set[str]:
    (items,) = [volume["secret"]["items"] for volume in pod["volumes"] if "secret" in volume]
    assert all(item["key"] == item["path"] for item in items)
    return {item["key"] for item in items}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_finds_nothing_wrong_and_kubernetes_knows_every_field(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    found = objects(values)
    assert {one["kind"] for one in found} >= {"Deployment", "Job", "Service"}
    for one in found:
        for version in KUBERNETES:
            kubernetes_validate.validate(one, version, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"projector": {"anchors": {"webhookKey": ""}}},
        ANCHORED | {"replicas": 3},
        ANCHORED | {"nats": {"url": "tls://user:secret@nats:4222"}},
        ANCHORED | {"image": {"digest": "sha256:abc"}},
        ANCHORED | {"providers": ["elsewhere"]},
        ANCHORED | {"furtherKeys": {"elsewhere": ["eu"]}},
        ANCHORED | {"furtherKeys": {"openai": ["eu=sk-canary"]}},
        ANCHORED | {"settings": {"PATH": "/tmp"}},
        ANCHORED | {"secretName": "Not A Name"},
    ],
)
def test_a_wrong_value_is_refused(wrong: dict[str, Any]) -> None:
    chart = helm_python.Chart.load(CHART)
    with pytest.raises(helm_python.HelmError):
        install(chart, wrong)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_variable_exists_and_every_file_that_one_names_is_mounted(values: dict[str, Any]) -> None:
    for process, pod in pods(values).items():
        keys = secret_keys(pod)
        for name, value in environment(pod).items():
            assert name in VARIABLE_NAMES, (process, name)
            if value.startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in keys, (process, name)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_no_secret_stands_in_an_object(values: dict[str, Any]) -> None:
    secret = {setting.variable.name for setting in SETTINGS if setting.variable.secret}
    for pod in pods(values).values():
        assert not (environment(pod).keys() & secret) - {"GATEWAY_NATS_URL"}
    assert not [one for one in objects(values) if one["kind"] in ("Secret", "ConfigMap")]


def test_only_the_projector_has_the_audit_key_and_only_workers_the_providers_keys() -> None:
    keys = {process: secret_keys(pod) for process, pod in pods(ANCHORED).items()}
    assert set(keys) == set(PROCESSES)
    assert [process for process in PROCESSES if "audit_key" in keys[process]] == ["projector"]
    assert [process for process in PROCESSES if keys[process] & set(PROVIDER_KEYS)] == ["worker"]
    assert [process for process in PROCESSES if "master_key" in keys[process]] == ["api"]
    assert [process for process in PROCESSES if "encryption_key" in keys[process]] == ["api", "worker"]
    assert [process for process in PROCESSES if "database_url_of_owner" in keys[process]] == ["migrate"]
    for process in ("api", "worker", "projector"):
        assert {key for key in keys[process] if key.startswith("database_url")} == {f"database_url_of_{process}"}


def test_workers_get_further_keys_and_the_api_their_names() -> None:
    found = pods(EVERYTHING)
    environments = {process: environment(pod) for process, pod in found.items()}
    assert environments["worker"]["GATEWAY_OPENAI_API_KEYS_FILE"] == "/run/secrets/openai_api_keys"
    assert [process for process in PROCESSES if "openai_api_keys" in secret_keys(found[process])] == ["worker"]
    assert environments["api"]["GATEWAY_INSTALLATION_PROVIDERS"] == "openai,anthropic,openai/eu,openai/us"
    assert not any("anthropic_api_keys" in secret_keys(pod) for pod in found.values())


def test_the_files_of_make_secrets_are_the_keys_that_the_chart_mounts(tmp_path: Any) -> None:
    written = set(make_secrets(tmp_path / "secrets"))
    mounted = set().union(*(secret_keys(pod) for pod in pods(ANCHORED).values()))
    assert mounted - written == {"audit_webhook"}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_pods_are_confined(values: dict[str, Any]) -> None:
    for pod in pods(values).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container(pod)["resources"]["limits"]


def test_probes_ask_the_process_and_not_what_all_processes_share() -> None:
    found = pods(ANCHORED)
    for process in ("api", "worker", "projector"):
        one = container(found[process])
        assert one["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "health"}
        assert {"name": "health", "containerPort": int(environment(found[process])["GATEWAY_METRICS_PORT"])} in one[
            "ports"
        ]
    assert container(found["api"])["readinessProbe"]["httpGet"]["path"] == "/health/live"
    assert "livenessProbe" not in container(found["migrate"])


def test_the_migration_runs_before_the_processes_of_its_release() -> None:
    (job,) = [one for one in objects(ANCHORED) if one["kind"] == "Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_an_autoscaled_deployment_states_no_number_of_its_own() -> None:
    scaled = {one["metadata"]["name"]: one for one in objects(EVERYTHING) if one["kind"] == "Deployment"}
    assert "replicas" not in scaled["gw-api"]["spec"]
    assert "replicas" not in scaled["gw-worker"]["spec"]
    (worker,) = [
        one
        for one in objects(EVERYTHING)
        if (one["kind"], one["metadata"]["name"]) == ("HorizontalPodAutoscaler", "gw-worker")
    ]
    names = [
        metric["external"]["metric"]["name"] for metric in worker["spec"]["metrics"] if metric["type"] == "External"
    ]
    assert names == ["gateway_queue_jobs"]


def test_only_workers_and_the_receivers_of_heads_reach_the_outside() -> None:
    def outside(values: dict[str, Any]) -> list[str]:
        policies = [one for one in objects(values) if one["kind"] == "NetworkPolicy"]
        return [
            one["metadata"]["name"]
            for one in policies
            if any({"port": 443} in rule["ports"] for rule in one["spec"]["egress"])
        ]

    claimed = ANCHORED | {"projector": {"anchors": {"claim": "anchors"}}}
    assert outside(claimed) == ["gw-worker"]
    assert outside(ANCHORED) == ["gw-worker", "gw-projector"]


def test_only_those_that_send_telemetry_reach_the_collector_and_have_its_token() -> None:
    def reaching(values: dict[str, Any]) -> list[str]:
        policies = [one for one in objects(values) if one["kind"] == "NetworkPolicy"]
        return [
            one["metadata"]["name"]
            for one in policies
            if any({"port": 4318} in rule["ports"] for rule in one["spec"]["egress"])
        ]

    assert reaching(EVERYTHING) == ["gw-api", "gw-worker"]
    assert reaching(ANCHORED) == []
    holders = {name for name, pod in pods(EVERYTHING).items() if "collector_headers" in secret_keys(pod)}
    assert holders == {"api", "worker"}
    assert environment(pods(EVERYTHING)["worker"])["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"


def test_selectors_find_the_pods_of_their_process_and_no_others() -> None:
    found = objects(ANCHORED)
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in found
        if one["kind"] in ("Deployment", "Job")
    }
    for one in found:
        selector = one["spec"].get("podSelector") or one["spec"].get("selector") or {}
        wanted = selector.get("matchLabels", selector)
        if one["kind"] in ("NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment"):
            chosen = [name for name, has in labels.items() if wanted.items() <= has.items()]
            assert len(chosen) == 1, one["metadata"]["name"]
