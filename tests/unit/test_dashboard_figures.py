"""How the dashboard shows figures, reads forms, writes CSV, and what it loads."""

import gzip
import tomllib
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from api.authentication import Caller
from api.dashboard import figures
from api.dashboard.assets import address_of, assets
from api.dashboard.csv_files import csv_text
from api.dashboard.forms import is_outdated, mark_of
from api.dashboard.pages.sign_in import own_path
from api.dashboard.rendering import template_config
from api.dashboard.viewer import Viewer
from domain.errors import Forbidden
from domain.events import KeySettings
from domain.money import NanoUsd
from projections.scope import Scope

STATIC = Path(figures.__file__).parent / "static"
MAX_GZIPPED_BYTES = 60 * 1024
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("nano_usd", "shown"),
    [
        (None, "–"),
        (0, "$0"),
        (1, "$0.000000001"),
        (8_550, "$0.00000855"),
        (12_500_000, "$0.0125"),
        (100_000_000, "$0.10"),
        (999_999_999, "$1.00"),
        (1_234_567_890_123, "$1,234.57"),
        (-12_500_000, "−$0.0125"),
    ],
)
def test_money_is_shown_to_the_digits_that_matter(nano_usd: int | None, shown: str) -> None:
    assert figures.money(NanoUsd(nano_usd) if nano_usd is not None else None) == shown


def test_the_exact_amount_has_every_nano_dollar() -> None:
    assert figures.exact_money(NanoUsd(1_234_567_890_123)) == "$1,234.567890123"


def test_other_figures_are_short_and_have_their_unit() -> None:
    assert [figures.short_count(one) for one in (999, 12_345, 1_234_567)] == ["999", "12.3k", "1.23M"]
    assert [figures.milliseconds(one) for one in (None, 450, 1_250)] == ["–", "450 ms", "1.25 s"]
    assert [figures.percent(one) for one in (0.5, 0.1234)] == ["50 %", "12.3 %"]
    assert figures.moment(NOW) == "2026-11-26 12:00:00"
    assert [figures.ago(NOW - timedelta(seconds=one), NOW) for one in (0, 59, 3_700, -7_200)] == [
        "now",
        "59 s ago",
        "1 h ago",
        "in 2 h",
    ]


def test_what_others_wrote_is_vendored_as_it_was_published() -> None:
    manifest = tomllib.loads((STATIC / "manifest.toml").read_text(encoding="utf-8"))["file"]
    listed = {one["name"]: one["sha256"] for one in manifest}
    own = {"app.css", "app.js", "icon.svg", "manifest.toml"}
    assert listed.keys() == {file.name for file in STATIC.iterdir()} - own
    assert {name: sha256((STATIC / name).read_bytes()).hexdigest() for name in listed} == listed
    assert all(one["version"] and one["license"] and one["package"] for one in manifest)


def test_script_and_style_are_small() -> None:
    loaded = [asset for name, asset in assets().items() if name.endswith((".js", ".css"))]
    assert len(loaded) == 5
    assert sum(len(asset.packed) for asset in loaded) <= MAX_GZIPPED_BYTES
    assert all(gzip.decompress(asset.packed) == asset.content for asset in loaded)


def test_a_files_address_changes_with_its_content() -> None:
    assert address_of("app.css").endswith(sha256((STATIC / "app.css").read_bytes()).hexdigest()[:12])


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\nx",
        "\n=1",
        " =1",
        "\u00a0+1",
        "\ufeff=1",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff20x",
    ],
)
def test_a_spreadsheet_takes_no_text_for_a_formula(text: str) -> None:
    _, line = csv_text(["name", "cost"], [[text, -1]]).split("\r\n", 1)
    assert line.startswith(("'", "\"'"))
    assert csv_text(["cost"], [["-0.0125"], ["7"]]) == "cost\r\n-0.0125\r\n7\r\n"
    assert csv_text(["cost"], [[-1], [None]]) == 'cost\r\n-1\r\n""\r\n'


def test_a_form_that_showed_something_else_is_outdated() -> None:
    shown = {"name": "a", "dailyBudget": "5"}
    sent = shown | {"seen": mark_of(shown), "dailyBudget": "7"}
    assert not is_outdated(sent, dict(reversed(shown.items())))
    assert is_outdated(sent, shown | {"dailyBudget": "1"})
    assert not is_outdated({"dailyBudget": "7"}, shown)  # of a script, which has seen no form


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "keys", "", "/a\r\nx: y", "/\tb"]
)
def test_signing_in_leads_nowhere_else(elsewhere: str) -> None:
    assert own_path(elsewhere) == "/"
    assert own_path("/requests?model=a%2Fb&page=2") == "/requests?model=a%2Fb&page=2"


def test_whatever_a_template_shows_is_escaped_and_given() -> None:
    engine = template_config().engine_instance.engine
    assert engine.autoescape is True
    assert engine.from_string("{{ x }}").render(x="<script>") == "&lt;script&gt;"
    for name in engine.list_templates():
        source = Path(figures.__file__).parent.joinpath("templates", name).read_text(encoding="utf-8")
        assert "|safe" not in source.replace(" ", ""), name
        assert "style=" not in source, name
        assert "<script>" not in source, name
        engine.get_template(name)


def caller(role: str) -> Caller:
    return Caller(
        key_id="key_1",
        key_version=1,
        secret_hash=b"",
        project_id="prj_1",
        project_name="mine",
        is_limited=False,
        cancel_on_disconnect=False,
        settings=KeySettings(name="k", role=role),
        providers=(),
        own_credentials=frozenset(),
    )


def test_a_viewer_sees_its_own_share_whatever_it_asks_for() -> None:
    operator = Viewer(role="operator", project_id=None, key_id=None, csrf_token="t")
    admin = Viewer(role="admin", project_id="prj_1", key_id="key_1", csrf_token="t", caller=caller("admin"))
    member = Viewer(role="member", project_id="prj_1", key_id="key_1", csrf_token="t", caller=caller("member"))
    asked = {"project_id": "prj_2", "key_id": "key_2"}
    assert operator.scope() == Scope()
    assert operator.scope(**asked) == Scope(project_id="prj_2", key_id="key_2")
    assert admin.scope(**asked) == Scope(project_id="prj_1", key_id="key_2")
    assert member.scope(**asked) == Scope(project_id="prj_1", key_id="key_1")


def test_the_open_view_changes_nothing() -> None:
    viewer = Viewer(role="operator", project_id=None, key_id=None, csrf_token="t")
    with pytest.raises(Forbidden):
        viewer.require_change()
