"""Names of splits, and splits made by a hash."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data.datasets.splits import split_by_hash, split_name

_IDS = st.lists(st.integers() | st.text(max_size=6), unique_by=str, max_size=60)
_FRACTIONS = st.floats(0.0, 0.4)


@pytest.mark.parametrize("name", ["val", "dev", "validation", "valid", " Val "])
def test_names_of_val(name: str) -> None:
    assert split_name(name) == "val"


def test_names_of_no_split() -> None:
    assert [split_name(name) for name in ("train", "test", "restval", "", "tests")] == [
        "train",
        "test",
        None,
        None,
        None,
    ]


@given(ids=_IDS, fraction=_FRACTIONS)
@settings(deadline=None)
def test_every_id_has_one_split_and_no_split_is_empty(ids: list[int | str], fraction: float) -> None:
    splits = split_by_hash(ids, fraction)
    assert list(splits) == ids
    if fraction == 0:
        assert set(splits.values()) <= {"train"}
    elif len(ids) >= 3:
        assert set(splits.values()) == {"train", "val", "test"}


@given(ids=_IDS, fraction=_FRACTIONS, data=st.data())
@settings(deadline=None)
def test_order_does_not_matter(ids: list[int | str], fraction: float, data: st.DataObject) -> None:
    assert split_by_hash(data.draw(st.permutations(ids)), fraction) == split_by_hash(ids, fraction)


def test_sizes_and_oracle() -> None:
    ids = [f"image{number}" for number in range(5_000)]
    splits = split_by_hash(ids, 0.25)
    # by the first two bits of the SHA-256: 00 is val, 01 is test
    first_bits = [hashlib.sha256(name.encode()).digest()[0] >> 6 for name in ids]
    assert [splits[name] for name in ids] == [["val", "test", "train", "train"][bits] for bits in first_bits]
