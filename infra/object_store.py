"""Puts small objects into a store that speaks S3's protocol (AWS Signature Version 4). Puts only, and never twice.

Ours, because the libraries that do this bring along a whole cloud's interface. The form is that of
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, whose example is in the tests.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, unquote, urlsplit

import aiohttp
from msgspec import Struct
from yarl import URL

TIMEOUT_S = 10.0
DEFAULT_REGION = "us-east-1"
_ALGORITHM = "AWS4-HMAC-SHA256"
_PRESENT_ALREADY = 412


class ObjectStoreError(Exception):
    """An object was not stored. The message says why, without a secret."""


class ObjectStore(Struct, frozen=True, kw_only=True):
    """A place in a store, and the key to write there."""

    scheme: str
    host: str
    """With the port, if it is not the scheme's own."""
    path: str
    """Of the bucket and the folder, without a slash at its end."""
    region: str
    key_id: str
    secret: str

    @classmethod
    def of(cls, url: str) -> "ObjectStore":
        """Read an address: `https://KEY_ID:SECRET@host/bucket/folder?region=eu-central-1`."""
        parts = urlsplit(url)
        return cls(
            scheme=parts.scheme,
            host=parts.netloc.rpartition("@")[2],
            path=unquote(parts.path).rstrip("/"),
            region=parse_qs(parts.query).get("region", [DEFAULT_REGION])[0],
            key_id=unquote(parts.username or ""),
            secret=unquote(parts.password or ""),
        )

    def __repr__(self) -> str:
        """Hides the key."""
        return f"ObjectStore({self.host}{self.path})"

    async def put(self, name: str, body: bytes, at: datetime) -> None:
        """Store an object, unless there is one of this name.

        Raises:
            ObjectStoreError: it is not stored.

        """
        path = quote(f"{self.path}/{name}", safe="/-_.~")
        headers = {
            "host": self.host,
            "if-none-match": "*",
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": _timestamp(at),
        }
        headers["authorization"] = self.authorization("PUT", path, headers, at)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.put(
                    URL(f"{self.scheme}://{self.host}{path}", encoded=True),
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                ) as answer,
            ):
                if answer.status not in range(200, 300) and answer.status != _PRESENT_ALREADY:
                    raise ObjectStoreError(f"the object store answered {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ObjectStoreError(f"the object store cannot be reached: {type(error).__name__}") from error

    def authorization(self, method: str, path: str, headers: Mapping[str, str], at: datetime) -> str:
        """Return the header that authorises a request without a query. Signs every one of these headers.

        `path` is percent-encoded, the headers' names are in lower case, `x-amz-content-sha256` is among them.
        """
        signed = ";".join(sorted(headers))
        lines = [f"{name}:{' '.join(value.split())}" for name, value in sorted(headers.items())]
        canonical = "\n".join((method, path, "", *lines, "", signed, headers["x-amz-content-sha256"]))
        scope = f"{at.astimezone(UTC):%Y%m%d}/{self.region}/s3/aws4_request"
        to_sign = "\n".join((_ALGORITHM, _timestamp(at), scope, hashlib.sha256(canonical.encode()).hexdigest()))
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        return f"{_ALGORITHM} Credential={self.key_id}/{scope},SignedHeaders={signed},Signature={signature}"


def _timestamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
