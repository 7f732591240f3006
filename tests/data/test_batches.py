"""The order of images and the choice of captions are functions of seed and epoch; no image is lost or repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import TokenizerConfig, VocabularyConfig
from captioner.data import batches
from captioner.data.batches import (
    TokenizedCaptions,
    captioned_images,
    choose_captions,
    encode_captions,
    epoch_batches,
    sequential_batches,
    tokenize_captions,
)
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.annotation_files import read_lines
from captioner.data.datasets.coco_captions import read_captions
from captioner.data.token_ids import EncodedCaptions
from captioner.errors import DataError
from captioner.text import ptb
from captioner.text.ptb import ptb_tokenize
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import Vocabulary

SEEDS = st.integers(0, 2**40)


def dataset(*captions: tuple[str, ...]) -> CaptionDataset:
    images = (CaptionedImage(number, Path(f"{number}.jpg"), own) for number, own in enumerate(captions))
    return CaptionDataset("some", "train", tuple(images))


SOME = dataset(("A dog runs.", "The dog"), (), ("...", "A cat, asleep"))
TOKENS = [[["a", "dog", "runs"], ["the", "dog"]], [], [["a", "cat", "asleep"]]]


# --------------------------------------------------------------------------------------------- captions


def test_tokens_stay_with_their_image() -> None:
    """A caption of punctuation only has no token and is left out; an image without a caption is kept."""
    assert list(tokenize_captions(SOME, build_tokenizer(TokenizerConfig()))) == TOKENS


PIECES = st.sampled_from(
    ["a", "A", "dog", "dogs.", "isn't", "cannot", "1 1/2", "p. m.", "K.", "x<y", "<b>", "...", "", " ", "\t", "\n", "é"]
)
CAPTIONS = st.lists(PIECES | st.text(max_size=6), max_size=6).map(" ".join)


def tokens_of_lists(data: CaptionDataset) -> TokenizedCaptions:
    """The plain way: the tokens of each caption as lists."""
    return TokenizedCaptions.from_lists([ptb_tokenize(caption) for caption in image.captions] for image in data)


def assert_same_tokens(found: TokenizedCaptions, expected: TokenizedCaptions) -> None:
    assert found.tokens == expected.tokens
    for array, other in zip(found.indices.arrays, expected.indices.arrays, strict=True):
        assert array.dtype == other.dtype
        np.testing.assert_array_equal(array, other)


@given(st.lists(st.lists(CAPTIONS, max_size=3), max_size=6), st.integers(1, 7))
def test_pieces_have_the_tokens_of_each_caption(captions: list[list[str]], kept: int) -> None:
    """Also where images are tokenized a few at a time, and where too many distinct pieces are forgotten."""
    data = dataset(*map(tuple, captions))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "IMAGES_PER_PASS", kept)
        patch.setattr(batches, "_MOST_PIECES", kept)
        patch.setattr(ptb, "_MOST_PIECES", kept)
        patch.setattr(ptb, "_PIECES", ptb._Pieces())
        found = tokenize_captions(data, build_tokenizer(TokenizerConfig()))
    assert_same_tokens(found, tokens_of_lists(data))


@pytest.mark.slow
def test_pieces_have_the_tokens_of_all_real_captions(real_data: Path) -> None:
    coco = read_captions(real_data / "coco_text" / "captions_val2017.json")
    flickr = [line.split("\t", 1)[1] for line in read_lines(real_data / "flickr8k" / "Flickr8k.token.txt")]
    data = dataset(*(image.captions for image in coco), tuple(flickr))
    assert_same_tokens(tokenize_captions(data, build_tokenizer(TokenizerConfig())), tokens_of_lists(data))


def test_token_ids_of_truncated_captions() -> None:
    vocabulary = Vocabulary.from_captions([["a"] * 3, ["dog"] * 2, ["the"]], VocabularyConfig(min_count=1))
    a, dog, the = vocabulary.encode(["a", "dog", "the"])
    unknown = vocabulary.special.unknown
    tokenized = tokenize_captions(SOME, build_tokenizer(TokenizerConfig()))
    assert list(encode_captions(tokenized, vocabulary, 2)) == [[[a, dog], [the, dog]], [], [[a, unknown]]]
    assert encode_captions(tokenized, vocabulary, 99)[0][0] == [a, dog, unknown]


def test_images_with_captions() -> None:
    assert list(captioned_images(EncodedCaptions.from_lists([[[4]], [], [[5], [6]]]), SOME)) == [0, 2]
    with pytest.raises(DataError, match="No image of some's train split has a caption"):
        captioned_images(EncodedCaptions.from_lists([[], []]), SOME)


# ---------------------------------------------------------------------------------------------- batches


@given(
    indices=st.lists(st.integers(0, 999), unique=True, min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    seed=SEEDS,
    epoch=st.integers(0, 50),
)
@settings(deadline=None, max_examples=50)
def test_an_epoch_has_every_image_once(indices: list[int], batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(indices, batch_size, seed, epoch)
    assert sorted(index for batch in batches for index in batch) == sorted(indices)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size
    assert batches == epoch_batches(indices, batch_size, seed, epoch)


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {
        tuple(index for batch in epoch_batches(range(50), 8, seed, epoch) for index in batch)
        for seed in range(10)
        for epoch in range(10)
    }
    assert len(orders) == 100


def test_every_position_is_equally_likely_for_every_image() -> None:
    """The mean position of each image over many epochs is the middle."""
    places = torch.zeros(10)
    for epoch in range(2000):
        (order,) = epoch_batches(range(10), 10, seed=0, epoch=epoch)
        places[order] += torch.arange(10.0)
    standard_error = (99 / 12 / 2000) ** 0.5  # of the mean of 2000 uniform samples from 0 … 9
    assert (places / 2000 - 4.5).abs().max() < 5 * standard_error


def test_the_order_does_not_change_the_training_s_random_state() -> None:
    before = torch.get_rng_state()
    epoch_batches(range(50), 8, seed=0, epoch=0)
    choose_captions([[4], [5], [6]], 2, seed=0, epoch=0, index=0)
    assert torch.equal(torch.get_rng_state(), before)


@given(count=st.integers(0, 60), batch_size=st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_sequential_batches(count: int, batch_size: int) -> None:
    batches = sequential_batches(count, batch_size)
    assert [index for batch in batches for index in batch] == list(range(count))
    assert all(len(batch) == batch_size for batch in batches[:-1])


# --------------------------------------------------------------------------------------- captions chosen


@given(captions=st.integers(1, 8), count=st.integers(1, 9), seed=SEEDS, epoch=st.integers(0, 50))
@settings(deadline=None, max_examples=50)
def test_captions_are_sampled_without_replacement(captions: int, count: int, seed: int, epoch: int) -> None:
    every = [[number] for number in range(captions)]
    chosen = choose_captions(every, count, seed, epoch, index=3)
    assert len(chosen) == min(count, captions)
    assert len({caption[0] for caption in chosen}) == len(chosen)
    assert chosen == choose_captions(every, count, seed, epoch, index=3)


def test_all_captions_keep_their_order() -> None:
    every = [[4], [5], [6]]
    assert choose_captions(every, None, 0, 0, 0) == every
    assert choose_captions(every, 3, 0, 0, 0) == every


def test_captions_are_sampled_uniformly_and_independently_for_each_image() -> None:
    every = [[number] for number in range(5)]
    counts = torch.zeros(5)
    together = 0
    for epoch in range(2000):
        (first,), (second,) = (choose_captions(every, 1, 0, epoch, index) for index in (7, 8))
        counts[first[0]] += 1
        together += first == second
    assert (counts / 2000 - 0.2).abs().max() < 5 * (0.2 * 0.8 / 2000) ** 0.5
    assert abs(together / 2000 - 0.2) < 5 * (0.2 * 0.8 / 2000) ** 0.5  # neighboring images are independent
