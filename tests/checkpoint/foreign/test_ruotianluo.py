"""The models of ruotianluo: the same log-probabilities and captions as their own code."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.errors import CheckpointError
from captioner.nn.types import ImageFeatures, mean_of_regions
from tests.checkpoint.foreign.parity import TOLERANCE, captions_of, check_close, imported, logits_of

WORDS = ["a", "dog", "runs", "UNK"]
E, H, D = 5, 6, 20
OPTIONS = {"rnn_size": H, "input_encoding_size": E, "drop_prob_lm": 0.25, "seq_length": 16, "max_length": 20}


def layers(name: str) -> dict[str, nn.Module]:
    """The layers of fc and newfc under the project's names."""
    core, image = {"fc": ("core", "img_embed"), "newfc": ("_core", "fc_embed")}[name]
    return {
        image: nn.Linear(D, E),
        f"{core}.i2h": nn.Linear(E, 5 * H),
        f"{core}.h2h": nn.Linear(H, 5 * H),
        "embed": nn.Embedding(len(WORDS) + 1, E),
        "logit": nn.Linear(H, len(WORDS) + 1),
    }


def log_probs(parts: dict[str, nn.Module], vector: Tensor, ids: list[int]) -> Tensor:
    """(T, V) of one image (D,): an LSTM whose candidate is the larger of two, which reads the image, then the words."""
    image, inputs, recurrent, embed, output = parts.values()
    h = c = torch.zeros(1, H)
    rows = []
    for x in [image(vector[None]), *(embed(torch.tensor([token])) for token in ids)]:
        i, f, o, first, second = (inputs(x) + recurrent(h)).chunk(5, 1)
        c = f.sigmoid() * c + i.sigmoid() * torch.maximum(first, second)
        h = o.sigmoid() * c.tanh()
        rows.append(output(h)[0].log_softmax(0))
    return torch.stack(rows[1:])


def write_sample(
    folder: Path, name: str, words: list[str] = WORDS, **options: Any
) -> tuple[Path, dict[str, nn.Module]]:
    """model.pth and infos_tiny.pkl, as the project writes them; and the layers."""
    folder.mkdir(exist_ok=True)
    parts = layers("newfc" if name not in ("fc", "newfc") else name)
    weights = {f"{key}.{inner}": tensor for key, part in parts.items() for inner, tensor in part.state_dict().items()}
    torch.save(weights, folder / "model.pth")
    vocab = {str(number): word for number, word in enumerate(words, 1)}
    opt = argparse.Namespace(caption_model=name, **{**OPTIONS, **options})
    (folder / "infos_tiny.pkl").write_bytes(pickle.dumps({"iter": 7, "vocab": vocab, "opt": opt}, 2))
    return folder / "model.pth", parts


@pytest.fixture
def weights_of_flat(tmp_path: Path) -> dict[int, str]:
    """Weights for the encoders flat_18 and flat_20: the checkpoints of this project have none."""
    paths = {}
    for channels in (18, 20):
        paths[channels] = str(tmp_path / f"flat{channels}.pth")
        torch.save(nn.Conv2d(3, channels, 32).state_dict(prefix="conv."), paths[channels])
    return paths


@pytest.mark.parametrize("name", ["fc", "newfc"])
def test_log_probabilities_are_those_of_the_project_s_layers(
    tmp_path: Path, weights_of_flat: dict[int, str], name: str
) -> None:
    path, parts = write_sample(tmp_path / "log", name)
    loaded = imported(path, "ruotianluo", tmp_path / "run", encoder="flat_20", encoder_weights=weights_of_flat[20])
    assert loaded.vocabulary.tokens[4:] == ("a", "dog", "runs")
    assert loaded.settings.model.dropout == 0.25
    assert loaded.settings.decode.max_length == {"fc": 16, "newfc": 20}[name]
    vector, captions, theirs = torch.randn(2, D), [[4, 5, 3], [6]], [0, 0, 0, 4, 1, 2, 3]
    for image, logits in enumerate(logits_of(loaded, ImageFeatures(vector), captions)):
        found = logits.log_softmax(1)
        with torch.no_grad():
            expected = log_probs(parts, vector[image], [theirs[token] for token in [1, *captions[image]]])
        check_close(found[:, 2:], expected[:, theirs[2:]])
        assert bool((found[:, :2] < -25).all())  # <PAD> and <START> are never predicted


def test_without_unk_that_token_is_never_predicted(tmp_path: Path, weights_of_flat: dict[int, str]) -> None:
    path, _ = write_sample(tmp_path / "log", "newfc", words=["a", "dog", "runs", "cat"])
    loaded = imported(path, "ruotianluo", tmp_path / "run", encoder="flat_20", encoder_weights=weights_of_flat[20])
    logits = logits_of(loaded, ImageFeatures(torch.randn(1, D)), [[4, 7]])[0]
    assert bool((logits.log_softmax(1)[:, 3] < -25).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"caption_model": "aoa"}, r"caption_model=aoa, which cannot be imported.*Can be: fc, newfc"),
        ({"caption_model": "newfcc"}, r"Did you mean newfc"),
        ({"use_bn": 1}, r"--use_bn 1, which cannot be imported; only --use_bn 0"),
        ({"logit_layers": 2}, r"--logit_layers 2"),
        ({"norm_att_feat": 1}, r"--norm_att_feat 1"),
    ],
)
def test_what_cannot_be_imported_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    name = options.pop("caption_model", "newfc")
    path, _ = write_sample(tmp_path / "log", name, **options)
    with pytest.raises(CheckpointError, match=message):
        imported(path, "ruotianluo", tmp_path / "run", encoder="flat_20")


