"""Wrong fields are told in the words of the form."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.dashboard import field_words
from api.dashboard.field_words import FIELDS, in_form_words, in_words
from api.dashboard.key_forms import KEY_FIELDS
from api.dashboard.owners import OwnerPage
from api.dashboard.pages.audit import AuditPage
from api.dashboard.pages.connect import ConnectPage
from api.dashboard.pages.keys import KeysPage, NewKeyPage
from api.dashboard.pages.prices import PricesPage
from api.dashboard.pages.projects import ProjectForm, ProjectsPage
from api.dashboard.pages.requests import RequestsPage
from api.dashboard.pages.routes import NewRoutePage, RoutePage
from api.dashboard.pages.usage import UsagePage
from api.dashboard.playground import Trial
from api.native.credentials import CredentialChangeBody, NewCredentialBody
from api.native.keys import KeyChangeBody, NewKeyBody
from api.native.prices import NewPriceBody
from api.native.projects import NewProjectBody
from api.native.providers import NewProviderBody, ProviderChangeBody
from api.native.routes import NewRouteBody, RouteChangeBody, TargetBody
from api.requests import convert
from domain.errors import InvalidRequest

TEMPLATES = Path(field_words.__file__).parent / "templates"
FORMS = (
    NewKeyBody,
    KeyChangeBody,
    NewProjectBody,
    ProjectForm,
    NewProviderBody,
    ProviderChangeBody,
    NewCredentialBody,
    CredentialChangeBody,
    NewPriceBody,
    NewRouteBody,
    RouteChangeBody,
    TargetBody,
    Trial,
)
FILTERS = (
    RequestsPage,
    UsagePage,
    AuditPage,
    KeysPage,
    NewKeyPage,
    ProjectsPage,
    OwnerPage,
    NewRoutePage,
    RoutePage,
    PricesPage,
    ConnectPage,
)
LABELLED = re.compile(r"""parts\.(?:field|select|checkbox)\("(\w+)", "([^"]+)\"""")


@pytest.mark.parametrize("shape", [*FORMS, *FILTERS])
def test_every_field_of_a_form_has_words(shape: Any) -> None:
    assert {one.encode_name for one in msgspec.structs.fields(shape)} - FIELDS.keys() == set()


def test_an_error_calls_a_field_as_its_form_does() -> None:
    labels = [found for path in TEMPLATES.glob("*.html") for found in LABELLED.findall(path.read_text())]
    assert len(labels) > 40
    unlike = [(name, label) for name, label in labels if name in FIELDS and FIELDS[name].label not in label]
    others = {("openaiKey", "Its own OpenAI key"), ("search", "Name, id or last four"), ("model", "Provider or model")}
    assert set(unlike) - others == set()


@pytest.mark.parametrize(
    ("shape", "values", "said"),
    [
        (KeyChangeBody, {"rateLimit": "abc"}, "“Requests a minute” must be a whole number from 1 to 1,000,000,000"),
        (KeyChangeBody, {"rateLimit": "0"}, "“Requests a minute” must be a whole number from 1"),
        (KeyChangeBody, {"dailyBudget": "5 dollars"}, "“Daily budget” must be an amount from 0"),
        (KeyChangeBody, {"models": ["ok", "a\nb"]}, "“Models” must be one name a line"),
        (NewKeyBody, {}, "“Name” is missing"),
        (NewProviderBody, {"name": "x", "kind": "openai", "baseUrl": "ftp://x", "apiKey": "k"}, "begins with https://"),
        (NewPriceBody, {"model": "m", "inputPer1K": "x", "outputPer1K": "1"}, "“Input” must be US dollars per 1,000"),
        (Trial, {"model": "m", "prompt": "p", "maxTokens": "1.5"}, "“Longest answer” must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_with_the_label_and_what_is_allowed(
    shape: Any, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert(values, shape)
    told = in_form_words(caught.value)
    assert said in told.message
    for technical in ("`", "Expected", "Object", "$", "null", "regex"):
        assert technical not in told.message
    assert told.field == (caught.value.field or "").partition("[")[0]


def test_messages_of_the_api_name_the_labels_on_a_page() -> None:
    assert in_words("`expiresAt` must lie in the future") == "“Works until” must lie in the future"
    assert in_words("`models[3]`: is taken") == "“Models”: is taken"
    assert in_words("set `response_format` to text") == "set `response_format` to text"
    assert "models" in KEY_FIELDS.lists
