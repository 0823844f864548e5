"""An object store takes what is signed as its protocol says."""

from datetime import UTC, datetime

from infra.object_store import ObjectStore

AT = datetime(2013, 5, 24, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
STORE = ObjectStore.of(
    "https://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI%2FK7MDENG%2FbPxRfiCYEXAMPLEKEY@examplebucket.s3.amazonaws.com/"
)


def test_an_address_has_the_place_and_the_key() -> None:
    read = ObjectStore.of("http://id:se%2Fcret@127.0.0.1:9000/bucket/a%20folder/?region=eu-central-1")
    assert (read.scheme, read.host, read.path) == ("http", "127.0.0.1:9000", "/bucket/a folder")
    assert (read.region, read.key_id, read.secret) == ("eu-central-1", "id", "se/cret")
    assert (STORE.path, STORE.region, STORE.secret) == ("", "us-east-1", SECRET)


def test_the_signature_is_that_of_the_protocols_own_example() -> None:
    headers = {
        "date": "Fri, 24 May 2013 00:00:00 GMT",
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    }
    assert STORE.authorization("PUT", "/test%24file.text", headers, AT) == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_the_key_is_in_no_repr() -> None:
    assert SECRET not in repr(STORE)
    assert "AKIA" not in repr(STORE)
