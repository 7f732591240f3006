"""The packed layout: complete, without padding, and equal to torch's PackedSequence."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence

from captioner.nn.packing import pack_captions, unpack
from captioner.text.vocabulary import SPECIAL_TOKENS as SPECIAL

caption = st.lists(st.integers(4, 50), min_size=0, max_size=8)
images = st.lists(st.lists(caption, min_size=0, max_size=4), min_size=1, max_size=5).filter(any)


@settings(max_examples=50, deadline=None)
@given(images)
def test_unpacking_returns_every_caption(captions: list[list[list[int]]]) -> None:
    packed = pack_captions(captions)
    said, read = unpack(packed.targets, packed), unpack(packed.inputs, packed)
    for row, (image, slot) in enumerate(zip(packed.images.tolist(), packed.caption_indices.tolist(), strict=True)):
        assert said[row] == [*captions[image][slot], SPECIAL.end]
        assert read[row] == [SPECIAL.start, *captions[image][slot]]
    places = set(zip(packed.images.tolist(), packed.caption_indices.tolist(), strict=True))
    assert places == {(i, j) for i, own in enumerate(captions) for j in range(len(own))}
    assert packed.captions_per_image == max(len(own) for own in captions)


@settings(max_examples=50, deadline=None)
@given(images)
def test_layout_is_that_of_torch(captions: list[list[list[int]]]) -> None:
    packed = pack_captions(captions)
    flat = sorted((words for own in captions for words in own), key=lambda words: -len(words))
    reference = pack_sequence([torch.tensor([*words, SPECIAL.end]) for words in flat])
    assert packed.targets.tolist() == reference.data.tolist()
    assert list(packed.batch_sizes) == reference.batch_sizes.tolist()
    assert sum(rows for rows, _ in packed.steps()) == len(packed.targets)


@settings(max_examples=30, deadline=None)
@given(images)
def test_last_token_positions(captions: list[list[list[int]]]) -> None:
    packed = pack_captions(captions)
    last = packed.last_token_positions()
    assert packed.rows[last].tolist() == list(range(len(packed.images)))
    assert (packed.targets[last] == SPECIAL.end).all()
