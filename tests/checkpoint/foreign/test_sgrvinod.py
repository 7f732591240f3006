"""Show, Attend and Tell of sgrvinod: the same logits and captions as its own code, from modules pickled whole."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.errors import CheckpointError
from captioner.inference import Captioner
from captioner.nn.types import ImageFeatures
from tests.checkpoint.foreign.conftest import small_resnet
from tests.checkpoint.foreign.parity import captions_of, check_close, imported, logits_of

WORDS = ["a", "dog", "runs", "café", "two"]
WORD_MAP = {
    **{word: number for number, word in enumerate(WORDS, 1)},
    "<unk>": 6,
    "<start>": 7,
    "<end>": 8,
    "<pad>": 0,
}
OURS = ("<pad>", "<start>", "<end>", "<unk>")
E, H, A, D = 5, 6, 4, 16


class Attention(nn.Module):
    """e = w·ReLU(W_a a + b_a + W_h h + b_h) + b."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_att, self.decoder_att, self.full_att = nn.Linear(D, A), nn.Linear(H, A), nn.Linear(A, 1)
        self.relu, self.softmax = nn.ReLU(), nn.Softmax(dim=1)


class DecoderWithAttention(nn.Module):
    """The layers under the project's names."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.embedding, self.dropout = Attention(), nn.Embedding(9, E), nn.Dropout(0.25)
        self.decode_step = nn.LSTMCell(E + D, H)
        self.init_h, self.init_c, self.f_beta, self.fc = (
            nn.Linear(D, H),
            nn.Linear(D, H),
            nn.Linear(H, D),
            nn.Linear(H, 9),
        )
        self.sigmoid = nn.Sigmoid()
        self.vocab_size = 9

    def logits(self, grid: Tensor, ids: list[int]) -> Tensor:
        """(T, V), from the equations, for one image (P, D)."""
        mean, attention = grid.mean(0, keepdim=True), self.attention
        h, c, rows = self.init_h(mean), self.init_c(mean), []
        for token in ids:
            hidden = torch.relu(attention.encoder_att(grid) + attention.decoder_att(h))
            z = (attention.full_att(hidden).softmax(0) * grid).sum(0, keepdim=True) * self.f_beta(h).sigmoid()
            h, c = self.decode_step(torch.cat([self.embedding(torch.tensor([token])), z], 1), (h, c))
            rows.append(self.fc(h)[0])
        return torch.stack(rows)


class Encoder(nn.Module):
    """A ResNet without its head, and the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = nn.Sequential(*small_resnet(1, 1, 1, 1).children())
        self.adaptive_pool = nn.AdaptiveAvgPool2d((14, 14))


def write_sample(folder: Path, monkeypatch: pytest.MonkeyPatch, *, legacy: bool = False, **changed: Any) -> Path:
    """A checkpoint and its word map as the project writes them; the classes cannot be imported afterwards."""
    torch.manual_seed(3)
    models = types.ModuleType("models")
    for kind in (Attention, DecoderWithAttention, Encoder):
        monkeypatch.setattr(kind, "__module__", "models")
        setattr(models, kind.__name__, kind)
    decoder = DecoderWithAttention()
    content = {
        "epoch": 4,
        "epochs_since_improvement": 0,
        "bleu-4": 0.2,
        "encoder": Encoder(),
        "decoder": decoder,
        "encoder_optimizer": None,
        "decoder_optimizer": torch.optim.Adam(decoder.parameters()),
        **changed,
    }
    path = folder / "BEST_checkpoint_tiny.pth.tar"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "models", models)
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    (folder / "WORDMAP_tiny.json").write_text(json.dumps(WORD_MAP))
    return path


def their_rows(loaded: LoadedCheckpoint, word_map: dict[str, int]) -> list[int]:
    """The project's id of each of ours."""
    tokens = (*OURS, *loaded.vocabulary.tokens[4:])
    return [word_map[token] for token in tokens]


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("legacy", [False, True])
def test_logits_are_those_of_the_pickled_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    torch.manual_seed(3)
    decoder = DecoderWithAttention()
    path = write_sample(tmp_path, monkeypatch, legacy=legacy, decoder=decoder)
    loaded = imported(path, "sgrvinod", tmp_path / "run", encoder="resnet_1111")
    assert "models" not in sys.modules
    assert loaded.vocabulary.tokens[4:] == tuple(WORDS)
    assert loaded.settings.model.dropout == 0.25
    assert loaded.model.encoder.grid_size == (14, 14)
    grid = torch.randn(2, 196, D)
    captions = [[4, 5, 3, 7], [6]]
    theirs = their_rows(loaded, WORD_MAP)
    for image, found in enumerate(logits_of(loaded, ImageFeatures(grid.mean(1), grid), captions)):
        with torch.no_grad():
            expected = decoder.logits(grid[image], [theirs[token] for token in [1, *captions[image]]])
        check_close(found, expected[:, theirs])


