"""The Python interface: images in every form, single and in lists, searches, errors, repr and plots."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
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
from tests.tiny import write_tiny_data


@pytest.fixture(scope="module")
def run_folder(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, elsewhere: without its data and its feature cache."""
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("moved") / "run"))


@pytest.fixture(scope="module")
def model(run_folder: Path) -> Captioner:
    return Captioner.from_checkpoint(run_folder, device="cpu")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight images: each color on each side."""
    folder = tmp_path_factory.mktemp("images")
    write_tiny_data(folder, images=8)
    return sorted(folder.glob("*.png"))


def same(found: captioner.Caption, expected: captioner.Caption) -> None:
    """Equal up to the rounding of float32 sums, which depends on the batch."""
    assert (found.text, found.tokens, found.finished) == (expected.text, expected.tokens, expected.finished)
    assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-4)
    assert found.attention is not None
    np.testing.assert_allclose(found.attention, expected.attention, atol=1e-4)


# ------------------------------------------------------------------------------------------- one image


def test_captions_describe_the_images(model: Captioner, paths: list[Path]) -> None:
    """Without the training data, in another folder than that of the training."""
    texts = [model.caption(path).text for path in paths]
    expected = [
        [f"a {color} half on the {side}", f"the {side} is {color}"]
        for side in ("left", "right")
        for color in ("red", "green", "blue", "white")
    ]
    assert sum(text in references for text, references in zip(texts, expected, strict=True)) >= 7, texts


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
def test_every_form_of_image_gives_the_same_caption(
    model: Captioner, paths: list[Path], form: Callable[[Path], Any]
) -> None:
    for path in paths[2:6]:
        image = form(path)
        same(model.caption(image), model.caption(path))
        if isinstance(image, Image.Image):
            image.close()


def test_gray_transparent_and_oddly_shaped_images(model: Captioner) -> None:
    gray = np.full((50, 70), 90, dtype=np.uint8)
    expected = model.caption(np.repeat(gray[:, :, None], 3, axis=2))
    same(model.caption(gray), expected)
    same(model.caption(Image.fromarray(gray)), expected)
    transparent = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    same(model.caption(transparent), model.caption(np.full((64, 64, 3), 255, dtype=np.uint8)))
    assert model.caption(np.zeros((1, 900, 3), dtype=np.uint8)).tokens


def test_exif_orientation_is_applied(model: Captioner, paths: list[Path]) -> None:
    """A photo stored rotated by 90°, with its EXIF orientation."""
    with Image.open(paths[1]) as image:
        exif = image.getexif()
        exif[0x0112] = 6  # rotate by 90° clockwise
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


def test_a_list_gives_the_captions_of_single_images_in_order(
    model: Captioner, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a list that is longer than a batch."""
    monkeypatch.setattr(Captioner, "batch", 3)
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
    for wanted in (1, 2, 5):  # within the run's beam of 3, and wider
        caption = model.caption(paths[0], alternatives=wanted)
        assert len(caption.alternatives) == wanted
        captions = [caption, *caption.alternatives]
        assert len({one.tokens for one in captions}) == wanted + 1
        assert all(one.alternatives == () for one in caption.alternatives)
        finished = [one.log_prob for one in captions if one.finished]
        assert finished == sorted(finished, reverse=True)
        assert all(one.attention is not None for one in captions)
    same(model.caption(paths[0], alternatives=2), model.caption(paths[0]))  # not wider than the beam: the same caption


@pytest.mark.parametrize("wanted", [-1, -5])
def test_a_negative_number_of_alternatives(model: Captioner, paths: list[Path], wanted: int) -> None:
    with pytest.raises(ConfigError, match=f"alternatives={wanted}"):
        model.caption(paths[0], alternatives=wanted)


def test_only_a_beam_has_alternatives(model: Captioner, paths: list[Path]) -> None:
    for name in ("greedy", "sample"):
        with pytest.raises(ConfigError, match=rf"alternatives=2 .*beam.*{name}"):
            model.caption(paths[0], alternatives=2, decode=DecodeConfig(name=name))


def test_another_search_than_the_model_s(model: Captioner, paths: list[Path]) -> None:
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


def test_samples_do_not_depend_on_the_batch(
    model: Captioner, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = DecodeConfig(name="sample", temperature=3.0)
    together = model.caption([paths[0]] * 7, decode=sampled)
    assert len({caption.text for caption in together}) > 3  # each index of the list has its own seed
    monkeypatch.setattr(Captioner, "batch", 3)
    assert [one.text for one in model.caption([paths[0]] * 7, decode=sampled)] == [one.text for one in together]


# ---------------------------------------------------------------------------------------- errors


def test_inputs_that_are_no_images(model: Captioner, paths: list[Path], tmp_path: Path) -> None:
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
        (torch.zeros(2, 3, 8, 8), "is not an image"),
        (7, "A int is not an image"),
        (None, "is not an image"),
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
    with pytest.raises(CheckpointError, match="contains no checkpoint"):
        Captioner.from_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="is not a folder"):
        Captioner.from_checkpoint(str(tmp_path / "nowhere"))


