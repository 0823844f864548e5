"""A route and its form say the same, and what is wrong stands at the row that has it."""

import pytest

from api.dashboard.route_forms import MORE_FIELD, NEW_ROUTE, RouteForm, in_rows, route_of, rows_of, values_of
from domain.errors import InvalidRequest
from domain.routes import MAX_TARGETS, RouteSettings, RouteTarget

SETTINGS = RouteSettings(
    groups=(
        (RouteTarget(model="echo", weight=3, timeout_s=2.5), RouteTarget(model="gpt-4o", weight=0)),
        (RouteTarget(model="mine/one", first_byte_timeout_s=5, idle_timeout_s=60, credential="eu"),),
    ),
    fail_over_on=("timeout", "content_filter"),
    attempts=3,
)


def test_a_form_says_what_the_route_says() -> None:
    assert route_of(values_of(SETTINGS), "fast") == RouteForm(name="fast", settings=SETTINGS, rows=((1, 2), (3,)))


def test_rows_make_groups_by_their_turns_in_any_order_and_empty_ones_are_left_out() -> None:
    rows = {"model-1": "last", "group-1": "7", "model-2": " ", "weight-2": "1", "model-3": "first", "group-3": "2"}
    form = route_of({**NEW_ROUTE, **rows}, "fast")
    assert [[target.model for target in group] for group in form.settings.groups] == [["first"], ["last"]]
    assert form.rows == ((3,), (1,))
    assert form.settings == RouteSettings(groups=form.settings.groups)


def test_timeouts_keep_their_digits() -> None:
    target = RouteTarget(model="echo", timeout_s=1234.5678, first_byte_timeout_s=0.1234567, idle_timeout_s=600.0)
    settings = RouteSettings(groups=((target,),))
    values = values_of(settings)
    assert (values["timeoutS-1"], values["idleTimeoutS-1"]) == ("1234.5678", "600")
    assert route_of(values, "fast").settings == settings


def test_a_target_whose_model_is_emptied_is_removed_with_what_it_had() -> None:
    shown = values_of(SETTINGS)
    form = route_of({**shown, "model-1": ""}, "fast", shown)
    assert [[target.model for target in group] for group in form.settings.groups] == [["gpt-4o"], ["mine/one"]]
    assert form.rows == ((2,), (3,))
    with pytest.raises(InvalidRequest, match="“Model” of target 1 is missing"):
        route_of({**shown, "model-1": "", "weight-1": "4"}, "fast", shown)


def test_no_tick_is_a_route_that_never_goes_on() -> None:
    assert route_of({"model-1": "echo"}, "fast").settings.fail_over_on == ()


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"model-1": "echo", "weight-1": "many"}, "weight-1", "“Weight” of target 1 must be a whole number from 0"),
        ({"model-2": "echo", "weight-2": "1001"}, "weight-2", "“Weight” of target 2 must be a whole number from 0"),
        ({"model-1": "echo", "timeoutS-1": "0"}, "timeoutS-1", "“Longest attempt” of target 1 must be a number of"),
        ({"model-1": "a\nb"}, "model-1", "“Model” of target 1 must be the name of a model"),
        ({"model-1": "", "credential-1": "eu"}, "model-1", "“Model” of target 1 is missing"),
        ({"model-1": "echo", "group-1": "0"}, "group-1", "“Tried” of target 1 must be one of those in the list"),
        (
            {"model-1": "echo", "attempts": "6"},
            "attempts",
            "“Attempts at each target” must be a whole number from 1 to 5",
        ),
        ({}, "groups", "“Targets” must be the names of models, at least one"),
    ],
)
def test_what_is_wrong_is_said_at_its_row(values: dict[str, str], field: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        route_of(values, "fast")
    assert caught.value.field == field
    assert said in caught.value.message


@pytest.mark.parametrize("name", ["", "a/b", " x", "x" * 129])
def test_a_name_that_no_route_may_have_is_told_what_it_may_be(name: str) -> None:
    with pytest.raises(InvalidRequest, match="“Name” must be 1 to 128 letters") as caught:
        route_of({"model-1": "echo"}, name)
    assert caught.value.field == "name"


def test_an_error_of_the_api_names_the_row_of_its_target() -> None:
    form = route_of({"model-2": "one", "group-2": "1", "model-5": "two", "group-5": "1"}, "fast")
    told = in_rows(InvalidRequest("`groups[0][1].model`: model 'two' is unknown", field="groups[0][1].model"), form)
    assert (told.field, told.message) == ("model-5", "“Model” of target 5: model 'two' is unknown")
    other = InvalidRequest("`name` 'fast' is taken", field="name")
    assert in_rows(other, form) is other


def test_a_form_has_an_empty_row_more_and_further_ones_if_they_are_asked_for() -> None:
    assert [(row.number, row.turn) for row in rows_of(NEW_ROUTE)] == [(1, 1), (2, 2)]
    assert [(row.number, row.turn) for row in rows_of(values_of(SETTINGS))] == [(1, 1), (2, 1), (3, 2), (4, 3)]
    assert len(rows_of({**values_of(SETTINGS), "model-4": "", MORE_FIELD: "yes"})) == 8
    full = {f"model-{row}": "echo" for row in range(1, MAX_TARGETS + 1)}
    assert len(rows_of({**full, MORE_FIELD: "yes"})) == MAX_TARGETS
