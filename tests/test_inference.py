"""One photo in, a caption out: however the photo is given, and with nothing left but the checkpoint."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import captioner
from captioner import Captioner, inference
from captioner.checkpoint.checkpoint import CheckpointSettings, load_checkpoint, save_checkpoint
from captioner.config import DecodeConfig
from captioner.errors import CheckpointError, ConfigError, ImageError
from captioner.nn.packing import pack_captions
from tests.tiny import train_tiny, write_tiny_data


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of which nothing is left but its folder: neither its data nor its feature cache."""
    home = tmp_path_factory.mktemp("trained")
    moved = Path(shutil.move(train_tiny(home), tmp_path_factory.mktemp("moved") / "run"))
    shutil.rmtree(home)
    return moved


@pytest.fixture(scope="module")
def model(run_folder: Path) -> Captioner:
    return Captioner.from_checkpoint(run_folder, device="cpu")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight images: every color on either side."""
    folder = tmp_path_factory.mktemp("images")
    write_tiny_data(folder, images=8)
    return sorted(folder.glob("*.png"))


def same(found: captioner.Caption, expected: captioner.Caption) -> None:
    """Equal but for the last digits of a float32 sum, which depend on what else is in the batch."""
    assert (found.text, found.tokens, found.finished) == (expected.text, expected.tokens, expected.finished)
    assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-4)
    assert found.attention is not None
    np.testing.assert_allclose(found.attention, expected.attention, atol=1e-4)


# ------------------------------------------------------------------------------------------- one image


def test_says_what_is_there(model: Captioner, paths: list[Path]) -> None:
    """Without the data it was trained on, in another folder than it was trained in."""
    texts = [model.caption(path).text for path in paths]
    expected = [
        [f"a {color} half on the {side}", f"the {side} is {color}"]
        for side in ("left", "right")
        for color in ("red", "green", "blue", "white")
    ]
    assert sum(text in own for text, own in zip(texts, expected, strict=True)) >= 7, texts


FORMS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "bytes": Path.read_bytes,
    "PIL": Image.open,
    "PIL with transparency": lambda path: Image.open(path).convert("RGBA"),
    "array": lambda path: np.asarray(Image.open(path)),
    "array of floats": lambda path: np.asarray(Image.open(path)) / 255,
    "tensor": lambda path: torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1),
    "tensor of floats": lambda path: torch.from_numpy(np.array(Image.open(path)) / 255).permute(2, 0, 1).float(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_however_it_is_given(model: Captioner, paths: list[Path], form: Callable[[Path], Any]) -> None:
    for path in paths[2:6]:
        image = form(path)
        same(model.caption(image), model.caption(path))
        if isinstance(image, Image.Image):
            image.close()


def test_grey_transparent_and_oddly_shaped(model: Captioner) -> None:
    grey = np.full((50, 70), 90, dtype=np.uint8)
    expected = model.caption(np.repeat(grey[:, :, None], 3, axis=2))
    same(model.caption(grey), expected)
    same(model.caption(Image.fromarray(grey)), expected)
    nothing = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    same(model.caption(nothing), model.caption(np.full((64, 64, 3), 255, dtype=np.uint8)))
    assert model.caption(np.zeros((1, 900, 3), dtype=np.uint8)).tokens


def test_upright_as_a_person_sees_it(model: Captioner, paths: list[Path]) -> None:
    """A photo stored on its side, with the EXIF entry that says so."""
    with Image.open(paths[1]) as image:
        exif = image.getexif()
        exif[0x0112] = 6  # turn a quarter clockwise
        stream = io.BytesIO()
        image.transpose(Image.Transpose.ROTATE_90).save(stream, "PNG", exif=exif)
    same(model.caption(stream.getvalue()), model.caption(paths[1]))


def test_what_a_caption_says_of_itself(model: Captioner, paths: list[Path]) -> None:
    caption = model.caption(paths[0])
    assert str(caption) == caption.text == " ".join(caption.tokens)
    assert caption.finished
    assert caption.alternatives == ()
    assert not {"<START>", "<END>", "<PAD>", "<UNK>"} & set(caption.tokens)


def test_attention_is_an_image_a_word(model: Captioner, paths: list[Path]) -> None:
    for caption in model.caption(list(paths)):
        assert caption.attention is not None
        assert caption.attention.shape == (len(caption.tokens), 3, 3)
        assert caption.attention.min() >= 0
        np.testing.assert_allclose(caption.attention.sum(axis=(1, 2)), 1, rtol=1e-5)


def test_log_prob_is_what_teacher_forcing_gives(model: Captioner, paths: list[Path]) -> None:
    """Σ ln p(word | words before, image), with <END>: an independent pass over the finished caption."""
    for path in paths[:4]:
        caption = model.caption(path)
        words = pack_captions([[model.vocabulary.encode(caption.tokens)]])
        with torch.no_grad():
            log_p = model.model(model.encode([path]), words).logits.log_softmax(dim=1)
        expected = log_p.gather(1, words.targets[:, None]).sum()
        assert caption.log_prob == pytest.approx(float(expected), abs=1e-4)


# ------------------------------------------------------------------------------------------ many images


def test_a_list_is_one_by_one_in_its_order(
    model: Captioner, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is longer than what is encoded together."""
    monkeypatch.setattr(inference, "BATCH", 3)
    order = [5, 0, 7, 2, 5, 3, 1, 4, 6]
    found = model.caption([paths[index] for index in order])
    assert isinstance(found, list)
    assert len(found) == len(order)
    assert len({caption.text for caption in found}) >= 5
    for caption, index in zip(found, order, strict=True):
        same(caption, model.caption(paths[index]))


