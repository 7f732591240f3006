"""Checkpoints joined to an ensemble: encoders shared, captions exact, checkpoints that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner import Captioner
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.load_ensemble import join_checkpoints, load_ensemble
from captioner.config import CacheConfig, FolderConfig
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_model_features
from captioner.errors import CheckpointError, ConfigError
from captioner.nn.types import ImageFeatures
from tests.checkpoint.members import WORDS, save_member
from tests.tiny import write_tiny_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four members: two share an encoder, one reads larger images, one crops them."""
    home = tmp_path_factory.mktemp("members")
    return [
        save_member(home / "a", 1),
        save_member(home / "b", 2, model="recurrent"),
        save_member(home / "c", 3, image_size=96),
        save_member(home / "d", 4, resize="crop"),
    ]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8))


def test_members_with_the_same_encoder_share_it(folders: list[Path], photo: Image.Image) -> None:
    together = Captioner.from_checkpoint([*folders, folders[1]], device="cpu")
    assert [encoder.transform.size for encoder in together.model.encoders] == [64, 96, 64]
    calls: list[int] = []
    for encoder in together.model.encoders:
        encoder.register_forward_hook(lambda *_: calls.append(1))
    together.caption(photo)
    assert len(calls) == 3, "once per encoder, not once per member"
    assert Captioner.from_checkpoint(folders[:2], device="cpu").encode([photo]).others == ()


def test_encoders_with_other_weights_are_not_shared(folders: list[Path], tmp_path: Path) -> None:
    other = save_member(tmp_path / "e", 5, encoder_seed=9)
    assert len(load_ensemble([folders[0], other]).model.encoders) == 2


def test_it_captions_with_the_mean_over_members_by_hand(folders: list[Path], photo: Image.Image) -> None:
    """The ensemble's probability of its caption from what each member alone gives each of its words."""
    together = Captioner.from_checkpoint(folders, device="cpu")
    caption = together.caption(photo)
    assert caption.tokens
    words = together.vocabulary.encode(caption.tokens)
    targets = [*words, 2] if caption.finished else words
    probabilities = []
    for folder in folders:
        alone = Captioner.from_checkpoint(folder, device="cpu")
        decoder = alone.model.decoder
        with torch.inference_mode():
            state, rows = decoder.init_state(alone.encode([photo])), []
            for token in [1, *targets[:-1]]:
                logits, state, _ = decoder.step(torch.tensor([token]), state)
                rows.append(logits[0].double().softmax(0).numpy())
        probabilities.append(rows)
    mean = np.mean(probabilities, axis=0)
    expected = sum(np.log(mean[step, token]) for step, token in enumerate(targets))
    assert caption.log_prob == pytest.approx(expected, abs=1e-4)
    (scored,) = together.score(photo, [caption])
    if caption.finished:
        assert scored.log_prob == pytest.approx(expected, abs=1e-4)


def test_attention_is_on_the_grid_of_the_first_encoder(folders: list[Path], photo: Image.Image) -> None:
    """The member with larger images has a finer grid; the one that crops sees another part and does not count."""
    a, c, d = (Captioner.from_checkpoint(folders[i], device="cpu") for i in (0, 2, 3))
    together = Captioner.from_checkpoint([folders[0], folders[3]], device="cpu")
    caption = together.caption(photo, decode="greedy")
    assert caption.attention is not None
    first = caption.attention[0]
    alone = a.model.decoder
    with torch.inference_mode():
        step = alone.step(torch.tensor([1]), alone.init_state(a.encode([photo])))
    np.testing.assert_allclose(first.ravel(), step.attention[0], atol=1e-5)
    finer = Captioner.from_checkpoint([folders[0], folders[2]], device="cpu").caption(photo)
    assert finer.attention is not None
    assert finer.attention.shape[1:] == a.model.encoder.grid_size != c.model.encoder.grid_size
    np.testing.assert_allclose(finer.attention.sum((1, 2)), 1, atol=1e-5)
    assert d.model.encoder.grid_size == a.model.encoder.grid_size


