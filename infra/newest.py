"""A dictionary of the newest entries. It is read by what a dictionary does itself, where a cache of `cachetools` makes
three calls of Python.
"""

from collections import OrderedDict
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Newest(OrderedDict[Key, Value]):
    """At most so many entries: the one that was set the longest time ago is dropped for a new one.

    Not safe for threads.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.most:
            self.popitem(last=False)
