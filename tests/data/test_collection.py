"""Garbage collection is paused inside, and on again afterwards, also after an error and in nested contexts."""

from __future__ import annotations

import gc

import pytest

from captioner.data.collection import collection_paused


@collection_paused()
def is_on_inside() -> bool:
    return gc.isenabled()


def test_collection_is_paused_inside_only() -> None:
    assert gc.isenabled()
    assert not is_on_inside()
    with collection_paused():
        assert not is_on_inside()
        assert not gc.isenabled()
    with pytest.raises(ValueError, match="wrong"), collection_paused():
        raise ValueError("wrong")
    assert gc.isenabled()


def test_what_was_off_stays_off() -> None:
    gc.disable()
    try:
        assert not is_on_inside()
        assert not gc.isenabled()
    finally:
        gc.enable()
