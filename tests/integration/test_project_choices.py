"""The projects that the operator's pages offer: few, and whichever is chosen."""

from typing import Any, cast

import pytest

from api.dashboard.project_choices import PROJECTS_TO_CHOOSE, projects_to_choose
from infra.vault import Vault
from tests.support.ledger import RealLedger


@pytest.fixture
def vault() -> Vault:
    return Vault(bytes(32))


class Reader:
    """What of the services the choices need."""

    def __init__(self, ledger: RealLedger) -> None:
        self.pool = ledger.pool


async def test_the_newest_are_offered_and_an_older_one_that_is_chosen(ledger: RealLedger) -> None:
    await ledger.owner.execute(
        "INSERT INTO projects (project_id, name, created_at) "
        "SELECT 'prj_' || lpad(n::text, 6, '0'), n::text, now() FROM generate_series(1, $1) n",
        PROJECTS_TO_CHOOSE + 10,
    )
    services = cast("Any", Reader(ledger))
    newest = [one.name for one in await projects_to_choose(services)]
    assert newest == [str(number) for number in range(PROJECTS_TO_CHOOSE + 10, 10, -1)]
    assert [one.name for one in await projects_to_choose(services, "prj_000003")] == ["3", *newest]
    assert [one.name for one in await projects_to_choose(services, "nobody's")] == newest
