"""The list of requests as a file: read in pieces, and whole."""

from typing import Any, cast

from api.dashboard.pages.requests import SAVED_AT_ONCE, pages_of
from projections.reports.requests import Search, search
from projections.scope import Scope
from tests.support.ledger import RealLedger

SEARCH = Search(scope=Scope(project_id="prj_1"), limit=SAVED_AT_ONCE)
REQUESTS = """
    INSERT INTO requests (request_id, project_id, key_id, at, operation, model, provider, status, attempts,
        prompt_tokens, completion_tokens, cached_prompt_tokens, assumed_nano_usd, saved_nano_usd)
    SELECT 'req_' || lpad(n::text, 26, '0'), 'prj_1', 'key_1', now(), 'chat', 'echo', 'echo', 'completed', 1,
        0, 0, 0, 0, 0
    FROM generate_series(1, $1) n
"""


class Reader:
    """What of the services reading needs."""

    def __init__(self, ledger: RealLedger) -> None:
        self.pool = ledger.pool


async def test_a_saved_list_has_every_request_once_newest_first(ledger: RealLedger) -> None:
    await ledger.owner.execute(REQUESTS, 2 * SAVED_AT_ONCE + 1)
    first = await search(ledger.pool, SEARCH)
    assert len(first.requests) == SAVED_AT_ONCE
    ids = [row.request_id async for rows in pages_of(cast("Any", Reader(ledger)), SEARCH, first) for row in rows]
    assert ids == [f"req_{number:026}" for number in range(2 * SAVED_AT_ONCE + 1, 0, -1)]
