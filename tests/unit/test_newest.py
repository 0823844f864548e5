"""`Newest` keeps a bounded number of entries."""

from infra.newest import Newest


def test_drops_what_was_set_the_longest_time_ago() -> None:
    newest: Newest[str, int] = Newest(2)
    newest["a"], newest["b"], newest["c"] = 1, 2, 3
    assert dict(newest) == {"b": 2, "c": 3}


def test_what_is_set_again_is_new() -> None:
    newest: Newest[str, int] = Newest(2)
    newest["a"], newest["b"] = 1, 2
    newest["a"] = 3
    newest["c"] = 4
    assert dict(newest) == {"a": 3, "c": 4}


def test_what_is_only_read_grows_no_newer() -> None:
    newest: Newest[str, int] = Newest(2)
    newest["a"], newest["b"] = 1, 2
    assert newest.get("a") == 1
    newest["c"] = 3
    assert "a" not in newest