def test_one_is_that_checkpoint_and_the_same_twice_captions_alike(folders: list[Path], photo: Image.Image) -> None:
    loaded = load_checkpoint(folders[0])
    assert join_checkpoints([loaded]) is loaded
    alone = Captioner.from_checkpoint(folders[0], device="cpu").caption(photo)
    for mean in ("probabilities", "log_probabilities"):
        twice = Captioner.from_checkpoint([folders[0], folders[0]], device="cpu", ensemble_mean=mean).caption(photo)
        assert twice.tokens == alone.tokens
        assert twice.log_prob == pytest.approx(alone.log_prob, abs=1e-4)


def test_it_says_what_it_is(folders: list[Path]) -> None:
    text = repr(Captioner.from_checkpoint(folders[:3], device="cpu"))
    assert "decoder: attention + recurrent + attention" in text
    assert text.count("encoder:") == 2


def test_a_split_is_captioned_by_several_encoders_and_an_unreadable_image_is_left_out(
    folders: list[Path], tmp_path: Path
) -> None:
    data = write_tiny_data(tmp_path / "data")
    (tmp_path / "data" / "017.png").write_bytes(b"no image")
    data = FolderConfig(root=data.root, captions=data.captions, num_workers=0, on_bad_image="skip")
    dataset = load_dataset(data, "val")
    model = load_ensemble(folders[:3]).model
    source = open_model_features(dataset, model, data=data, cache=CacheConfig(), device=torch.device("cpu"))
    found: dict[int, ImageFeatures] = {}
    for indices, features in source.batches([[0, 1, 2], [3]]):
        for place, index in enumerate(indices):
            rows = torch.tensor([place])
            found[index] = features.images(lambda tensor, rows=rows: tensor.index_select(0, rows))
    assert sorted(found) == [0, 2, 3]
    assert list(source.bad) == [1]
    for index, features in found.items():
        expected = Captioner.from_checkpoint(folders[:3], device="cpu").encode([dataset.images[index].path])
        torch.testing.assert_close(features.vector, expected.vector, atol=1e-2, rtol=1e-2)  # cached in float16
        torch.testing.assert_close(features.others[0].vector, expected.others[0].vector, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: save_member(folder, 1, words=(*WORDS[:2], "cat", *WORDS[3:])),
            r"vocabularies differ \(14 and 14 tokens; id 6 is 'on' and 'cat'; 'on' only in the first; 'cat' only in",
        ),
        (
            lambda folder: save_member(folder, 1, words=WORDS[:4]),
            r"14 and 8 tokens; id 8 is 'left' and nothing; 'left', 'right', 'half' … only in the first\)",
        ),
        (lambda folder: save_member(folder, 1, words=WORDS[::-1]), r"id 4 is 'a' and 'blue'\)"),
        (lambda folder: save_member(folder, 1, tokenizer="whitespace"), "their tokenizers are ptb and whitespace"),
    ],
)
def test_checkpoints_that_do_not_fit(
    folders: list[Path], tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    other = make(tmp_path / "other")
    with pytest.raises(CheckpointError, match=message) as raised:
        load_ensemble([folders[0], other])
    assert str(other) in str(raised.value)
    assert str(folders[0]) in str(raised.value)


def test_learned_subwords_must_be_the_same(folders: list[Path]) -> None:
    loaded = [load_checkpoint(folder) for folder in folders[:2]]
    other = replace(loaded[1], tokenizer_model=b"others")
    with pytest.raises(CheckpointError, match="different subwords"):
        join_checkpoints([loaded[0], other])


def test_mistakes(folders: list[Path]) -> None:
    with pytest.raises(ConfigError, match="'harmonic' does not exist"):
        Captioner.from_checkpoint(folders[:2], device="cpu", ensemble_mean="harmonic")
    with pytest.raises(ConfigError, match="at least one"):
        Captioner.from_checkpoint([], device="cpu")
