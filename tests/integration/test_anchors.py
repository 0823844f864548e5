"""Signed heads are copied to a webhook and an object store. One that is away is given the newest head later."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from domain.events import ProjectCreated
from domain.log_head import SignedHead, decode_head
from infra.audit_keys import AuditKey, TrustedKeys
from infra.event_log import Commit
from infra.head_anchors import AnchorStore, AnchorWebhook
from infra.object_store import ObjectStore
from infra.signed_heads import newest_head
from projections.head_signer import HeadSigner
from tests.support.ledger import RealLedger

KEY = AuditKey(b"k" * 32)
SECRET = "store-secret-canary"


class Outside:
    """A server outside the gateway that keeps what it is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[tuple[str, bytes]] = []
        self.authorization: list[str | None] = []
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        self.authorization.append(request.headers.get("authorization"))
        if self.status == 200:
            self.bodies.append((request.path, await request.read()))
        return web.Response(status=self.status, headers={"location": f"http://127.0.0.1:{self.port}/elsewhere"})


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    server = Outside()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


def signer(ledger: RealLedger, *anchors: Any) -> HeadSigner:
    return HeadSigner(
        ledger.pool,
        key=KEY,
        trusted=TrustedKeys([KEY.public]),
        interval_s=60,
        now=lambda: datetime.now(UTC),
        others=anchors,
    )


async def append(ledger: RealLedger, name: str) -> None:
    created = ProjectCreated(name=name)
    await ledger.log.append(
        Commit(stream=name, expected_version=0, project_id="prj_1", at=datetime.now(UTC), events=(created,))
    )


async def newest(ledger: RealLedger) -> SignedHead:
    head = await newest_head(ledger.pool)
    assert head is not None
    return head


async def test_each_head_is_sent_once_to_webhook_and_store(ledger: RealLedger, outside: Outside) -> None:
    address = f"127.0.0.1:{outside.port}"
    store = ObjectStore.of(f"http://id:{SECRET}@{address}/bucket/heads?region=eu-central-1")
    signs = signer(ledger, AnchorWebhook(f"http://{address}/webhook"), AnchorStore(store))
    for name in ("a", "b"):
        await append(ledger, name)
        await signs.sign()
        await signs.sign()
    assert [path for path, _ in outside.bodies] == [
        "/webhook",
        "/bucket/heads/000000000001.json",
        "/webhook",
        "/bucket/heads/000000000002.json",
    ]
    assert {decode_head(body.strip()) for _, body in outside.bodies[2:]} == {await newest(ledger)}
    assert outside.authorization[0] is None
    assert "Credential=id/" in (outside.authorization[1] or "")
    assert SECRET not in (outside.authorization[1] or "")


@pytest.mark.parametrize("status", [301, 403, 500])
async def test_what_was_not_taken_is_sent_again_and_newer(ledger: RealLedger, outside: Outside, status: int) -> None:
    signs = signer(ledger, AnchorWebhook(f"http://127.0.0.1:{outside.port}/webhook"))
    outside.status = status
    await append(ledger, "a")
    await signs.sign()
    await append(ledger, "b")
    outside.status = 200
    await signs.sign()
    assert [path for path, _ in outside.bodies] == ["/webhook"]  # no redirect is followed
    assert decode_head(outside.bodies[0][1]).position == 2


async def test_an_anchor_that_is_away_does_not_stop_the_signing(ledger: RealLedger) -> None:
    signs = signer(
        ledger,
        AnchorWebhook("http://127.0.0.1:1/webhook"),
        AnchorStore(ObjectStore.of("http://id:secret@127.0.0.1:1/bucket")),
    )
    for name in ("a", "b"):
        await append(ledger, name)
        await signs.sign()
    assert (await newest(ledger)).sequence == 2


async def test_an_object_that_is_there_already_is_as_good(ledger: RealLedger, outside: Outside) -> None:
    outside.status = 412
    store = AnchorStore(ObjectStore.of(f"http://id:{SECRET}@127.0.0.1:{outside.port}/bucket"))
    signs = signer(ledger, store)
    await append(ledger, "a")
    await signs.sign()
    await signs.sign()
    assert len(outside.authorization) == 1
