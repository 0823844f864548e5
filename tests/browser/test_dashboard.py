"""The dashboard in a real browser: every page that there is, in both colour schemes, on a telephone and on a desk."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from api.dashboard.router import NAVIGATION, PAGES
from tests.provider.running import RunningProvider
from tests.support.browser import SCHEMES, WIDTHS_PX, Visitor, find_chromium, running_chromium
from tests.support.demo_project import DemoProject
from tests.support.gateway import Gateway, environment_for
from tests.support.hostile_project import CANARY, HOSTILE, HostileProject

SCREENSHOTS = Path(os.environ.get("GATEWAY_TEST_SCREENSHOTS") or Path(__file__).parent / "screenshots")
IMAGES = Path(__file__).parents[2] / "docs" / "images"
WRITES_IMAGES = os.environ.get("WRITE_IMAGES") == "1"
MAX_IMAGE_BYTES = 150_000
PICTURED = {"overview": "/", "request": "/requests/{explained}", "budgets": "/budgets", "connect": "/connect"}
"""The pages that the README shows, by the names of their images."""
PIECES = frozenset({"/audit/verifications", "/requests/new"})
"""Parts of pages, which these ask for by themselves."""
FILES = (".csv", "/export")


OUT_OF_SIGHT = """() => [...document.querySelectorAll(".head nav [aria-current], a.csv")]
  .filter((one) => one.checkVisibility())
  .filter((one) => { const at = one.getBoundingClientRect(); return at.left < 0 || at.right > innerWidth + 1; })
  .map((one) => one.textContent)"""
"""The current page in the menu, and the links to files: what must be seen without a search."""


def every_page() -> list[str]:
    """Return the path of every page that there is, as its route has it."""
    found = {path for page in PAGES for one in page.HANDLERS if "GET" in one.http_methods for path in one.paths}
    return sorted(path for path in found if not path.endswith(FILES) and path not in PIECES)


SHOWN = {
    "/keys": "key",
    "/budgets": "key",
    "/requests": "model",
    "/requests/{request_id:str}": "value",
    "/projects/{project_id:str}": "project",
    "/providers/{owner:str}/{provider:str}": "model",
    "/routes": "model",
    "/routes/{owner:str}/{name:str}": "model",
    "/requests/{failed}": "error",
    "/usage?group=metadata.{metadata}": "value",
}
"""Pages that show a text of a caller's or a provider's, and which."""
VIEWS = (
    "/requests/{failed}",
    "/requests/{refused}",
    "/usage?group=metadata.{metadata}",
    "/usage?metric=latency&group=hour&range=1",
    "/requests?status=cached",
    "/sign-in?anew=1",
)
"""Pages with filters, of other requests, and the one before all others."""
VISITED = (*every_page(), *VIEWS)


@pytest.fixture(scope="module")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway as a new user starts it."""
    if find_chromium() is None:
        pytest.skip("no Chromium is installed (`apt-get install chromium`)")
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


def check(visitor: Visitor) -> None:
    """Nothing that somebody wrote became markup, no script failed, and nothing was asked for elsewhere."""
    assert visitor.page.locator(CANARY).count() == 0
    assert visitor.complaints == []
    assert visitor.elsewhere() == []


@pytest.mark.parametrize("path", VISITED)
def test_a_page_is_readable_for_everybody_on_any_screen(path: str, admin: Visitor, project: HostileProject) -> None:
    text = admin.open(project.address(path))
    assert f"{HOSTILE} {SHOWN[path]}" in text if path in SHOWN else True
    check(admin)
    name, found = re.sub(r"\W+", "-", path).strip("-") or "home", []
    for scheme in SCHEMES:
        for width_px in WIDTHS_PX:
            admin.look(scheme, width_px)
            admin.page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width_px}.png", full_page=True)
            found += [f"{scheme} {width_px}: {one}" for one in admin.violations()]
            wide_px = admin.page.evaluate("document.documentElement.scrollWidth")
            found += [f"{wide_px} px wide on {width_px}"] if wide_px > width_px else []
            found += [f"out of sight on {width_px}: {one}" for one in admin.page.evaluate(OUT_OF_SIGHT)]
    assert found == []
    assert "--" not in "".join(admin.page.locator(".u-legend").all_text_contents()), "a legend at rest has figures"
    check(admin)


def test_the_operator_sees_every_project_s_words_as_text(operator: Visitor, project: HostileProject) -> None:
    for path in VISITED:
        operator.open(project.address(path))
        check(operator)


def test_every_link_of_a_viewer_leads_to_a_page(operator: Visitor, admin: Visitor, member: Visitor) -> None:
    for visitor, role in ((operator, "operator"), (admin, "admin"), (member, "member")):
        visitor.open("/")
        links = visitor.page.get_by_role("navigation", name="Pages").get_by_role("link")
        assert links.all_text_contents() == [one.label for one in NAVIGATION if role in one.roles]
        for link in [str(link.get_attribute("href")) for link in links.all()]:
            visitor.open(link)
            expect(visitor.page.locator("nav a[aria-current=page]")).to_have_count(1)
            check(visitor)


