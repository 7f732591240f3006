"""METEOR's table of paraphrases as an index on disk that opens in milliseconds and is mapped into memory.

The table (5.3 million pairs of phrases of up to 7 words, Denkowski and Lavie 2010) comes with pycocoevalcap as
compressed text, which takes seconds to read. The index is made once and kept in the cache:

    phrases.npy     (N,) uint64, sorted: a hash of each phrase
    starts.npy      (N + 1,) uint32: where the paraphrases of each phrase begin in `paraphrases.npy`
    paraphrases.npy (M,) uint32: places in `phrases.npy`, in the order of the table

Between 430,000 phrases the chance that two share a 64-bit hash is one in 200 million; making the index checks it.
"""

from __future__ import annotations

import gzip
import json
import shutil
import uuid
from array import array
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from captioner.files import write_json
from captioner.metrics.java import MetricUnavailable, find_in_pycocoevalcap
from captioner.metrics.meteor.resources import PARAPHRASES

LONGEST = 7  # words of a phrase
FORMAT_VERSION = 1
_ARRAYS = ("phrases", "starts", "paraphrases")
_DESCRIPTION = "index.json"
_PAIRS_PER_UPDATE = 100_000  # of the progress bar


@dataclass(frozen=True, eq=False)
class Paraphrases:
    """The opened index; the arrays are those of the module's docstring."""

    phrases: NDArray[np.uint64]
    starts: NDArray[np.uint32]
    paraphrases: NDArray[np.uint32]

    def find(self, phrases: list[str]) -> NDArray[np.int64]:
        """(len(phrases),) the place of each phrase, -1 for one that is not in the table."""
        hashes = np.array([_hash(phrase) for phrase in phrases], np.uint64)
        places = np.searchsorted(self.phrases, hashes).astype(np.int64)
        known = self.phrases[np.minimum(places, len(self.phrases) - 1)] == hashes
        return np.where(known, places, -1)

    def of(self, place: int) -> list[int]:
        """The places of a phrase's paraphrases, in the order of the table."""
        found: list[int] = self.paraphrases[self.starts[place] : self.starts[place + 1]].tolist()
        return found


def open_paraphrases(cache: Path) -> Paraphrases:
    """The index in the folder `cache`, made first where it is missing, damaged or of another table.

    Raises MetricUnavailable where the table is missing or cannot be read.
    """
    source = find_in_pycocoevalcap("METEOR", PARAPHRASES)
    folder = cache / f"paraphrase-en-v{FORMAT_VERSION}"
    opened = _open(folder, source)
    if opened is None:
        _make(folder, source)
        opened = _open(folder, source)
    if opened is None:
        raise MetricUnavailable(f"METEOR's paraphrase index in {folder} cannot be read back. Delete the folder.")
    return opened


def _open(folder: Path, source: Path) -> Paraphrases | None:
    try:
        description = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
        if description["source"] != _identity(source):
            return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if any(len(arrays[name]) != description["lengths"][name] for name in _ARRAYS):
        return None
    return Paraphrases(**arrays)


def _make(folder: Path, source: Path) -> None:
    """Write the index into a temporary folder, then put it in place; another process may do the same meanwhile."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        table = _read_table(source)
        arrays: dict[str, NDArray[np.generic]] = {
            "phrases": table.phrases,
            "starts": table.starts,
            "paraphrases": table.paraphrases,
        }
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        lengths = {name: len(array) for name, array in arrays.items()}
        write_json(temporary / _DESCRIPTION, {"source": _identity(source), "lengths": lengths})
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_table(source: Path) -> Paraphrases:
    """The arrays of the index. The table has three lines per pair: a probability, a phrase, a paraphrase of it."""
    numbers: dict[str, int] = {}
    first, second = array("I"), array("I")
    phrase, number = "", -1
    try:
        with (
            gzip.open(source, "rt", encoding="utf-8") as lines,
            tqdm(desc="METEOR's paraphrases, once", unit=" pairs", unit_scale=True, disable=None) as progress,
        ):
            while entry := [line.strip() for line in islice(lines, 3)]:
                _, next_phrase, paraphrase = entry
                if next_phrase != phrase:  # the table is sorted by it
                    phrase, number = next_phrase, numbers.setdefault(next_phrase, len(numbers))
                first.append(number)
                second.append(numbers.setdefault(paraphrase, len(numbers)))
                if len(first) % _PAIRS_PER_UPDATE == 0:
                    progress.update(_PAIRS_PER_UPDATE)
    except (OSError, EOFError, ValueError) as error:
        raise MetricUnavailable(
            f"METEOR's paraphrases in {source} cannot be read ({error}). "
            "Install the package again: pip install --force-reinstall --no-deps pycocoevalcap."
        ) from error
    hashes = np.array([_hash(phrase) for phrase in numbers], np.uint64)
    by_hash = np.argsort(hashes, kind="stable")
    place_of = np.empty(len(hashes), np.uint32)
    place_of[by_hash] = np.arange(len(hashes), dtype=np.uint32)
    hashes = hashes[by_hash]
    if (hashes[1:] == hashes[:-1]).any():
        raise MetricUnavailable(f"Two phrases of {source} have one hash, which its index cannot tell apart.")
    sources = place_of[np.frombuffer(first, np.uint32)]
    order = np.argsort(sources, kind="stable")  # keeps the order of the table within a phrase
    starts = np.searchsorted(sources[order], np.arange(len(hashes) + 1)).astype(np.uint32)
    return Paraphrases(hashes, starts, place_of[np.frombuffer(second, np.uint32)[order]])


def _hash(phrase: str) -> int:
    return int.from_bytes(blake2b(phrase.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _identity(source: Path) -> list[int]:
    """What tells one table from another: the file's size and time of change."""
    status = source.stat()
    return [status.st_size, status.st_mtime_ns]
