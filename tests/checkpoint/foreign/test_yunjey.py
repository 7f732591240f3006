"""Show and Tell of yunjey: the same features, logits and captions as its own code."""

from __future__ import annotations

import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from captioner.errors import CheckpointError
from captioner.inference import Captioner
from captioner.nn.types import ImageFeatures
from tests.checkpoint.foreign.conftest import small_resnet
from tests.checkpoint.foreign.parity import captions_of, check_close, imported, logits_of

WORDS = ["a", "dog", "runs", "."]
E, H = 5, 6


class Vocabulary:
    """As the project pickles it."""

    def __init__(self) -> None:
        tokens = ["<pad>", "<start>", "<end>", "<unk>", *WORDS]
        self.word2idx = {token: number for number, token in enumerate(tokens)}
        self.idx2word = dict(enumerate(tokens))
        self.idx = len(tokens)


class Decoder(nn.Module):
    """The layers under the project's names."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(8, E), nn.LSTM(E, H, layers, batch_first=True)
        self.linear = nn.Linear(H, 8)


class Encoder(nn.Module):
    """The layers under the project's names; `resnet` is without its head."""

    def __init__(self, resnet: nn.Module, channels: int) -> None:
        super().__init__()
        self.resnet = nn.Sequential(*resnet.children())
        self.linear, self.bn = nn.Linear(channels, E), nn.BatchNorm1d(E, momentum=0.01)
        nn.init.normal_(self.bn.running_mean)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)
        nn.init.normal_(self.bn.weight)
        nn.init.normal_(self.bn.bias)


def write_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoder: Encoder, layers: int = 1, module: str = "build_vocab"
) -> tuple[Path, Decoder]:
    """decoder-1-2.ckpt, encoder-1-2.ckpt and vocab.pkl, as the project writes them; and the decoder."""
    decoder = Decoder(layers)
    torch.save(decoder.state_dict(), folder / "decoder-1-2.ckpt")
    torch.save(encoder.state_dict(), folder / "encoder-1-2.ckpt")
    monkeypatch.setattr(Vocabulary, "__module__", module)
    fake = types.ModuleType(module)
    fake.Vocabulary = Vocabulary  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module, fake)
        (folder / "vocab.pkl").write_bytes(pickle.dumps(Vocabulary()))
    return folder / "decoder-1-2.ckpt", decoder


@pytest.mark.parametrize(("layers", "module"), [(1, "build_vocab"), (2, "__main__")])
def test_logits_are_those_of_the_project_s_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int, module: str
) -> None:
    encoder = Encoder(small_resnet(1, 1, 1, 1), 16)
    path, decoder = write_sample(tmp_path, monkeypatch, encoder, layers, module)
    loaded = imported(path, "yunjey", tmp_path / "run", encoder="resnet_1111")
    assert loaded.vocabulary.tokens[4:] == tuple(WORDS)
    pooled, captions = torch.randn(2, 16), [[4, 5, 6], [7, 3]]
    for image, found in enumerate(logits_of(loaded, ImageFeatures(pooled), captions)):
        with torch.no_grad():
            projected = encoder.eval().bn(encoder.linear(pooled[image : image + 1]))
            words = decoder.embed(torch.tensor([1, *captions[image]]))
            hidden, _ = decoder.lstm(torch.cat([projected, words]))
        check_close(found, decoder.linear(hidden[1:]).detach())


def test_a_resnet_of_torchvision_is_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = resnet18()
    headless = nn.Sequential(*list(network.children())[:-2])
    path, _ = write_sample(tmp_path, monkeypatch, Encoder(headless, 512))
    loaded = imported(path, "yunjey", tmp_path / "run")
    assert loaded.settings.encoder.name == "resnet18"
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = headless.eval()(image).mean((2, 3))
    torch.testing.assert_close(loaded.model.encode(image).vector, expected, atol=1e-4, rtol=1e-5)


def test_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_sample(tmp_path, monkeypatch, Encoder(small_resnet(1, 1, 1, 1), 16))
    shutil.move(tmp_path / "vocab.pkl", tmp_path / "words.pkl")
    with pytest.raises(CheckpointError, match=r"needs the vocabulary vocab\.pkl.*data/vocab\.pkl.*--vocabulary"):
        imported(path, "yunjey", tmp_path / "run", encoder="resnet_1111")
    shutil.move(tmp_path / "encoder-1-2.ckpt", tmp_path / "e.ckpt")
    with pytest.raises(CheckpointError, match=r"needs the encoder of the same training.*--encoder-weights"):
        imported(path, "yunjey", tmp_path / "run", encoder="resnet_1111", vocabulary=tmp_path / "words.pkl")
    imported(
        path,
        "yunjey",
        tmp_path / "run",
        encoder="resnet_1111",
        vocabulary=tmp_path / "words.pkl",
        encoder_weights=str(tmp_path / "e.ckpt"),
    )


