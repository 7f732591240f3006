"""Reads METEOR's table of paraphrases: gzip text, three lines for each pair of phrases.

    a probability
    a phrase
    a paraphrase of it

The text has 272 MB; it is read in blocks, and only hashes of its phrases are kept.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor.paraphrase_text import LINES, PairHasher
from captioner.metrics.meteor.paraphrases import FILTER_BITS, Hashes, Paraphrases
from captioner.metrics.ngrams import Integers
from captioner.metrics.ragged import ranges, starts_of

_BLOCK = 1 << 17  # bytes: the arrays of a block stay in the processor's cache
_AT_ONCE = 1 << 18  # phrases
_BUCKET_BITS = 22  # of a hash


def read_table(source: Path) -> Paraphrases:
    """The arrays of the index. Raises MetricUnavailable for a file that is damaged or something else."""
    hasher = PairHasher()
    runs, lengths = array("Q"), array("q")  # of pairs with one phrase: its hash, and how many
    paraphrases = array("Q")
    try:
        for text in _blocks(source):
            block = hasher.hash_pairs(text)
            firsts = np.flatnonzero(block.begins_run)
            pairs = np.diff(firsts, prepend=0, append=len(block.begins_run))
            if runs:
                lengths[-1] += int(pairs[0])  # the last run goes on
            lengths.frombytes(pairs[1:].tobytes())
            runs.frombytes(block.runs.tobytes())
            paraphrases.frombytes(block.paraphrases.tobytes())
        if not runs:
            raise ValueError("it is empty")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise MetricUnavailable(
            f"METEOR's paraphrases in {source} cannot be read ({error}). "
            "Install the package again: pip install --force-reinstall --no-deps pycocoevalcap."
        ) from error
    return _index(
        np.frombuffer(runs, np.uint64), np.frombuffer(lengths, np.int64), np.frombuffer(paraphrases, np.uint64)
    )


def _blocks(source: Path) -> Iterator[bytes]:
    """Text of whole pairs. Shows the progress on a terminal."""
    rest = b""
    with (
        source.open("rb") as compressed,
        gzip.open(compressed) as text,
        tqdm(
            total=source.stat().st_size,
            desc="index of METEOR's paraphrases (once)",
            unit="B",
            unit_scale=True,
            disable=None,
        ) as progress,
    ):
        while block := text.read(_BLOCK):
            block = rest + block
            end = len(block)
            for _ in range(block.count(b"\n") % LINES + 1):  # lines of a pair that goes on, and what follows them
                end = block.rfind(b"\n", 0, end)
            whole, rest = block[: end + 1], block[end + 1 :]
            if whole:
                yield whole
            progress.update(compressed.tell() - progress.n)
    if rest:
        raise ValueError(f"it ends within a pair, {rest[:50]!r}")


def _index(runs: Hashes, lengths: Integers, paraphrases: Hashes) -> Paraphrases:
    """The arrays of the index, for runs of `lengths` paraphrases of one phrase each."""
    phrases = np.concatenate([runs, paraphrases])
    phrases.sort()  # np.unique needs more memory
    phrases = phrases[np.append(True, phrases[1:] != phrases[:-1])]
    of_paraphrases = _places(phrases, paraphrases).astype(np.uint32)
    sources, firsts = _places(phrases, runs), np.cumsum(lengths) - lengths
    order = np.argsort(sources, kind="stable")  # keeps the order of the table within a phrase
    ordered = [
        of_paraphrases[ranges(firsts[some], lengths[some])]
        for some in (order[start : start + _AT_ONCE] for start in range(0, len(order), _AT_ONCE))
    ]
    bits = phrases >> np.uint64(64 - FILTER_BITS)
    table = np.zeros(1 << FILTER_BITS - 3, np.uint8)
    np.bitwise_or.at(table, bits >> np.uint64(3), np.uint8(1) << (bits & np.uint64(7)).astype(np.uint8))
    starts = starts_of(np.bincount(sources, lengths, len(phrases)).astype(np.int64)).astype(np.uint32)
    return Paraphrases(phrases, table, starts, np.concatenate(ordered))


def _places(phrases: Hashes, hashes: Hashes) -> Integers:
    """The place of each hash in the sorted `phrases`, which have it. Hashes are evenly distributed.

    The upper bits of a hash tell where those that begin with them start, and it is one of the next few: this reads less
    memory than a binary search.
    """
    shift = np.uint64(64 - _BUCKET_BITS)
    starts = starts_of(np.bincount((phrases >> shift).astype(np.int64), minlength=1 << _BUCKET_BITS))
    places: Integers = starts[hashes >> shift]
    later = np.flatnonzero(phrases[places] != hashes)
    while len(later):
        places[later] += 1
        later = later[phrases[places[later]] != hashes[later]]
    return places
