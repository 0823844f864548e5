"""The dashboard in a real browser: every page that there is, in both colour schemes, on a telephone and on a desk."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from api.dashboard.router import PAGES
from tests.provider.running import RunningProvider
from tests.support.browser import SCHEMES, WIDTHS_PX, Visitor, find_chromium, running_chromium
from tests.support.gateway import Gateway, environment_for
from tests.support.hostile_project import CANARY, HostileProject

SCREENSHOTS = Path(os.environ.get("GATEWAY_TEST_SCREENSHOTS") or Path(__file__).parent / "screenshots")
PIECES = frozenset({"/audit/verifications", "/requests/new"})
"""Parts of pages, which they ask for by themselves."""
FILES = (".csv", "/export")
VIEWS = (
    "/usage?group=metadata.x&then=day",
    "/usage?metric=latency&group=hour&range=1",
    "/requests?status=failed",
    "/keys?state=revoked",
    "/sign-in?anew=1",
)
"""Pages with filters, and the one before all others."""


def paths() -> list[str]:
    """Return the path of every page that there is, as its route has it."""
    found = {path for page in PAGES for one in page.HANDLERS if "GET" in one.http_methods for path in one.paths}
    return sorted(path for path in found if not path.endswith(FILES) and path not in PIECES)


PLACE = re.compile(r"{(\w+):str}")
EVERY_PAGE = (*paths(), *VIEWS)


@pytest.fixture(scope="module")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway as a new user starts it."""
    running = Gateway.start(tmp_path_factory.mktemp("seen") / "data", env=environment_for(upstream))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed (`apt-get install chromium`)")
    with running_chromium(path) as browser:
        yield browser


@pytest.fixture(scope="module")
def project(gateway: Gateway, upstream: RunningProvider) -> HostileProject:
    return HostileProject(gateway, upstream)


@pytest.fixture(scope="module")
def operator(chromium: Browser, gateway: Gateway) -> Visitor:
    return Visitor(chromium, gateway.address).sign_in(gateway.master_key)


@pytest.fixture(scope="module")
def admin(chromium: Browser, gateway: Gateway, project: HostileProject) -> Visitor:
    return Visitor(chromium, gateway.address).sign_in(project.key)


@pytest.fixture(scope="module")
def member(chromium: Browser, gateway: Gateway, project: HostileProject) -> Visitor:
    return Visitor(chromium, gateway.address).sign_in(project.member_key)


def address(path: str, project: HostileProject) -> str:
    """Return a page of the project."""
    ids = {
        "key_id": project.key_id,
        "project_id": project.project_id,
        "request_id": project.answered,
    }
    return PLACE.sub(lambda place: ids[place[1]], path)


@pytest.mark.parametrize("path", EVERY_PAGE)
def test_a_page_is_readable_for_everybody_on_any_screen(path: str, admin: Visitor, project: HostileProject) -> None:
    admin.open(address(path, project))
    name = re.sub(r"\W+", "-", path).strip("-") or "overview"
    found = []
    for scheme in SCHEMES:
        for width_px in WIDTHS_PX:
            admin.look(scheme, width_px)
            admin.page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width_px}.png", full_page=True)
            found += [f"{scheme} {width_px}: {one}" for one in admin.violations()]
            wide_px = admin.page.evaluate("document.documentElement.scrollWidth")
            found += [f"{wide_px} px wide on {width_px}"] if wide_px > width_px else []
    assert found == []
    assert admin.complaints == []


@pytest.mark.parametrize("path", EVERY_PAGE)
def test_what_others_wrote_is_text(path: str, operator: Visitor, admin: Visitor, project: HostileProject) -> None:
    for visitor in (operator, admin):
        visitor.open(address(path, project))
        assert visitor.page.locator(CANARY).count() == 0
        assert "49" not in visitor.page.title()
