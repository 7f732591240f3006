"""METEOR's table of paraphrases as an index on disk that is mapped into memory.

The table (5.3 million pairs of phrases of up to 7 words, Denkowski and Lavie 2010) comes with pycocoevalcap as
compressed text, which takes seconds to read. The index is made once (`paraphrase_table`) and kept in the cache:

    phrases.npy     (N,) uint64, sorted: the hash of each phrase
    filter.npy      (2^23,) uint8: one bit for each value of the upper 26 bits of a hash; 1 if a phrase has it
    starts.npy      (N + 1,) uint32: where the paraphrases of each phrase begin in `paraphrases.npy`
    paraphrases.npy (M,) uint32: places in `phrases.npy`, in the order of the table

The hash of a phrase is made of those of its words, h(w_1 … w_n) = m h(w_1 … w_n−1) + h(w_n) modulo 2^64, so that all
phrases of many captions are hashed with few operations. The 2.6 million phrases of the table have different hashes;
that a phrase which is not among them has the hash of one has a chance of one in 10^13.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captioner.files import atomic_folder, cache_directory, write_json
from captioner.helper_process import helpers
from captioner.metrics.java import MetricUnavailable, find_in_pycocoevalcap
from captioner.metrics.meteor.resources import PARAPHRASES
from captioner.metrics.ngrams import Integers

Hashes = NDArray[np.uint64]

LONGEST = 7  # words of a phrase
FORMAT_VERSION = 3
FILTER_BITS = 26
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_ARRAYS = ("phrases", "filter", "starts", "paraphrases")
_DESCRIPTION = "index.json"
_CHECKSUM_BYTES = 8
_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True, eq=False)
class Paraphrases:
    """The opened index; the arrays are those of the module's docstring."""

    phrases: Hashes
    filter: NDArray[np.uint8]
    starts: NDArray[np.uint32]
    paraphrases: NDArray[np.uint32]

    def may_contain(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether a phrase of the table may have the hash: True for all that have, and for 4 % of the others."""
        bits = hashes >> np.uint64(64 - FILTER_BITS)
        found: NDArray[np.bool_] = (self.filter[bits >> np.uint64(3)] >> (bits & np.uint64(7)).astype(np.uint8)) & 1 > 0
        return found

    def find(self, hashes: Hashes) -> Integers:
        """The place of each phrase, -1 for one that is not in the table. Quick if `hashes` are sorted."""
        places = np.searchsorted(self.phrases, hashes).astype(np.int64)
        known = self.phrases[np.minimum(places, len(self.phrases) - 1)] == hashes
        return np.where(known, places, -1)


def hash_words(words: Iterable[str]) -> Hashes:
    """The hash of each word."""
    digests = (blake2b(word.encode("utf-8", "replace"), digest_size=8).digest() for word in words)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def open_paraphrases(cache: Path) -> Paraphrases:
    """The index in the folder `cache`, made first where it is missing, damaged or of another table.

    Raises MetricUnavailable where the table is missing or cannot be read, or the cache cannot be written.
    """
    source = find_in_pycocoevalcap("METEOR", PARAPHRASES)
    folder = _folder(cache)
    opened = _open(folder, source)
    if opened is None:
        try:
            _make(folder, source)
        except OSError as error:
            raise MetricUnavailable(
                f"METEOR's paraphrase index (60 MB) cannot be written to {folder} ({error}). "
                "Make room there, or set CAPTIONER_CACHE to a folder that can be written."
            ) from error
        opened = _open(folder, source)
    if opened is None:
        raise MetricUnavailable(f"METEOR's paraphrase index in {folder} cannot be read back. Delete the folder.")
    return opened


@contextmanager
def index_made_beside() -> Iterator[None]:
    """A context in which another process makes the index, where there is none yet, for who needs it later.

    Where that fails, or is not done at the end of the context, `open_paraphrases` makes it.
    """
    made = _folder(cache_directory()).exists()
    with helpers([] if made else [["-c", _MAKE]]):
        yield


_MAKE = f"""
from captioner.files import cache_directory
from {__name__} import open_paraphrases
open_paraphrases(cache_directory())
"""


def _folder(cache: Path) -> Path:
    return cache / f"paraphrase-en-v{FORMAT_VERSION}"


def _open(folder: Path, source: Path) -> Paraphrases | None:
    try:
        description = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
        if description["source"] != _identity(source):
            return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
        checksums = description["checksums"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Paraphrases(**arrays) if checksums == _checksums(folder) else None


def _checksums(folder: Path) -> dict[str, int]:
    """Of each array's file, read in parts rather than through the map, which would stay in the process's memory."""
    found = {}
    for name in _ARRAYS:
        found[name] = 0
        with (folder / f"{name}.npy").open("rb") as file:
            while part := file.read(_AT_ONCE):
                found[name] = zlib.crc32(part, found[name])
    return found


def _make(folder: Path, source: Path) -> None:
    """Write the index into a temporary folder, then put it in place; another process may do the same meanwhile."""
    from captioner.metrics.meteor.paraphrase_table import read_table

    with atomic_folder(folder) as temporary:
        table = read_table(source)
        arrays: dict[str, NDArray[np.generic]] = {name: getattr(table, name) for name in _ARRAYS}
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        write_json(temporary / _DESCRIPTION, {"source": _identity(source), "checksums": _checksums(temporary)})
        if folder.exists():
            shutil.rmtree(folder)


def _identity(source: Path) -> list[int | str]:
    """What tells one table from another: the file's size and the checksum at its end, which gzip writes."""
    with source.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _CHECKSUM_BYTES))
        return [size, file.read().hex()]
