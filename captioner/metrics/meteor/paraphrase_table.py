"""Reads METEOR's table of paraphrases: gzip text, three lines for each pair of phrases.

    a probability
    a phrase
    a paraphrase of it

The text has 500 MB; it is read in blocks, and only hashes of its phrases are kept.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor.numbering import Numbering
from captioner.metrics.meteor.paraphrases import FILTER_BITS, MULTIPLIER, Hashes, Paraphrases, hash_words
from captioner.metrics.ngrams import Integers
from captioner.metrics.ragged import ranges, starts_of

_SPACE, _NEWLINE = b" \n"
_BLOCK = 1 << 20  # characters
_AT_ONCE = 1 << 18  # phrases


def read_table(source: Path) -> Paraphrases:
    """The arrays of the index. Raises MetricUnavailable for a file that is damaged or something else."""
    words: Numbering[str] = Numbering()
    hashes_of_words = np.zeros(0, np.uint64)
    runs, lengths = array("Q"), array("q")  # of pairs with one phrase: its hash, and how many
    paraphrases = array("Q")
    last = None
    try:
        for block in _blocks(source):
            new_runs = []
            for phrase, of_run in groupby(block[1::3]):
                if phrase != last:
                    new_runs.append(phrase)
                    lengths.append(0)
                    last = phrase
                lengths[-1] += len(list(of_run))
            phrases = new_runs + block[2::3]
            numbers = np.fromiter(map(words.__getitem__, " ".join(phrases).split(" ")), np.int64)
            hashes_of_words = np.append(hashes_of_words, hash_words(words.added()))
            hashes = _hash_phrases(phrases, hashes_of_words[numbers])
            runs.frombytes(hashes[: len(new_runs)].tobytes())
            paraphrases.frombytes(hashes[len(new_runs) :].tobytes())
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


def _blocks(source: Path) -> Iterator[list[str]]:
    """Lists of lines, three for each pair. Shows the progress on a terminal."""
    rest = ""
    with (
        source.open("rb") as compressed,
        gzip.open(compressed, "rt", encoding="utf-8", newline="\n") as text,
        tqdm(
            total=source.stat().st_size,
            desc="index of METEOR's paraphrases (once)",
            unit="B",
            unit_scale=True,
            disable=None,
        ) as progress,
    ):
        while block := text.read(_BLOCK):
            lines = (rest + block).split("\n")
            whole = (len(lines) - 1) // 3 * 3
            if whole:
                yield lines[:whole]
            rest = "\n".join(lines[whole:])
            progress.update(compressed.tell() - progress.n)
    if rest:
        raise ValueError(f"it ends within a pair, {rest[:50]!r}")


def _hash_phrases(phrases: list[str], of_words: Hashes) -> Hashes:
    """The hash of each phrase; of_words: those of all their words, one phrase after the other."""
    characters = np.frombuffer("\n".join(phrases).encode(), np.uint8)
    separators = characters[(characters == _SPACE) | (characters == _NEWLINE)]  # between words, and between phrases
    counts = np.diff(np.flatnonzero(separators == _NEWLINE), prepend=-1, append=len(separators))
    starts = starts_of(counts)[:-1]
    hashes = of_words[starts]
    for index in range(1, int(counts.max())):
        longer = np.flatnonzero(counts > index)
        hashes[longer] = hashes[longer] * MULTIPLIER + of_words[starts[longer] + index]
    return hashes


def _index(runs: Hashes, lengths: Integers, paraphrases: Hashes) -> Paraphrases:
    """The arrays of the index, for runs of `lengths` paraphrases of one phrase each."""
    phrases = np.concatenate([runs, paraphrases])
    phrases.sort()  # np.unique needs more memory
    phrases = phrases[np.append(True, phrases[1:] != phrases[:-1])]
    of_paraphrases = np.empty(len(paraphrases), np.uint32)
    for start in range(0, len(paraphrases), _AT_ONCE):
        some = paraphrases[start : start + _AT_ONCE]
        by_hash = np.argsort(some)  # sorted hashes are found faster
        of_paraphrases[start + by_hash] = np.searchsorted(phrases, some[by_hash])
    sources, firsts = np.searchsorted(phrases, runs), np.cumsum(lengths) - lengths
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