def test_lists_of_one_and_none(model: Captioner, paths: list[Path]) -> None:
    (only,) = model.caption([paths[3]])
    same(only, model.caption(paths[3]))
    assert model.caption([]) == []


def test_a_list_may_mix(model: Captioner, paths: list[Path]) -> None:
    array = np.asarray(Image.open(paths[1]))
    for caption, expected in zip(
        model.caption([paths[0], array, paths[2].read_bytes()]), model.caption(paths[:3]), strict=True
    ):
        same(caption, expected)


# ------------------------------------------------------------------------------------------------ search


def test_alternatives_are_the_next_best(model: Captioner, paths: list[Path]) -> None:
    for wanted in (1, 2, 5):  # within the run's beam of 3, and beyond
        caption = model.caption(paths[0], alternatives=wanted)
        assert len(caption.alternatives) == wanted
        every = [caption, *caption.alternatives]
        assert len({one.tokens for one in every}) == wanted + 1
        assert all(one.alternatives == () for one in caption.alternatives)
        finished = [one.log_prob for one in every if one.finished]
        assert finished == sorted(finished, reverse=True)
        assert all(one.attention is not None for one in every)
    same(model.caption(paths[0], alternatives=2), model.caption(paths[0]))  # no wider than it was: nothing changes


@pytest.mark.parametrize("wanted", [-1, -5])
def test_fewer_than_no_alternatives(model: Captioner, paths: list[Path], wanted: int) -> None:
    with pytest.raises(ConfigError, match=f"alternatives={wanted}"):
        model.caption(paths[0], alternatives=wanted)


def test_only_a_beam_has_alternatives(model: Captioner, paths: list[Path]) -> None:
    for name in ("greedy", "sample"):
        with pytest.raises(ConfigError, match=rf"alternatives=2 .*beam.*{name}"):
            model.caption(paths[0], alternatives=2, decode=DecodeConfig(name=name))


