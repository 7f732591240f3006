"""Python's garbage collection, paused while millions of objects are made that form no circle.

The collector looks at all objects again whenever their number has grown by a quarter. Reading COCO's captions took it
a third of the time, and it found nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """A context without garbage collection; also a decorator. It may be entered inside itself."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