# ------------------------------------------------------------------------------------ checkpoints


def test_a_folder_as_text_or_path_and_each_of_its_checkpoints(run_folder: Path, paths: list[Path]) -> None:
    expected = Captioner.from_checkpoint(run_folder).caption(paths[0])
    same(Captioner.from_checkpoint(str(run_folder)).caption(paths[0]), expected)
    (inner,) = (run_folder / "checkpoints").glob("step-*")
    same(Captioner.from_checkpoint(inner).caption(paths[0]), expected)


def test_its_preprocessing_is_the_checkpoint_s(model: Captioner, paths: list[Path], tmp_path: Path) -> None:
    """The size and the mean stored in the checkpoint are used, not the defaults of the encoder."""
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


def test_captioning_does_not_change_the_model(model: Captioner, paths: list[Path]) -> None:
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    random_state = torch.get_rng_state()
    model.caption(list(paths), alternatives=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not model.model.training


# ------------------------------------------------------------------------------- keywords, repr, plot, names


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"beam": 5}, r"Captioner\.caption\(\) has no keyword 'beam'\. Did you mean beam_width\?"),
        ({"num_beams": 5}, r"'num_beams'\. Did you mean beam_width\?"),
        ({"temprature": 0.5}, r"'temprature'\. Did you mean temperature\?"),
        ({"alternative": 2}, r"Did you mean alternatives\?"),
        ({"zzz": 2}, r"'zzz'\. Choose one of: allow_unknown, alternatives, "),
        ({"decode": "beem"}, r"Did you mean beam\?"),
        ({"temperature": 0.5}, r"temperature=0\.5 has no effect on decode='beam': give decode='sample'"),
        ({"decode": "greedy", "beam_width": 2}, r"beam_width=2 has no effect on decode='greedy': give decode='beam'"),
        ({"beam_width": 0}, r"beam_width=0 is too small: expected 1 or more"),
        ({"beam_width": "5"}, r"beam_width='5' has the wrong type: expected int"),
    ],
)
def test_a_wrong_keyword_names_the_right_one(
    model: Captioner, paths: list[Path], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        model.caption(paths[0], **keywords)


def test_a_wrong_keyword_of_the_loaders_names_the_right_one(run_folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"from_checkpoint\(\) has no keyword 'checkpont'\. Did you mean checkpoint\?"
    ):
        Captioner.from_checkpoint(checkpont=run_folder)
    with pytest.raises(ConfigError, match=r"pretrained\(\) has no keyword 'dev'\. Did you mean device\?"):
        Captioner.pretrained("flickr8k", dev="cpu")


def test_single_decoding_settings_are_keywords(model: Captioner, paths: list[Path]) -> None:
    short = model.caption(paths[0], decode="greedy", max_length=2)
    same(short, model.caption(paths[0], decode=replace(model.decode, name="greedy", max_length=2)))
    assert len(short.tokens) == 2
    wide = replace(model.decode, beam_width=7, length_penalty=1.0)
    same(model.caption(paths[0], beam_width=7, length_penalty=1), model.caption(paths[0], decode=wide))
    sampled = replace(model.decode, name="sample", temperature=3.0, seed=4)
    same(model.caption(paths[0], decode="sample", temperature=3, seed=4), model.caption(paths[0], decode=sampled))
    assert model.decode.beam_width == 3  # the model's own settings stay


def test_an_image_of_a_list_that_cannot_be_read_is_named_by_its_index(
    model: Captioner, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Captioner, "batch", 2)
    with pytest.raises(ImageError, match=r"^images\[4\]: The array holds int64"):
        model.caption([*paths[:4], np.zeros((4, 4, 3), np.int64), paths[5]])
    with pytest.raises(ImageError, match=r"^images\[1\]: nowhere\.jpg does not exist"):
        model.encode([paths[0], "nowhere.jpg"])
    with pytest.raises(ImageError, match=r"^nowhere\.jpg does not exist"):
        model.caption("nowhere.jpg")


def test_repr_says_what_the_model_is(model: Captioner, run_folder: Path, tmp_path: Path) -> None:
    text = repr(model)
    assert text.startswith(f"Captioner {run_folder} (step-")
    assert " on cpu\n" in text
    for line in (
        f"decoder: attention, {sum(p.numel() for p in model.model.decoder.parameters()):,} parameters",
        f"encoder: {model.checkpoint.settings.encoder.name}, 64 × 64 pixels, 3 × 3 regions",
        f"vocabulary: {len(model.vocabulary)} tokens",
        "training data: unknown",
        "decoding: beam, beam_width=3, length_penalty=0, max_length=",
    ):
        assert f"\n  {line}" in text, text
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    for settings, shown in (
        ("data: {name: folder}", "folder\n"),
        ("data: folder", "unknown\n"),
        ("data: [", f"unknown ({copy / 'config.yaml'} cannot be read)\n"),
    ):
        (copy / "config.yaml").write_text(settings)
        assert f"training data: {shown}" in repr(Captioner.from_checkpoint(copy, "cpu"))


def test_repr_of_a_caption_says_what_it_holds(model: Captioner, paths: list[Path]) -> None:
    caption = model.caption(paths[0], alternatives=2, min_length=3, max_length=3)
    text = repr(caption)
    assert text.startswith(f"<Caption {caption.text!r}: log_prob={caption.log_prob:.2f}, 3 tokens, ")
    assert "cut at the length limit, attention 3 × 3 × 3, 2 alternatives>" in text
    assert "cut" not in repr(model.caption(paths[0]))
    assert caption.probability == pytest.approx(np.exp(caption.log_prob))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_caption_plots_itself(
    model: Captioner, paths: list[Path], form: Callable[[Path], Any], tmp_path: Path
) -> None:
    caption = model.caption(form(paths[0]), alternatives=1)
    plot = caption.plot(tmp_path / "plot.png", references=["a reference"])
    assert plot.size[0] == 1420
    with Image.open(tmp_path / "plot.png") as written:
        assert np.array_equal(np.asarray(written.convert("RGB")), np.asarray(plot))
    assert np.asarray(caption.alternatives[0].plot()).shape == (*caption.alternatives[0].plot().size[::-1], 3)


def test_a_plot_that_cannot_be_drawn(model: Captioner, paths: list[Path], tmp_path: Path) -> None:
    photo = Path(shutil.copy(paths[0], tmp_path / "photo.png"))
    caption = model.caption(photo)
    photo.unlink()
    with pytest.raises(ImageError, match=r"photo\.png does not exist"):
        caption.plot()
    assert caption.plot(image=paths[0]).size[0] == 1420
    with pytest.raises(ImageError, match="give it, as in plot"):
        replace(caption, image=None).plot()
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        caption.plot(tmp_path / "plot.jpg", image=paths[0])
    before = Path(paths[0]).read_bytes()
    with pytest.raises(ConfigError, match="is the captioned image: name another file"):
        caption.plot(paths[0], image=paths[0])
    assert Path(paths[0]).read_bytes() == before
    with pytest.raises(ConfigError, match="Did you mean shared"):
        caption.plot(image=paths[0], scale="share")
    assert list(tmp_path.iterdir()) == []


def test_public_names_are_at_the_top() -> None:
    assert captioner.Captioner is inference.Captioner
    assert captioner.Caption is inference.Caption
    assert captioner.DecodeConfig is DecodeConfig
    assert captioner.ImageError is ImageError
    assert dir(captioner) == sorted(captioner.__all__)
    for name in dir(captioner):
        assert getattr(captioner, name) is not None
    with pytest.raises(AttributeError, match=r"has no attribute 'Captoiner'\. Did you mean Captioner"):
        captioner.Captoiner  # noqa: B018


def test_importing_captioner_imports_no_torch() -> None:
    program = "import sys, captioner; dir(captioner); captioner.ConfigError; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])


# ------------------------------------------------------------------------------------------- many images


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_each_of_many_images_gets_its_caption(model: Captioner, paths: list[Path], batch_size: int) -> None:
    """In order, with those that cannot be read in their places; a sampled caption does not depend on the others."""
    broken = paths[0].with_name("broken.jpg")
    broken.write_bytes(b"no image")
    images = [*paths[:4], broken, *paths[4:], broken]
    for search in ("beam", "sample"):
        found = list(model.caption_each(images, decode=search, batch_size=batch_size))
        assert len(found) == len(images)
        for image, caption in zip(images, found, strict=True):
            if image == broken:
                assert isinstance(caption, captioner.ImageError)
                assert "broken.jpg is not an image" in str(caption)
            else:
                assert isinstance(caption, captioner.Caption)
                same(caption, model.caption(image, decode=search))


def test_mistakes_come_before_the_first_image(model: Captioner, paths: list[Path]) -> None:
    with pytest.raises(captioner.ConfigError, match="batch_size=0 is too small"):
        model.caption_each(paths, batch_size=0)
    with pytest.raises(captioner.ConfigError, match="Did you mean beam_width"):
        model.caption_each(paths, num_beams=3)
    assert list(model.caption_each([])) == []