def test_another_search_than_the_run_s(model: Captioner, paths: list[Path]) -> None:
    short = model.caption(paths[0], decode=DecodeConfig(name="greedy", max_length=2))
    assert len(short.tokens) == 2
    assert not short.finished
    assert short.attention is not None
    assert short.attention.shape == (2, 3, 3)
    same(
        model.caption(paths[0], decode=DecodeConfig(name="greedy")),
        model.caption(paths[0], decode=DecodeConfig(beam_width=1)),
    )
    sampled = DecodeConfig(name="sample", temperature=3.0, seed=1)
    assert model.caption(paths[0], decode=sampled) == model.caption(paths[0], decode=sampled)
    texts = {model.caption(paths[0], decode=replace(sampled, seed=seed)).text for seed in range(5)}
    assert len(texts) > 1


def test_samples_do_not_depend_on_what_is_encoded_together(
    model: Captioner, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = DecodeConfig(name="sample", temperature=3.0)
    together = model.caption([paths[0]] * 7, decode=sampled)
    assert len({caption.text for caption in together}) > 3  # each place of the list draws for itself
    monkeypatch.setattr(inference, "BATCH", 3)
    assert [one.text for one in model.caption([paths[0]] * 7, decode=sampled)] == [one.text for one in together]


# ---------------------------------------------------------------------------------------- what goes wrong


def test_what_is_no_image(model: Captioner, paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:100])
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    for wrong, match in (
        (broken, r"broken\.png cannot be decoded"),
        (str(text), r"text\.jpg is not an image"),
        (tmp_path / "nowhere.jpg", r"nowhere\.jpg does not exist"),
        (tmp_path, "is a folder"),
        (b"", "is empty"),
        (np.zeros((4, 4, 7), dtype=np.uint8), r"shape \(4, 4, 7\)"),
        (torch.zeros(2, 3, 8, 8), "is no image"),
        (7, "A int is no image"),
        (None, "is no image"),
    ):
        with pytest.raises(ImageError, match=match):
            model.caption(wrong)
        with pytest.raises(ImageError, match=match):
            model.caption([paths[0], wrong])


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there(run_folder: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"device='?{device}"):
        Captioner.from_checkpoint(run_folder, device=device)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        Captioner.from_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="is not a folder"):
        Captioner.from_checkpoint(str(tmp_path / "nowhere"))


# ------------------------------------------------------------------------------------ what it is built on


def test_a_folder_as_text_or_path_and_each_of_its_checkpoints(run_folder: Path, paths: list[Path]) -> None:
    expected = Captioner.from_checkpoint(run_folder).caption(paths[0])
    same(Captioner.from_checkpoint(str(run_folder)).caption(paths[0]), expected)
    (inner,) = (run_folder / "checkpoints").glob("step-*")
    same(Captioner.from_checkpoint(inner).caption(paths[0]), expected)


def test_its_preprocessing_is_the_checkpoint_s(model: Captioner, paths: list[Path], tmp_path: Path) -> None:
    """Another size and another mean in the checkpoint are used, whatever the encoder's weights expect today."""
    loaded = load_checkpoint(model.checkpoint.path)
    transform = replace(loaded.settings.transform, size=96, mean=(0.1, 0.2, 0.3))
    settings: CheckpointSettings = replace(loaded.settings, transform=transform)
    save_checkpoint(tmp_path, 1, loaded.model, loaded.vocabulary, settings, {}, is_best=True)
    other = Captioner.from_checkpoint(tmp_path, device="cpu")
    assert other.transform == transform != model.transform
    features = other.encode([paths[0]])
    rows, columns = other.model.encoder.grid_size
    assert features.grid is not None
    assert features.grid.shape == (1, rows * columns, 512)
    assert (rows, columns) == (5, 5)
    caption = other.caption(paths[0])
    assert caption.attention is not None
    assert caption.attention.shape[1:] == (5, 5)


def test_captioning_leaves_the_model_as_it_is(model: Captioner, paths: list[Path]) -> None:
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    random_state = torch.get_rng_state()
    model.caption(list(paths), alternatives=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not model.model.training


def test_both_names_are_at_the_top() -> None:
    assert captioner.Captioner is inference.Captioner
    assert captioner.Caption is inference.Caption
    with pytest.raises(AttributeError, match="has no attribute 'Captoiner'"):
        captioner.Captoiner  # noqa: B018