def test_where_there_is_no_page_a_reader_finds_the_menu(chromium: Browser, gateway: Gateway) -> None:
    reader = Visitor(chromium, gateway.address).sign_in(gateway.master_key)
    for path, status in (("/nosuchpage", 404), ("/sign-out", 405), ("/usage?range=week", 400)):
        answer = reader.page.goto(path)
        assert answer is not None
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (status, "text/html")
        expect(reader.page.get_by_role("navigation", name="Pages")).to_have_count(1)
        assert reader.violations() == []
    expect(reader.page.get_by_role("alert")).to_have_text("“Range” must be a number of days, such as 7")


def test_a_wrong_field_is_marked_and_told_in_the_words_of_its_form(admin: Visitor, project: HostileProject) -> None:
    admin.open(project.address("/keys/{key_id}"))
    admin.send(f"/{project.key_id}", rateLimit="many")
    expect(admin.page.get_by_role("status").first).to_have_text(
        re.compile("“Requests a minute” must be a whole number")
    )
    expect(admin.page.locator("[aria-invalid]")).to_have_attribute("name", "rateLimit")
    assert admin.violations() == []


def test_the_operator_chooses_whose_key_is_issued_and_sees_whose_pays(
    operator: Visitor, project: HostileProject
) -> None:
    operator.open("/keys/new")
    expect(operator.page.locator("select[name=project]")).to_have_value("")
    operator.open(f"/keys/new?project={project.project_id}")
    expect(operator.page.locator("select[name=project]")).to_have_value(project.project_id)
    operator.open("/connect")
    expect(operator.page.get_by_label("Key that pays")).to_have_value(re.compile("^key_"))
    expect(operator.page.locator("[data-playground]")).to_contain_text("was used last")


def test_a_member_reads_its_settings_in_no_form(member: Visitor, project: HostileProject) -> None:
    assert "An admin key of the project changes them" in member.open(project.address("/keys/{key_id}"))
    assert member.page.locator("main input, main select, main textarea").count() == 0


