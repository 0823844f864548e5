"""The gateway of the acceptance tests, which other people's clients are pointed at here."""

from tests.acceptance.conftest import client, gateway, session, upstream

__all__ = ["client", "gateway", "session", "upstream"]
