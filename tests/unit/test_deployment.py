"""What is deployed is what was tested: pinned by version, hash and digest, confined, and without a secret in sight."""

import importlib.metadata
import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from alembic.script import ScriptDirectory
from compose_pydantic import ComposeSpecification
from cryptography import x509
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import ValidationError

from deploy import images
from deploy.make_secrets import PROVIDER_KEYS, make_secrets
from deploy.requirements import ROOT, pinned, project
from deploy.sbom import fault_of, make_sbom
from infra.database import newest_revision
from infra.nkey import NKey
from infra.settings import SETTINGS, VARIABLE_NAMES, Settings, load_settings

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GATEWAYS = ("migrate", "api", "worker", "projector")
VOLUME_GIVERS = ("nats-volume", "anchors-volume")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
REQUIREMENTS = {name: ROOT / name for name in ("requirements.txt", "requirements-build.txt")}
IMAGE_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")
INTERPOLATED = re.compile(r"\$\{\w+-([^}]*)\}")
"""A variable of the one who runs compose, with its default."""
HOST = re.compile(r"://|index|find-links|trusted-host|^-|@ ", re.MULTILINE)


def installed_with(name: str) -> set[str]:
    """Return a package and everything that it brings along on this machine, by their normal names."""
    found: set[str] = set()
    waiting = [Requirement(name)]
    while waiting:
        requirement = waiting.pop()
        key = f"{canonicalize_name(requirement.name)}[{','.join(sorted(requirement.extras))}]"
        if key in found:
            continue
        found.add(key)
        for line in importlib.metadata.requires(requirement.name) or ():
            needed = Requirement(line)
            extras = ({"extra": extra} for extra in ("", *requirement.extras))
            if needed.marker is None or any(needed.marker.evaluate(extra) for extra in extras):
                waiting.append(needed)
    return {one.partition("[")[0] for one in found}


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_have_hashes_and_name_no_host(name: str) -> None:
    text = REQUIREMENTS[name].read_text(encoding="utf-8")
    assert HOST.search(text) is None
    assert all(one.hashes for one in pinned(REQUIREMENTS[name]).values())


def test_requirements_are_those_of_the_project() -> None:
    written = pinned(REQUIREMENTS["requirements.txt"])
    asked = [Requirement(line) for line in project()["project"]["dependencies"]]
    assert {one.name: str(one.specifier) for one in asked} == {
        one.name: f"=={written[one.name].version}" for one in asked
    }
    constraints = [Requirement(line) for line in project()["tool"]["uv"]["constraint-dependencies"]]
    pinned_by_constraints = {one.name: str(one.specifier) for one in constraints if one.name in written}
    assert pinned_by_constraints == {name: f"=={written[name].version}" for name in pinned_by_constraints}
    assert written.keys() == {one.name for one in asked} | pinned_by_constraints.keys()


def test_requirements_are_what_the_tests_run_with() -> None:
    written = pinned(REQUIREMENTS["requirements.txt"])
    needed = installed_with("ai-gateway") - {"ai-gateway"}
    assert {name: importlib.metadata.version(name) for name in needed} == {
        name: written[name].version for name in needed
    }


def test_what_builds_the_wheel_is_pinned() -> None:
    written = pinned(REQUIREMENTS["requirements-build.txt"])
    asked = [Requirement(line) for line in project()["build-system"]["requires"]]
    assert {one.name: str(one.specifier) for one in asked} == {
        one.name: f"=={written[one.name].version}" for one in asked
    }


def test_the_image_installs_only_what_has_a_hash() -> None:
    version = project()["project"]["version"]
    installs = re.findall(r"^RUN .*pip install (.*)$", DOCKERFILE, re.MULTILINE)
    hashed = [line for line in installs if line.startswith("--require-hashes --no-deps --only-binary :all: -r ")]
    assert {line.rpartition(" ")[2] for line in hashed} == REQUIREMENTS.keys()
    own = f"--no-index --no-deps /dist/ai_gateway-{version}-py3-none-any.whl"
    assert [line for line in installs if line not in hashed] == [own]
    assert re.search(r"\b(curl|wget|apt|apk|uv|ADD)\b", DOCKERFILE) is None


