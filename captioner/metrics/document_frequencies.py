"""Document frequencies: the number of images whose references contain an n-gram, counted once and stored in a file.

An n-gram of up to four token ids is packed into one unsigned 64-bit integer, 16 bits per token, so that
equal n-grams are equal integers in every process and every file.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captioner.errors import DataError
from captioner.files import write_atomically
from captioner.metrics.ngrams import LONGEST, Integers

Ids = Sequence[int]
Keys = NDArray[np.uint64]

BITS = 16
LARGEST_ID = (1 << BITS) - 3
"""Ids are packed as id + 1, so that shorter n-grams differ from longer ones; all bits set is never an n-gram."""

FORMAT_VERSION = 1


@dataclass(frozen=True)
class DocumentFrequencies:
    """For each n-gram of a corpus, the number of its `images` with a reference that contains it.

    keys: (G,) the packed n-grams, ascending; counts: (G,).
    """

    keys: Keys
    counts: Integers
    images: int

    @classmethod
    def from_references(cls, references: Iterable[Sequence[Ids]]) -> DocumentFrequencies:
        """Count the n-grams; each item has the captions of one image as token ids. DataError if there are none."""
        captions_of: list[int] = []
        captions: list[Ids] = []
        for of_image in references:
            captions_of.append(len(of_image))
            captions.extend(of_image)
        if not captions:
            raise DataError("Document frequencies need at least one image with a reference.")
        image_of_caption = np.repeat(np.arange(len(captions_of)), captions_of)
        keys, counts = [], []
        for packed, caption in pack_ngrams(captions):
            order = np.argsort(packed, kind="stable")  # an n-gram's occurrences keep the order of their images
            packed, image = packed[order], image_of_caption[caption[order]]
            is_new = np.ones(len(packed), np.bool_)
            is_new[1:] = (packed[1:] != packed[:-1]) | (image[1:] != image[:-1])
            different, count = np.unique(packed[is_new], return_counts=True)
            keys.append(different)
            counts.append(count)
        return cls(np.concatenate(keys), np.concatenate(counts), len(captions_of))

    @property
    def checksum(self) -> str:
        """SHA-256 of the contents, in hexadecimal."""
        digest = hashlib.sha256(f"{FORMAT_VERSION} {self.images} ".encode())
        digest.update(self.keys.astype("<u8").tobytes())
        digest.update(self.counts.astype("<i8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz archive of plain arrays; an existing file is replaced atomically."""
        archive = io.BytesIO()
        np.savez(
            archive,
            format_version=FORMAT_VERSION,
            images=self.images,
            keys=self.keys,
            counts=self.counts,
            checksum=self.checksum,
        )
        write_atomically(Path(path), archive.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DocumentFrequencies:
        """Read a file that `save` wrote. DataError for a file of another kind or version, and for a damaged one."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                version = int(archive["format_version"])
                if version != FORMAT_VERSION:
                    raise DataError(f"{path} has format {version}; this release reads format {FORMAT_VERSION}.")
                frequencies = cls(archive["keys"], archive["counts"], int(archive["images"]))
                checksum = str(archive["checksum"])
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read as document frequencies: {error}") from error
        if frequencies.checksum != checksum:
            raise DataError(f"{path} is damaged: its checksum does not fit its contents. Count and save them again.")
        return frequencies


def pack_ngrams(captions: Sequence[Ids]) -> list[tuple[Keys, Integers]]:
    """For n = 1 … 4: all n-grams of all captions, packed, and the caption that contains each (ascending).

    Packed n-grams of a greater n are greater. Raises DataError for a token id below 0 or above LARGEST_ID.
    """
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    tokens = np.fromiter(chain.from_iterable(captions), np.int64, int(lengths.sum()))
    if len(tokens) and (tokens.min() < 0 or tokens.max() > LARGEST_ID):
        raise DataError(f"Token ids from {tokens.min()} to {tokens.max()}: expected ids from 0 to {LARGEST_ID}.")
    caption = np.repeat(np.arange(len(captions)), lengths)
    words_left = np.cumsum(lengths)[caption] - np.arange(len(tokens))
    words = tokens.astype(np.uint64) + np.uint64(1)
    packed = words
    ngrams = []
    for n in range(1, LONGEST + 1):
        if n > 1:
            packed = (packed[:-1] << np.uint64(BITS)) | words[n - 1 :]
        inside = np.flatnonzero(words_left[: len(packed)] >= n)  # not across the end of a caption
        ngrams.append((packed[inside], caption[inside]))
    return ngrams
