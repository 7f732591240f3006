"""The token ids of all captions of a data set, in three arrays: about sixty bytes per caption.

Python lists of token ids take ten times the memory, in every process. For millions of captions that decides whether a
machine can train at all (docs/adr/0006-captions-in-flat-arrays.md).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int32, Int64


@dataclass(frozen=True, eq=False)
class EncodedCaptions:
    """The captions of n images: c captions with w tokens in all. `captions[i]` gives image i's as lists of token ids.

    token_ids: (w,), caption after caption.
    caption_offsets: (c + 1,), where each caption begins in `token_ids`, and the end of the last one.
    image_offsets: (n + 1,), the index of each image's first caption, and c.
    """

    token_ids: Int32[np.ndarray, " w"]
    caption_offsets: Int64[np.ndarray, " c_and_1"]
    image_offsets: Int64[np.ndarray, " n_and_1"]

    @classmethod
    def from_lists(cls, images: Iterable[Iterable[Iterable[int]]]) -> EncodedCaptions:
        """From token ids [image][caption][token]. Reads one image at a time, so that `images` may be a generator."""
        token_ids, caption_offsets, image_offsets = array("i"), array("q", [0]), array("q", [0])
        for captions in images:
            for caption in captions:
                token_ids.extend(caption)
                caption_offsets.append(len(token_ids))
            image_offsets.append(len(caption_offsets) - 1)
        return cls(
            np.array(token_ids, np.int32), np.array(caption_offsets, np.int64), np.array(image_offsets, np.int64)
        )

    def target_counts(self, vocabulary_size: int, end: int) -> Int64[np.ndarray, " V"]:
        """How often each token is to be predicted: its occurrences, and those of `end` after every caption."""
        counts = np.bincount(self.token_ids, minlength=vocabulary_size)
        counts[end] += len(self.caption_offsets) - 1
        return counts

    def __len__(self) -> int:
        return len(self.image_offsets) - 1

    def __getitem__(self, image: int) -> list[list[int]]:
        if not 0 <= image < len(self):
            raise IndexError(f"image {image} of {len(self)}")
        first, end = self.image_offsets[image : image + 2].tolist()
        offsets = self.caption_offsets[first : end + 1].tolist()
        token_ids = self.token_ids[offsets[0] : offsets[-1]].tolist()
        return [token_ids[start - offsets[0] : stop - offsets[0]] for start, stop in pairwise(offsets)]

    def __iter__(self) -> Iterator[list[list[int]]]:
        return map(self.__getitem__, range(len(self)))

    @property
    def captions_per_image(self) -> Int64[np.ndarray, " n"]:
        """The number of captions of each image."""
        return np.diff(self.image_offsets)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three arrays, for checksums and for measuring memory."""
        return self.token_ids, self.caption_offsets, self.image_offsets

    def truncate(self, max_length: int) -> EncodedCaptions:
        """A copy in which each caption has at most its first `max_length` tokens."""
        lengths = np.diff(self.caption_offsets)
        is_long = lengths > max_length
        change = np.zeros(len(self.token_ids) + 1, np.int8)  # +1 where removed tokens begin, -1 where they end
        change[self.caption_offsets[:-1][is_long] + max_length] = 1
        change[self.caption_offsets[1:][is_long]] -= 1
        kept = np.cumsum(change[:-1], dtype=np.int8) == 0
        offsets = np.append(0, np.cumsum(np.minimum(lengths, max_length)))
        return EncodedCaptions(self.token_ids[kept], offsets, self.image_offsets)