def test_a_word_map_of_another_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sample(tmp_path, monkeypatch)
    (tmp_path / "WORDMAP_tiny.json").write_text(json.dumps({**WORD_MAP, "cat": 9}))
    with pytest.raises(CheckpointError, match=r"decoder of 9 words, and its word map has 10.*--vocabulary"):
        imported(path, "sgrvinod", tmp_path / "run", encoder="resnet_1111")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a word map"),
        ("{", "cannot be read as a word map"),
        (json.dumps({"a": 0}), "has no <pad>"),
        (json.dumps({**WORD_MAP, "<pad>": 8}), "not a word map"),
    ],
)
def test_a_damaged_word_map_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    path = write_sample(tmp_path, monkeypatch)
    (tmp_path / "WORDMAP_tiny.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        imported(path, "sgrvinod", tmp_path / "run", encoder="resnet_1111")


def test_a_missing_word_map_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sample(tmp_path, monkeypatch)
    (tmp_path / "WORDMAP_tiny.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(CheckpointError, match=r"needs the word map WORDMAP_tiny\.json.*name it with --vocabulary"):
        imported(path, "sgrvinod", tmp_path / "run", encoder="resnet_1111")
    loaded = imported(path, "sgrvinod", tmp_path / "run", encoder="resnet_1111", vocabulary=tmp_path / "elsewhere.json")
    assert len(loaded.vocabulary) == 9


def altered(change: str) -> dict[str, Tensor]:
    weights = DecoderWithAttention().state_dict()
    if change == "missing":
        del weights["f_beta.weight"]
    elif change == "shape":
        weights["f_beta.weight"] = torch.zeros(3, 3)
    elif change == "more":
        weights["fc2.weight"] = torch.zeros(3, 3)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"has no weights f_beta\.weight"),
        ("shape", r"f_beta\.weight has the shape \(3, 3\), and the other weights need \(16, 6\)"),
        ("more", r"does not have \(fc2\.weight\)"),
    ],
)
def test_altered_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    path = write_sample(tmp_path, monkeypatch, decoder=altered(change))
    with pytest.raises(CheckpointError, match=message):
        imported(path, "sgrvinod", tmp_path / "run", encoder="resnet_1111")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["BEST_checkpoint_tiny.pth.tar", "WORDMAP_tiny.json"]


def test_weights_of_data_parallel_have_their_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {f"module.{name}": tensor for name, tensor in DecoderWithAttention().state_dict().items()}
    path = write_sample(tmp_path, monkeypatch, decoder=weights)
    assert imported(path, "sgrvinod", tmp_path / "run", encoder="resnet_1111").settings.model.dropout == 0.5


SAMPLES = [
    ("BEST_checkpoint_flickr8k_5_cap_per_img_1_min_word_freq.pth.tar", "features"),
    ("legacy_BEST_checkpoint_flickr8k_5_cap_per_img_1_min_word_freq.pth.tar", "features"),
    ("checkpoint_flickr8k_5_cap_per_img_1_min_word_freq.pth.tar", "finetuned"),
]


@pytest.mark.parametrize(("file", "kind"), SAMPLES)
def test_samples_have_the_project_s_logits_and_captions(samples: Path, tmp_path: Path, file: str, kind: str) -> None:
    folder = samples / "sgrvinod"
    loaded = imported(folder / file, "sgrvinod", tmp_path / "run", encoder="resnet_1111")
    expected = np.load(folder / f"expected_{kind}.npz")
    word_map = json.loads((folder / "WORDMAP_flickr8k_5_cap_per_img_1_min_word_freq.json").read_text())
    theirs = their_rows(loaded, word_map)
    grid = torch.tensor(expected["encoder_out"]).flatten(1, 2)
    lengths = expected["caption_lengths"][:, 0] - 2  # without <start> and <end>
    captions = [
        [theirs.index(token) for token in ids[1 : length + 1]]
        for ids, length in zip(expected["caption_ids"], lengths, strict=True)
    ]
    for image, found in enumerate(logits_of(loaded, ImageFeatures(grid.mean(1), grid), captions)):
        check_close(found, expected["predictions_input_order"][image][: len(found), theirs])
    if kind == "finetuned":
        grid = torch.tensor(expected["encoder_out_256"]).flatten(1, 2)
    for width in (1, 3, 5):
        found_captions = captions_of(loaded, ImageFeatures(grid.mean(1), grid), beam=width, length=50)
        texts = [" ".join(loaded.vocabulary.decode(tokens)) for tokens, _ in found_captions]
        assert texts == list(expected[f"beam{width}_text"])


def test_samples_have_the_project_s_features_and_captions_of_photos(samples: Path, tmp_path: Path) -> None:
    folder = samples / "sgrvinod"
    loaded = imported(folder / SAMPLES[2][0], "sgrvinod", tmp_path / "run", encoder="resnet_1111")
    expected = np.load(folder / "expected_finetuned.npz")
    with torch.no_grad():
        grid = loaded.model.encode(torch.tensor(expected["images_normalized"])).grid
    check_close(grid, expected["encoder_out"].reshape(4, 196, -1))
    captioner = Captioner(loaded, torch.device("cpu"))
    photos = [folder / name for name in expected["image_files"]]
    check_close(captioner.encode(photos).grid, expected["encoder_out_256"].reshape(4, 196, -1))
    assert [caption.text for caption in captioner.caption(photos)] == list(expected["beam5_text"])