def test_the_infos_file_is_found_or_asked_for(tmp_path: Path) -> None:
    path, _ = write_sample(tmp_path / "log", "newfc")
    with pytest.raises(CheckpointError, match=r"has the options and the vocabulary: give the weights, model\.pth"):
        imported(tmp_path / "log" / "infos_tiny.pkl", "ruotianluo", tmp_path / "run")
    other = tmp_path / "log" / "infos_other.pkl"
    other.write_bytes((tmp_path / "log" / "infos_tiny.pkl").read_bytes())
    with pytest.raises(CheckpointError, match=r"has several infos files \(infos_other\.pkl, infos_tiny\.pkl\)"):
        imported(path, "ruotianluo", tmp_path / "run")
    for file in (other, tmp_path / "log" / "infos_tiny.pkl"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"needs the options and the vocabulary.*infos_ID\.pkl.*--vocabulary"):
        imported(path, "ruotianluo", tmp_path / "run")


def test_an_encoder_with_other_features_is_refused(tmp_path: Path) -> None:
    path, _ = write_sample(tmp_path / "log", "newfc")
    with pytest.raises(CheckpointError, match=r"decoder for 20 features, and flat_18 gives 18: .* --encoder"):
        imported(path, "ruotianluo", tmp_path / "run", encoder="flat_18")


def test_words_of_another_training_are_refused(tmp_path: Path) -> None:
    path, _ = write_sample(tmp_path / "log", "newfc", words=["a", "UNK"])
    with pytest.raises(CheckpointError, match=r"decoder of 5 rows of words, and its infos file has 2 words"):
        imported(path, "ruotianluo", tmp_path / "run", encoder="flat_20")


THEIRS = [0, 0, 0, 60, *range(1, 60)]  # the samples' id of each of ours


def ours(ids: Any) -> list[int]:
    return [THEIRS.index(token, 2) for token in ids if token > 0]


def check_sample(loaded: LoadedCheckpoint, expected: Any, prefix: str, features: ImageFeatures, images: slice) -> None:
    """Log-probabilities, greedy captions and beams of some images of a sample."""
    captions = [
        ours(row[1 : length + 1])
        for row, length in zip(expected["labels"][images], expected["word_lengths"][images], strict=True)
    ]
    for number, logits in enumerate(logits_of(loaded, features, captions)):
        reference = expected[f"{prefix}logprobs"][images][number]
        check_close(logits.log_softmax(1)[:, 2:], reference[: len(logits)][:, THEIRS[2:]])
    greedy = captions_of(loaded, features, length=loaded.settings.decode.max_length)
    assert [tokens for tokens, _ in greedy] == list(map(ours, expected[f"{prefix}greedy_ids"][images]))
    for suppress in (0, 1):
        key = f"{prefix}beam3_suppress{suppress}"
        if f"{key}_ids" in expected:
            beams = captions_of(loaded, features, beam=3, length=20, unknown=not suppress)
            assert [tokens for tokens, _ in beams] == list(map(ours, expected[f"{key}_ids"][images]))
            scores = np.array([log_prob for _, log_prob in beams])
            np.testing.assert_allclose(scores, expected[f"{key}_score"][images], atol=TOLERANCE)


@pytest.mark.parametrize("name", ["fc", "newfc", "show_tell"])
def test_samples_have_the_project_s_log_probabilities_and_captions(
    samples: Path, tmp_path: Path, weights_of_flat: dict[int, str], name: str
) -> None:
    folder = samples / "ruotianluo" / name
    loaded = imported(
        folder / "model.pth",
        "ruotianluo",
        tmp_path / "run",
        encoder="flat_20",
        encoder_weights=weights_of_flat[20],
    )
    expected = np.load(folder / "expected.npz")
    check_sample(loaded, expected, "", ImageFeatures(torch.tensor(expected["fc_feats"])), slice(0, 4))


@pytest.mark.parametrize(
    "file", ["att2in2/model.pth", "att2in2/legacy_model.pth", "updown/model.pth", "transformer/model.pth"]
)
def test_samples_with_regions_have_the_project_s_log_probabilities_and_captions(
    samples: Path, tmp_path: Path, weights_of_flat: dict[int, str], file: str
) -> None:
    """With equal numbers of regions, and with padded ones and a mask."""
    path = samples / "ruotianluo" / file
    loaded = imported(path, "ruotianluo", tmp_path / "run", encoder="flat_18", encoder_weights=weights_of_flat[18])
    expected = np.load(path.parent / "expected.npz")
    for prefix in ("same_", "masked_"):
        grid, mask = torch.tensor(expected[f"{prefix}att_feats"]), None
        if prefix == "masked_":
            mask = torch.tensor(expected["masked_att_masks"]) > 0
            assert not bool(mask.all())
        vector = torch.tensor(expected["fc_feats"]) if "fc_feats" in expected else mean_of_regions(grid, mask)
        check_sample(loaded, expected, prefix, ImageFeatures(vector, grid, mask=mask), slice(0, 4))
