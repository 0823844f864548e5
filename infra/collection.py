"""When CPython looks for reference cycles: rarely, and never among what is imported.

A process of the gateway makes many objects that live for a moment, and few cycles. By default it would look after every
700 new objects, and now and then through everything.
"""

import gc

THRESHOLDS = (50_000, 20, 100)


def collect_rarely() -> None:
    """Set it for this process, whose modules are imported by now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
