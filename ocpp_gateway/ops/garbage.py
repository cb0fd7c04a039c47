"""CPython's cycle collector, set up for a process that keeps most of what it has for months."""

from __future__ import annotations

import gc

_THRESHOLDS = (20_000, 20, 20)
"""Objects made before a young collection, and how many of those before an older one. CPython's own 700, 10, 10 look at
every connected charge point's objects once or twice a second under load."""


def settle_garbage() -> None:
    """To be called once, when everything that lives as long as the process is there: it is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
