"""Captions of a whole data set as numbers in three arrays: some sixty bytes a caption, however many there are.

Python lists of numbers take ten times as much, in every process: for millions of captions that decides whether a
machine can train at all (docs/adr/0006).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int32, Int64


@dataclass(frozen=True, eq=False)
class EncodedCaptions:
    """The captions of n images, c in all, of w words: `captions[image]` is a list of lists of numbers, made anew.

    words: (w,) numbers, caption after caption. word_starts: (c + 1,) where each caption begins in `words`, and where
    the last one ends. caption_starts: (n + 1,) the same of each image's captions in `word_starts`.
    """

    words: Int32[np.ndarray, " w"]
    word_starts: Int64[np.ndarray, " c_and_1"]
    caption_starts: Int64[np.ndarray, " n_and_1"]

    @classmethod
    def of(cls, images: Iterable[Iterable[Sequence[int]]]) -> EncodedCaptions:
        """Encode token ids `images[image][caption][word]`; reads one image at a time."""
        words, word_starts, caption_starts = array("i"), array("q", [0]), array("q", [0])
        for captions in images:
            for caption in captions:
                words.extend(caption)
                word_starts.append(len(words))
            caption_starts.append(len(word_starts) - 1)
        return cls(np.array(words, np.int32), np.array(word_starts, np.int64), np.array(caption_starts, np.int64))

    def __len__(self) -> int:
        return len(self.caption_starts) - 1

    def __getitem__(self, image: int) -> list[list[int]]:
        if not 0 <= image < len(self):
            raise IndexError(f"image {image} of {len(self)}")
        first, last = self.caption_starts[image : image + 2].tolist()
        starts = self.word_starts[first : last + 1].tolist()
        words = self.words[starts[0] : starts[-1]].tolist()
        return [words[start - starts[0] : end - starts[0]] for start, end in pairwise(starts)]

    def __iter__(self) -> Iterator[list[list[int]]]:
        return map(self.__getitem__, range(len(self)))

    @property
    def counts(self) -> Int64[np.ndarray, " n"]:
        """How many captions each image has."""
        return np.diff(self.caption_starts)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All there is, for checksums and for counting bytes."""
        return self.words, self.word_starts, self.caption_starts

    def cut(self, most: int) -> EncodedCaptions:
        """The same captions, longer ones without what follows their first `most` words."""
        lengths = np.diff(self.word_starts)
        is_long = lengths > most
        border = np.zeros(len(self.words) + 1, np.int8)  # 1 where a part to be left out begins, -1 behind it
        border[self.word_starts[:-1][is_long] + most] = 1
        border[self.word_starts[1:][is_long]] -= 1
        kept = np.cumsum(border[:-1], dtype=np.int8) == 0
        starts = np.append(0, np.cumsum(np.minimum(lengths, most)))
        return EncodedCaptions(self.words[kept], starts, self.caption_starts)
