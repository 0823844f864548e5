"""NKeys are spelled as NATS spells them, and a wrong one is refused."""

import pytest

from infra.nkey import NKey

SEED = "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
PUBLIC_KEY = "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L"
"""A pair from the tests of nats-io/nats.py."""


def test_a_seed_of_nats_gives_its_public_key() -> None:
    key = NKey.from_seed(SEED)
    assert (key.public_key, key.seed) == (PUBLIC_KEY, SEED)


@pytest.mark.parametrize("kind", ["operator", "account", "user"])
def test_a_seed_goes_round(kind: str) -> None:
    key = NKey(bytes(range(32)), kind)  # type: ignore[arg-type]
    again = NKey.from_seed(f"  {key.seed}\n")
    assert again.public_key == key.public_key
    assert again.sign(b"nonce") == key.sign(b"nonce")
    assert key.public_key[0] == kind[0].upper()


@pytest.mark.parametrize("text", ["", "SU", SEED[:-1], SEED[:-2] + "AA", PUBLIC_KEY, "SU" + "A" * 56, "é" * 58])
def test_what_is_no_seed_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of three libraries, each with words of its own
        NKey.from_seed(text)


def test_no_repr_shows_the_private_key() -> None:
    assert SEED not in repr(NKey.from_seed(SEED))
