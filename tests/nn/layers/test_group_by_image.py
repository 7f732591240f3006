"""Rows grouped by image, against loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.nn.layers.group_by_image import rows_of_captions, rows_of_words, words_by_caption
from captioner.nn.packing import pack_captions, unpack

CAPTIONS = st.lists(st.lists(st.lists(st.integers(4, 9), max_size=4), max_size=3), min_size=1, max_size=4).filter(any)


@given(captions=CAPTIONS, data=st.data())
@settings(max_examples=40, deadline=None)
def test_rows_are_grouped_by_image_and_ungrouped(captions: list[list[list[int]]], data: st.DataObject) -> None:
    packed = pack_captions(captions)
    for rows in (rows_of_captions(packed, len(captions)), rows_of_words(packed, len(captions))):
        count = data.draw(st.integers(1, len(rows.images)))
        some, values = rows.first_rows(count), torch.arange(1.0, count + 1).unsqueeze(1)
        places = some.group(values)
        assert places.shape == (len(captions), rows.rows_per_image, 1)
        for image in range(len(captions)):
            own = places[image][places[image] > 0].sort().values
            assert own.tolist() == values[rows.images[:count] == image].flatten().tolist()
        assert torch.equal(some.ungroup(places), values)


@given(captions=CAPTIONS)
@settings(max_examples=40, deadline=None)
def test_words_are_grouped_by_caption_in_their_order(captions: list[list[list[int]]]) -> None:
    packed = pack_captions(captions)
    rows, values = words_by_caption(packed), packed.targets.unsqueeze(1).double()
    grouped = rows.group(values)
    for row, of_caption in enumerate(unpack(packed.targets, packed)):
        padding = [0] * (len(packed.batch_sizes) - len(of_caption))
        assert grouped[row].flatten().tolist() == of_caption + padding
    assert torch.equal(rows.ungroup(grouped), values)
