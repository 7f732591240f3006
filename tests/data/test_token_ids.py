"""Encoded captions are equal to lists of lists and take a tenth of the memory."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import ShardsConfig, TokenizerConfig, VocabularyConfig
from captioner.data import batches
from captioner.data.batches import captioned_images, encode_captions, epoch_batches, tokenize_captions
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.token_ids import EncodedCaptions
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import Vocabulary
from tests.data.datasets.tar_shards.tars import write_tar
from tests.data.tiny import jpeg

NUMBERS = st.lists(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=4), max_size=6)
TOKENIZER = build_tokenizer(TokenizerConfig())


@given(NUMBERS, st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_encoded_captions_equal_the_lists(lists: list[list[list[int]]], most: int) -> None:
    encoded = EncodedCaptions.from_lists(lists)
    assert len(encoded) == len(lists)
    assert list(encoded) == [encoded[image] for image in range(len(lists))] == lists
    assert encoded.captions_per_image.tolist() == list(map(len, lists))
    assert list(encoded.truncate(most)) == [[words[:most] for words in own] for own in lists]
    for outside in (-1, len(lists)):
        with pytest.raises(IndexError):
            encoded[outside]


def shards(folder: Path, pairs: int) -> CaptionDataset:
    """Pairs whose captions have eight to twelve of two thousand words; every fiftieth caption has none."""
    generator = random.Random(0)
    image = jpeg()
    borders = range(0, pairs + 1, max(1, pairs // 2))
    for number, (start, end) in enumerate(pairwise(borders)):
        files: list[tuple[str, bytes]] = []
        for pair in range(start, end):
            words = [f"word{generator.randrange(2000)}" for _ in range(generator.randint(8, 12))]
            text = " ".join(words) if pair % 50 else "..."
            files += [(f"{pair:06}.jpg", image), (f"{pair:06}.txt", text.encode())]
        write_tar(folder / f"train-{number:05}.tar", files)
    return load_dataset(ShardsConfig(root=str(folder), num_workers=0), "train")


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_captions_of_shards_equal_those_of_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """For any number of images per tokenizer call."""
    monkeypatch.setattr(batches, "IMAGES_PER_CALL", at_once)
    dataset = shards(tmp_path, 120)
    tokens = [[words for caption in image.captions if (words := TOKENIZER.tokenize(caption))] for image in dataset]
    assert [] in tokens
    tokenized = tokenize_captions(dataset, TOKENIZER)
    assert list(tokenized) == tokens
    vocabulary = Vocabulary.from_captions((words for own in tokens for words in own), VocabularyConfig(min_count=2))
    expected = [[vocabulary.encode(words)[:9] for words in own] for own in tokens]
    captions = encode_captions(tokenized, vocabulary, 9)
    assert vocabulary.special.unknown in captions.token_ids
    assert list(captions) == expected
    assert list(captioned_images(captions, dataset)) == [index for index, own in enumerate(expected) if own]


def test_a_pair_of_a_shard_takes_less_than_a_hundred_bytes(tmp_path: Path) -> None:
    """Ten words take 40 bytes, their offsets 16, the pair's index and its position in an epoch 16.

    Measured as the growth of allocations by Python and NumPy with the number of pairs.
    """
    dataset = shards(tmp_path, 3500)

    def bytes_of(pairs: int) -> tuple[int, int]:
        """(bytes in arrays, bytes in lists)."""
        some = replace(dataset, images=dataset.images[:pairs])
        tracemalloc.start()
        try:
            captions = encode_captions(tokenize_captions(some, TOKENIZER), Vocabulary(["word1"]), 30)
            usable = captioned_images(captions, some)
            order = epoch_batches(usable, 256, seed=0, epoch=0)
            taken, _ = tracemalloc.get_traced_memory()
            lists = list(captions)
            in_lists = tracemalloc.get_traced_memory()[0] - taken
        finally:
            tracemalloc.stop()
        assert sum(map(len, order)) == len(usable) == sum(map(bool, lists)) == pairs * 49 // 50
        return taken, in_lists

    fewer, more = bytes_of(2500), bytes_of(3500)
    in_arrays, in_lists = ((large - small) / 1000 for small, large in zip(fewer, more, strict=True))
    assert in_arrays < 85
    assert in_lists > 200  # the bound above does not hold for lists


@given(st.lists(st.lists(st.lists(st.integers(3, 8), max_size=6), max_size=4), max_size=6))
@settings(deadline=None, max_examples=40)
def test_target_counts_are_those_of_the_captions_and_their_ends(lists: list[list[list[int]]]) -> None:
    targets = [token for captions in lists for caption in captions for token in (*caption, 2)]
    counts = EncodedCaptions.from_lists(lists).target_counts(10, end=2)
    assert counts.tolist() == [targets.count(token) for token in range(10)]