def test_the_image_is_built_on_a_digest_and_runs_as_nobody_in_particular() -> None:
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert re.search(r"^ARG PYTHON_IMAGE$", DOCKERFILE, re.MULTILINE), "no default: without a digest nothing is built"
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert re.findall(r"^USER (\S+)", final, re.MULTILINE) == ["10001:10001"]
    assert not re.findall(r"(?i)(key|token|password|secret)\S*=", DOCKERFILE)


def test_the_context_of_the_image_is_what_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        path for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for path in line.split()
    }
    assert (lines[1], copied) == ("*", allowed)
    packages = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= copied


def test_compose_file_is_one() -> None:
    known = {name: value for name, value in COMPOSE.items() if not name.startswith("x-")}  # those are anybody's
    ComposeSpecification.model_validate(known)
    misspelt = known | {"services": SERVICES | {"api": SERVICES["api"] | {"readonly": True}}}
    with pytest.raises(ValidationError, match="readonly"):
        ComposeSpecification.model_validate(misspelt)


def test_compose_file_has_no_known_weakness() -> None:
    command = [sys.executable, "-m", "compose_lint", "check", "--format", "json", str(ROOT / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = {(one["rule_id"], one["service"]) for one in findings(json.loads(done.stdout))}
    by_variable = {("CL-0019", service) for service in SERVICES}  # the digests: the next tests look at them
    givers = {("CL-0018", name) for name in VOLUME_GIVERS}
    assert found <= by_variable | givers, "and root, with one right, to give a volume away"
    assert ("CL-0019", "postgres") in found, "the linter has looked"


def findings(report: Any) -> list[dict[str, Any]]:
    """Return the linter's findings, of whatever file."""
    files = report["files"] if isinstance(report, dict) and "files" in report else [report]
    return [one for file in files for one in (file["findings"] if isinstance(file, dict) else file)]


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"pids_limit", "mem_limit", "cpus", "user"} <= service.keys()
    assert not {"privileged", "devices", "pid", "ipc", "userns_mode", "group_add", "env_file"} & service.keys()
    if name not in VOLUME_GIVERS:
        assert not service["user"].startswith("0")
        assert "cap_add" not in service
        assert "healthcheck" in service
    assert not [one for one in service.get("volumes", ()) if str(one).startswith((".", "/", "~"))], (
        "no path of the host"
    )


@pytest.mark.parametrize("name", SERVICES)
def test_images_come_by_digest(name: str) -> None:
    service = SERVICES[name]
    image = service["build"]["args"]["PYTHON_IMAGE"] if "build" in service else service["image"]
    variable = IMAGE_VARIABLE.fullmatch(image)
    assert variable is not None
    assert variable[1] in images.IMAGES


def test_networks_are_apart() -> None:
    members = {
        network: {name for name, service in SERVICES.items() if network in service.get("networks", ())}
        for network in COMPOSE["networks"]
    }
    assert members == {
        "front": {"api"},
        "providers": {"worker"},
        "database": {"postgres", "migrate", "api", "worker", "projector"},
        "queue": {"nats", "api", "worker", "projector"},
        "monitoring": {"api", "worker", "projector", "prometheus"},
        "graphs": {"prometheus", "grafana"},
        "viewers": {"grafana"},
    }
    open_ones = {name for name, options in COMPOSE["networks"].items() if not options.get("internal")}
    assert open_ones == {"front", "providers", "viewers"}
    masked = "com.docker.network.bridge.enable_ip_masquerade"  # a published port needs none
    assert all(COMPOSE["networks"][name]["driver_opts"][masked] == "false" for name in ("front", "viewers"))
    assert masked not in (COMPOSE["networks"]["providers"] or {}).get("driver_opts", {})
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"api", "grafana"}
    assert all(str(port).startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_projector_alone_keeps_copies_of_the_signed_heads_on_a_volume_of_its_user() -> None:
    holders = {name for name, service in SERVICES.items() if "anchors:/anchors" in service.get("volumes", ())}
    assert holders == {"projector", "anchors-volume"}
    assert SERVICES["anchors-volume"]["entrypoint"] == ["chown", SERVICES["projector"]["user"], "/anchors"]
    assert SERVICES["projector"]["environment"]["GATEWAY_AUDIT_ANCHOR_FILE"].startswith("/anchors/")
    assert "anchors-volume" in SERVICES["projector"]["depends_on"]
    assert SERVICES["api"]["depends_on"].items() <= SERVICES["projector"]["depends_on"].items()


@pytest.mark.parametrize("name", SERVICES)
def test_no_environment_has_a_secret(name: str) -> None:
    secret = {setting.variable.name for setting in SETTINGS if setting.variable.secret} - {"GATEWAY_NATS_URL"}
    environment = SERVICES[name].get("environment", {})
    assert not secret & environment.keys()
    assert "@" not in environment.get("GATEWAY_NATS_URL", "")
    assert not [variable for variable in environment if "PASSWORD" in variable and not variable.endswith("_FILE")]


@pytest.mark.parametrize("name", GATEWAYS)
def test_processes_know_their_settings_and_get_the_secrets_that_they_name(name: str) -> None:
    service = SERVICES[name]
    assert service["environment"].keys() <= VARIABLE_NAMES
    mounted = tuple(str(volume).partition(":")[2] + "/" for volume in service.get("volumes", ()))
    paths = {
        path
        for path in map(str, service["environment"].values())
        if path.startswith("/") and not path.startswith(mounted)
    }
    assert paths | {"/run/secrets/authority"} == {f"/run/secrets/{secret}" for secret in service["secrets"]}


def test_only_who_needs_a_secret_gets_it() -> None:
    holders = {
        secret: {name for name, service in SERVICES.items() if secret in map(source_of, service.get("secrets", ()))}
        for secret in COMPOSE["secrets"]
    }
    assert holders["master_key"] == {"api"}
    assert all(holders[name] == {"worker"} for name in PROVIDER_KEYS)
    assert holders["database_url_of_owner"] == {"migrate"}
    assert holders["database_url_of_worker"] == {"worker"}
    assert holders["database_url_of_projector"] == {"projector"}
    assert holders["database_roles"] == holders["postgres_password"] == holders["postgres_key"] == {"postgres"}
    assert holders["nats_key"] == holders["nats_users"] == {"nats"}
    assert holders["audit_key"] == {"projector"}, "those who talk to strangers cannot sign the log"
    assert holders["encryption_key"] == {"api", "worker"}
    assert holders["grafana_password"] == {"grafana"}
    assert holders["metrics_token"] == {"api", "worker", "projector", "prometheus"}
    assert all(holders.values())


def source_of(secret: Any) -> str:
    return str(secret["source"] if isinstance(secret, dict) else secret)


def test_every_secret_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    written = make_secrets(folder)
    assert {f"./secrets/{name}" for name in written} == {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all((folder / name).read_text().strip() for name in written if name not in PROVIDER_KEYS)


@pytest.mark.parametrize("name", GATEWAYS)
def test_secrets_that_are_made_are_settings_that_fit(name: str, tmp_path: Path) -> None:
    make_secrets(tmp_path)
    settings = settings_of(name, tmp_path)
    has_queue = name != "migrate"
    assert settings.database_url is not None
    assert (settings.metrics_token is not None) == has_queue
    assert (settings.encryption_key is not None) == (name in ("api", "worker"))
    assert (settings.nats_urls == ("tls://nats:4222",)) == has_queue
    assert (settings.audit_key is not None) == (name == "projector")
    assert (settings.master_key is not None) == (name == "api")
    assert not any(settings.provider_keys.values()), "those are the operator's"


def settings_of(name: str, folder: Path) -> Settings:
    """Return the settings of a service, with the secrets of a folder."""
    environment = SERVICES[name]["environment"]
    defaults = {key: INTERPOLATED.sub(r"\1", str(value)) for key, value in environment.items()}
    return load_settings({key: value.replace("/run/secrets", str(folder)) for key, value in defaults.items()})


def test_passwords_and_keys_that_belong_together_are_the_same(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    settings = settings_of("api", tmp_path)
    assert settings.database_url is not None
    password = re.fullmatch(r"postgresql://gateway_api:([\w-]{43})@postgres:5432/gateway\?\S+", settings.database_url)
    assert password is not None
    assert f"CREATE ROLE gateway_api LOGIN PASSWORD '{password[1]}';" in (tmp_path / "database_roles").read_text()
    assert settings.database_url.endswith(
        "@postgres:5432/gateway?sslmode=verify-full&sslrootcert=/run/secrets/authority"
    )
    assert NKey.from_seed((tmp_path / "nats_seed").read_text()).public_key in (tmp_path / "nats_users").read_text()


def test_secrets_stay_as_they_are(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    (tmp_path / "openai_api_key").chmod(0o600)
    (tmp_path / "openai_api_key").write_text("sk-canary")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert make_secrets(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    renewed = set(make_secrets(tmp_path, renew=True))
    assert renewed == {name for name, text in before.items() if "BEGIN" in text}
    after = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == renewed


def test_half_of_what_belongs_together_is_not_replaced(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    (tmp_path / "database_url_of_api").unlink()
    with pytest.raises(OSError, match="has database_url_of_owner but not database_url_of_api"):
        make_secrets(tmp_path)


def test_certificates_are_of_one_authority_and_name_their_host(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    authority = x509.load_pem_x509_certificate((tmp_path / "authority").read_bytes())
    for host in ("postgres", "nats", "gateway"):
        certificate = x509.load_pem_x509_certificate((tmp_path / f"{host}_certificate").read_bytes())
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [host]


def test_images_are_written_with_the_digests_that_docker_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$4" >> "$0.asked"\nprintf "sha256:%064d\\n" 7\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    written = images.lines()
    assert (tmp_path / "docker.asked").read_text().split() == list(images.IMAGES.values())
    found = dict(line.split("=", 1) for line in written.splitlines() if not line.startswith("#"))
    assert found == {name: f"{image}@sha256:{7:064d}" for name, image in images.IMAGES.items()}


@pytest.mark.parametrize("script", ["exit 1", "echo latest", "echo sha256:12"])
def test_what_is_no_digest_is_not_written(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(images.NoDigestError, match="docker does not know the digest"):
        images.lines()


def test_without_docker_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(images.NoDigestError, match="docker cannot be run"):
        images.lines()


def test_bill_of_materials_lists_what_the_image_installs() -> None:
    document = make_sbom()
    some = document | {"components": document["components"][:3], "dependencies": document["dependencies"][:3]}
    assert fault_of(some) is None
    assert fault_of(some | {"specVersion": 0}) is not None
    listed = {canonicalize_name(one["name"]): one["version"] for one in document["components"]}
    needed = installed_with("ai-gateway") - {"ai-gateway"}
    written = pinned(REQUIREMENTS["requirements.txt"])
    assert needed <= listed.keys() <= written.keys()
    assert listed == {name: written[name].version for name in listed}
    assert all(one["purl"].startswith("pkg:pypi/") for one in document["components"])
    assert document["metadata"]["component"]["name"] == "ai-gateway"
    assert str(ROOT) not in json.dumps(document)
    known = {document["metadata"]["component"]["bom-ref"]} | {one["bom-ref"] for one in document["components"]}
    (root,) = (one for one in document["dependencies"] if one["ref"] == document["metadata"]["component"]["bom-ref"])
    assert {canonicalize_name(ref.partition("==")[0]) for ref in root["dependsOn"]} == {
        canonicalize_name(Requirement(line).name) for line in project()["project"]["dependencies"]
    }
    assert {ref for one in document["dependencies"] for ref in one.get("dependsOn", ())} <= known


def test_the_newest_revision_is_the_one_that_alembic_takes_for_the_head() -> None:
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    assert newest_revision() == scripts.get_current_head()
    assert scripts.get_heads() == [newest_revision()], "one line of revisions"