def test_a_new_user_calls_pays_and_is_refused(chromium: Browser, gateway: Gateway) -> None:
    assert gateway.first_key is not None
    user = Visitor(chromium, gateway.address)
    page = user.page
    page.goto("/")
    page.get_by_label("Key").fill(gateway.first_key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    ask(user, "hello, what does this cost?")
    expect(page.locator("[data-answer] .muted")).to_contain_text("$0.0")
    page.locator("[data-answer] a").click()
    expect(page.locator("main")).to_contain_text("The charge, explained")

    page.get_by_role("link", name="Keys", exact=True).click()
    page.get_by_role("link", name="New key").click()
    user.send("/keys", name="a tenth of a cent", dailyBudget="0.001")
    secret = page.locator("#secret").text_content()
    assert secret is not None
    spender = Visitor(chromium, gateway.address).sign_in(secret)
    ask(spender, "a short question")
    expect(spender.page.locator("[data-answer] .muted")).to_contain_text("$0.0")
    ask(spender, "a very long question " * 100)
    expect(spender.page.locator("[data-answer] .bad")).to_contain_text("the daily budget of $0.001 does not cover")
    expect(spender.page.locator("[data-answer] a")).to_have_text(["The daily budget", "The request"])
    spender.page.locator("[data-answer] a").first.click()
    expect(spender.page.get_by_role("heading", level=1)).to_have_text("a tenth of a cent")
    assert [one for one in spender.complaints if "402" not in one] == []  # the browser notes a refused call
    assert spender.elsewhere() == []

    page.get_by_role("link", name="Budgets", exact=True).click()
    user.reload_until("a tenth of a cent", "the key's day")
    row = (
        page.get_by_role("group", name="Refused, the newest first")
        .get_by_role("row")
        .filter(has_text="a tenth of a cent")
    )
    expect(row).to_contain_text("the key's day")
    row.get_by_role("link").last.click()
    expect(page.locator("main")).to_contain_text("The daily budget of $0.001 did not cover it")
    check(user)


def test_a_provider_is_added_changed_and_removed(
    admin: Visitor, project: HostileProject, upstream: RunningProvider
) -> None:
    page = admin.page
    admin.open("/providers")
    page.get_by_text("Add a provider").click()
    url, of_another = upstream.openai_base_url, f"/{project.project_id}/another"
    admin.send("/providers", name="another", baseUrl=url, apiKey="sk-another-1234", models="gpt-4o")
    expect(page.get_by_role("status").first).to_contain_text("say with “Models with a built-in name”")
    admin.send("/providers", apiKey="sk-another-1234", replacesBuiltin="false")
    expect(page.get_by_role("heading", level=1)).to_have_text("another")
    page.get_by_text("Add a credential").click()
    admin.send(f"{of_another}/credentials", name="second", apiKey="sk-second-5678")
    admin.send("/credentials/second", weight="7")
    expect(page.get_by_label("Weight of second")).to_have_value("7")
    admin.send("/credentials/second/remove")
    expect(page.get_by_text("…5678")).to_have_count(0)
    page.get_by_text("Remove this provider").click()
    admin.send(f"{of_another}/remove")
    expect(page.get_by_role("link", name="mine", exact=True)).to_have_count(1)
    expect(page.get_by_role("link", name="another", exact=True)).to_have_count(0)


def test_a_route_is_made_changed_tried_and_removed(
    admin: Visitor, project: HostileProject, gateway: Gateway, chromium: Browser
) -> None:
    page, main = admin.page, admin.page.locator("main")
    admin.open("/providers")
    page.get_by_role("link", name="Routes").last.click()
    page.get_by_role("link", name="New route").click()
    first, second, third = (page.get_by_role("group", name=f"Target {row}", exact=True) for row in (1, 2, 3))
    page.locator("[name=name]").fill("swift")
    first.get_by_label("Model").fill("echo")
    second.get_by_label("Model").fill(f"no such {HOSTILE} model")
    page.get_by_role("button", name="Make the route").click()
    expect(page.locator("[aria-invalid]")).to_have_attribute("name", "model-2")
    expect(second.locator("small.bad")).to_contain_text("“Model” of target 2: model")
    assert (page.locator(CANARY).count(), admin.violations()) == (0, [])
    second.get_by_label("Model").fill("gpt-4o-mini")
    page.get_by_role("button", name="More targets").click()
    expect(third.get_by_label("Tried")).to_have_value("3")
    expect(second.get_by_label("Model")).to_have_value("gpt-4o-mini")
    page.get_by_role("button", name="Make the route").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("swift")
    expect(main.locator("ol.turns > li")).to_have_text(["echo", "gpt-4o-mini"])

    asked = httpx2.post(
        f"{gateway.address}/api/v1/completions/chat",
        json={"model": "swift", "messages": [{"role": "user", "content": "by a route"}]},
        headers={"authorization": f"Bearer {project.key}"},
    )
    assert asked.status_code == 200, asked.text
    admin.open(f"/requests/{asked.headers['x-request-id']}")
    main.get_by_role("link", name="swift").click()
    second.get_by_label("Tried").select_option("1")
    second.get_by_label("Weight", exact=True).fill("3")
    first.get_by_text("Timeouts and credential").click()
    first.get_by_label("Longest attempt, s").fill("2.5")
    page.get_by_role("button", name="Save").click()
    expect(main.locator("ol.turns > li")).to_have_text(["echo 25 %, at most 2.5 s, gpt-4o-mini 75 %"])
    expect(page.get_by_role("group", name="A dry run: no provider is called").get_by_role("row")).to_have_count(3)
    plain = chromium.new_context(java_script_enabled=False, base_url=gateway.address).new_page()
    plain.context.add_cookies(admin.context.cookies())
    plain.goto(page.url)
    plain.get_by_text("Remove this route").click()
    plain.get_by_role("button", name="Remove swift").click()
    expect(plain.get_by_role("status").first).to_contain_text("Removed")
    expect(plain.get_by_role("link", name="swift")).to_have_count(0)
    plain.context.close()


def test_the_operator_sets_a_price(operator: Visitor) -> None:
    page = operator.page
    operator.open("/providers/prices?model=gpt-3.5-turbo")
    page.get_by_text("Set a price").click()
    prices = page.locator("form[method=post][action='/providers/prices']")
    for name, value in (("model", "gpt-3.5-turbo"), ("inputPer1K", "0.25"), ("outputPer1K", "none")):
        prices.locator(f"[name={name}]").fill(value)
    prices.get_by_role("button").click()
    expect(page.get_by_role("status").first).to_contain_text("“Output” must be US dollars per 1,000 tokens")
    prices.locator("[name=outputPer1K]").fill("0.5")
    prices.get_by_role("button").click()
    expect(page.get_by_role("row").filter(has_text="openai/gpt-3.5-turbo").first).to_contain_text("0.25 / 0.5")
    page.get_by_role("search").get_by_label("Show").select_option("true")
    expect(page.get_by_role("row").filter(has_text="openai/gpt-3.5-turbo").first).to_contain_text("differ")


def test_the_readme_shows_four_pages(chromium: Browser, gateway: Gateway) -> None:
    demo = DemoProject(gateway)
    visitor = Visitor(chromium, gateway.address).sign_in(demo.key)
    visitor.look("light", 1_280)
    folder = IMAGES if WRITES_IMAGES else SCREENSHOTS
    for name, path in PICTURED.items():
        visitor.open(path.format(explained=demo.explained))
        visitor.page.wait_for_load_state("networkidle")
        visitor.page.screenshot(path=folder / f"{name}.png")
        assert 0 < (folder / f"{name}.png").stat().st_size < MAX_IMAGE_BYTES
        assert (IMAGES / f"{name}.png").exists()
        check(visitor)


def ask(visitor: Visitor, words: str) -> None:
    """Call `echo` in the playground."""
    visitor.page.get_by_role("link", name="Connect", exact=True).click()
    visitor.send("/connect", model="echo", prompt=words)