def test_the_encoder_s_file_is_answered_with_the_decoder_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path, monkeypatch, Encoder(small_resnet(1, 1, 1, 1), 16))
    with pytest.raises(CheckpointError, match=r"is the project's encoder: give the decoder"):
        imported(tmp_path / "encoder-1-2.ckpt", "yunjey", tmp_path / "run")


def test_an_unknown_encoder_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_sample(tmp_path, monkeypatch, Encoder(small_resnet(1, 1, 1, 1), 16))
    with pytest.raises(CheckpointError, match=r"none of torchvision's ResNets.*--encoder"):
        imported(path, "yunjey", tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"its encoder is not resnet_152: name another one"):
        imported(path, "yunjey", tmp_path / "run", encoder="resnet_152")


def words_of(ids: np.ndarray) -> list[int]:
    """The words of ids that begin with <start>; what follows <end> is dropped."""
    words = ids.tolist()[1:]
    return words[: words.index(2)] if 2 in words else words


@pytest.mark.parametrize(
    ("file", "kind", "encoder"),
    [
        ("decoder-150-3.ckpt", "1layer", "resnet_152"),
        ("legacy_decoder-150-3.pkl", "1layer", "resnet_152"),
        ("decoder-151-3.ckpt", "2layer", "resnet_1111"),
    ],
)
def test_samples_have_the_project_s_features_logits_and_captions(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, kind: str, encoder: str
) -> None:
    folder = samples / "yunjey"
    beside = str(folder / "encoder-150-3.ckpt") if file.startswith("legacy") else None
    loaded = imported(folder / file, "yunjey", tmp_path / "run", encoder=encoder, encoder_weights=beside)
    expected = np.load(folder / f"expected_{kind}.npz")
    decoder = loaded.model.decoder
    pooled = torch.tensor(expected["encoder_eval_resnet_pooled"])
    with torch.no_grad():
        check_close(decoder.image.project(pooled), expected["encoder_eval_features"])
        images = torch.tensor(expected["images_normalized"])
        check_close(loaded.model.encoder.trunk(images).mean((2, 3)), pooled)
        features = loaded.model.encode(images).vector  # with BatchNorm fused into convolutions, so rounded otherwise
    torch.testing.assert_close(features, pooled, atol=5e-5, rtol=0)
    found = captions_of(loaded, ImageFeatures(pooled), length=19)
    assert [tokens for tokens, _ in found] == list(map(words_of, expected["encoder_eval_sampled_ids"]))
    photos = [folder / name for name in expected["image_files"]]
    texts = [f"<start> {caption.text} <end>" for caption in Captioner(loaded, torch.device("cpu")).caption(photos)]
    assert texts == list(expected["sample_py_text_224"])

    # These logits were computed from embedded images that were normalized over a training batch.
    monkeypatch.setattr(decoder.image, "project", lambda _: torch.tensor(expected["features"]))
    lengths = expected["lengths"] - 2
    captions = [ids[1 : length + 1].tolist() for ids, length in zip(expected["captions"], lengths, strict=True)]
    for image, logits in enumerate(logits_of(loaded, ImageFeatures(pooled), captions)):
        check_close(logits, expected["logits_padded"][image][1 : len(logits) + 1])  # the first predicts <start>
    found = captions_of(loaded, ImageFeatures(pooled), length=19)
    assert [tokens for tokens, _ in found] == list(map(words_of, expected["sampled_ids"]))


def test_a_vocabulary_pickled_from_the_module_is_the_same(samples: Path, tmp_path: Path) -> None:
    folder = samples / "yunjey"
    runs = [
        imported(
            folder / "decoder-151-3.ckpt",
            "yunjey",
            tmp_path / name,
            encoder="resnet_1111",
            vocabulary=folder / name,
        )
        for name in ("vocab.pkl", "vocab_from_module.pkl")
    ]
    assert runs[0].vocabulary == runs[1].vocabulary
