"""Dashboards and alerts are what their tables say, and name no metric that the gateway does not have."""

import json
import re

import pytest
import yaml

from deploy.dashboards import COLUMNS, DASHBOARDS, FOLDER, dashboard, written
from docs.metrics_page import lines
from tests.support.prometheus_server import ALERT_CASES, ALERTS, ROOT, metrics_in

KNOWN = set(re.findall(r"^\| `(\w+)`", "\n".join(lines()), re.MULTILINE)) | {"gateway_process_up"}
RULES = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
HOW_TO = (ROOT / "docs" / "how-to" / "watch-the-gateway.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_what_its_table_says(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == written(name), "run python -m deploy.dashboards"


def test_every_dashboard_is_one_of_the_tables() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_places_of_their_own_and_name_metrics_that_exist(name: str) -> None:
    panels = dashboard(name)["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) >= COLUMNS
    assert all(panel["description"] for panel in panels)
    named = metrics_in(json.dumps(panels))
    assert named
    assert named <= KNOWN


def test_alerts_name_metrics_that_exist_and_say_what_they_mean() -> None:
    assert set().union(*(metrics_in(rule["expr"]) for rule in RULES)) <= KNOWN
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in RULES)


def test_every_alert_has_a_case_and_a_line_that_says_what_to_do() -> None:
    names = {rule["alert"] for rule in RULES}
    cases = ALERT_CASES.read_text(encoding="utf-8")
    assert set(re.findall(r'alertname="(\w+)"', cases)) == names
    assert set(re.findall(r"^\| `(Gateway\w+)`", HOW_TO, re.MULTILINE)) == names
