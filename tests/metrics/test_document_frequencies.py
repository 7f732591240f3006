"""Document frequencies: counts, exact files, and safe loading."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import DataError
from captioner.metrics import DocumentFrequencies
from captioner.metrics.document_frequencies import LARGEST_ID, pack_ngrams

ids = st.lists(st.sampled_from([0, 1, 2, 255, 256, LARGEST_ID]), max_size=9)
corpora = st.lists(st.lists(ids, min_size=1, max_size=4), min_size=1, max_size=5)


def unpack(key: int) -> tuple[int, ...]:
    tokens = []
    while key:
        tokens.append(key % (1 << 16) - 1)
        key >>= 16
    return tuple(reversed(tokens))


@settings(max_examples=80, deadline=None)
@given(corpora)
def test_counts_equal_those_of_a_counter(corpus: list[list[list[int]]]) -> None:
    frequencies = DocumentFrequencies.from_references(corpus)
    expected = Counter(
        gram
        for captions in corpus
        for gram in {tuple(c[i : i + n]) for c in captions for n in range(1, 5) for i in range(len(c) - n + 1)}
    )
    found = {unpack(int(key)): int(count) for key, count in zip(frequencies.keys, frequencies.counts, strict=True)}
    assert found == expected
    assert np.all(frequencies.keys[1:] > frequencies.keys[:-1])
    assert frequencies.images == len(corpus)


def test_round_trip(tmp_path: Path) -> None:
    frequencies = DocumentFrequencies.from_references([[[1, 2, 3], [1, 2]], [[2, 2, 2, 2]]])
    frequencies.save(tmp_path / "frequencies.npz")
    loaded = DocumentFrequencies.load(tmp_path / "frequencies.npz")
    np.testing.assert_array_equal(loaded.keys, frequencies.keys)
    np.testing.assert_array_equal(loaded.counts, frequencies.counts)
    assert (loaded.images, loaded.checksum) == (frequencies.images, frequencies.checksum)
    assert [path.name for path in tmp_path.iterdir()] == ["frequencies.npz"]


def test_the_checksum_depends_on_the_contents() -> None:
    frequencies = DocumentFrequencies.from_references([[[1, 2, 3]], [[2]]])
    again = DocumentFrequencies.from_references([[[2]], [[1, 2, 3]]])
    other = DocumentFrequencies.from_references([[[1, 2, 3]], [[2]], [[2]]])
    assert frequencies.checksum == again.checksum != other.checksum


def test_altered_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "frequencies.npz"
    frequencies = DocumentFrequencies.from_references([[[1, 2, 3]], [[2]]])
    changed = DocumentFrequencies(frequencies.keys, frequencies.counts + 1, frequencies.images)
    np.savez(path, format_version=1, images=2, keys=changed.keys, counts=changed.counts, checksum=frequencies.checksum)
    with pytest.raises(DataError, match=r"frequencies\.npz is damaged"):
        DocumentFrequencies.load(path)
    np.savez(path, format_version=99, images=2, keys=changed.keys, counts=changed.counts, checksum="")
    with pytest.raises(DataError, match="format 99"):
        DocumentFrequencies.load(path)


@pytest.mark.parametrize("content", [b"", b"not an archive", pickle.dumps({"a": 1})])
def test_other_files_are_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "frequencies.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"frequencies\.npz cannot be read"):
        DocumentFrequencies.load(tmp_path / "frequencies.npz")


def test_a_pickled_object_in_the_archive_is_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", format_version=1, images=1, checksum="", counts=[1], keys=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        DocumentFrequencies.load(tmp_path / "f.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz"):
        DocumentFrequencies.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("token", [-1, LARGEST_ID + 1])
def test_ids_out_of_range_are_errors(token: int) -> None:
    with pytest.raises(DataError, match=f"from 0 to {LARGEST_ID}"):
        pack_ngrams([[0, token]])


def test_an_empty_corpus() -> None:
    with pytest.raises(DataError, match="at least one image"):
        DocumentFrequencies.from_references([])
