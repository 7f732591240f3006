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
E, H, A, D = 5, 6, 4, 20
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


def attend(parts: dict[str, nn.Module], regions: Tensor, h: Tensor) -> Tensor:
    """(1, H): additive attention of att2in2 and updown over the embedded regions (P, H)."""
    energies = parts["core.attention.alpha_net"](
        torch.tanh(parts["ctx2att"](regions) + parts["core.attention.h2att"](h))
    )
    return (energies.softmax(0) * regions).sum(0, keepdim=True)


def region_layers() -> dict[str, nn.Module]:
    """The layers that att2in2 and updown share."""
    return {
        "embed.0": nn.Embedding(len(WORDS) + 1, E),
        "att_embed.0": nn.Linear(18, H),
        "ctx2att": nn.Linear(H, A),
        "core.attention.h2att": nn.Linear(H, A),
        "core.attention.alpha_net": nn.Linear(A, 1),
        "logit": nn.Linear(H, len(WORDS) + 1),
    }


def att2in2(parts: dict[str, nn.Module], grid: Tensor, _: Tensor, ids: list[int]) -> Tensor:
    """(T, V) of one image (P, 18)."""
    regions, h, c, rows = torch.relu(parts["att_embed.0"](grid)), torch.zeros(1, H), torch.zeros(1, H), []
    for token in ids:
        x, context = torch.relu(parts["embed.0"](torch.tensor([token]))), attend(parts, regions, h)
        i, f, o, first, second = (parts["core.i2h"](x) + parts["core.h2h"](h)).chunk(5, 1)
        to_first, to_second = parts["core.a2c"](context).chunk(2, 1)
        c = f.sigmoid() * c + i.sigmoid() * torch.maximum(first + to_first, second + to_second)
        h = o.sigmoid() * c.tanh()
        rows.append(parts["logit"](h)[0].log_softmax(0))
    return torch.stack(rows)


def updown(parts: dict[str, nn.Module], grid: Tensor, vector: Tensor, ids: list[int]) -> Tensor:
    """(T, V) of one image: its regions (P, 18) and its vector (20,)."""
    regions, v = torch.relu(parts["att_embed.0"](grid)), torch.relu(parts["fc_embed.0"](vector[None]))
    first = second = (torch.zeros(1, H), torch.zeros(1, H))
    rows = []
    for token in ids:
        x = torch.relu(parts["embed.0"](torch.tensor([token])))
        first = parts["core.att_lstm"](torch.cat([second[0], v, x], 1), first)
        second = parts["core.lang_lstm"](torch.cat([attend(parts, regions, first[0]), first[0]], 1), second)
        rows.append(parts["logit"](second[0])[0].log_softmax(0))
    return torch.stack(rows)


class Norm(nn.Module):
    """a (x − mean) / (s + 10⁻⁶) + b with the unbiased deviation s."""

    def __init__(self) -> None:
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.a_2 * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.b_2


def transformer_layers() -> dict[str, nn.Module]:
    """One encoder and one decoder layer of 8 dimensions, under the project's names."""
    parts: dict[str, nn.Module] = {"att_embed.0": nn.Linear(18, 8)}
    for stack, names in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "src_attn"])):
        prefix = f"model.{stack}.layers.0"
        for name in names:
            parts |= {f"{prefix}.{name}.linears.{number}": nn.Linear(8, 8) for number in range(4)}
        parts |= {f"{prefix}.feed_forward.w_1": nn.Linear(8, 12), f"{prefix}.feed_forward.w_2": nn.Linear(12, 8)}
        parts |= {f"{prefix}.sublayer.{number}.norm": Norm() for number in range(len(names) + 1)}
        parts[f"model.{stack}.norm"] = Norm()
    parts["model.tgt_embed.0.lut"] = nn.Embedding(len(WORDS) + 1, 8)
    parts["model.generator.proj"] = nn.Linear(8, len(WORDS) + 1)
    return parts


def transformer(parts: dict[str, nn.Module], grid: Tensor, _: Tensor, ids: list[int]) -> Tensor:
    """(T, V) of one image (P, 18), with two heads."""

    def attention(name: str, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            parts[f"{name}.linears.{number}"](source).view(-1, 2, 4).transpose(0, 1)
            for number, source in enumerate((x, memory, memory))
        )
        energies = q @ k.transpose(1, 2) / 2 + (0 if mask is None else mask)
        return parts[f"{name}.linears.3"]((energies.softmax(2) @ v).transpose(0, 1).reshape(-1, 8))

    def feed_forward(prefix: str, x: Tensor) -> Tensor:
        return parts[f"{prefix}.feed_forward.w_2"](torch.relu(parts[f"{prefix}.feed_forward.w_1"](x)))

    m, encoder, decoder = torch.relu(parts["att_embed.0"](grid)), "model.encoder.layers.0", "model.decoder.layers.0"
    y = parts[f"{encoder}.sublayer.0.norm"](m)
    m = m + attention(f"{encoder}.self_attn", y, y)
    m = m + feed_forward(encoder, parts[f"{encoder}.sublayer.1.norm"](m))
    m = parts["model.encoder.norm"](m)
    angles = torch.arange(len(ids))[:, None] / 10000 ** (torch.arange(0, 8, 2) / 8)
    places = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
    x = parts["model.tgt_embed.0.lut"](torch.tensor(ids)) * 8**0.5 + places
    y = parts[f"{decoder}.sublayer.0.norm"](x)
    x = x + attention(f"{decoder}.self_attn", y, y, torch.full((len(ids), len(ids)), float("-inf")).triu(1))
    x = x + attention(f"{decoder}.src_attn", parts[f"{decoder}.sublayer.1.norm"](x), m)
    x = x + feed_forward(decoder, parts[f"{decoder}.sublayer.2.norm"](x))
    return parts["model.generator.proj"](parts["model.decoder.norm"](x)).log_softmax(1)


def layers_of(name: str) -> dict[str, nn.Module]:
    """The layers of any model under the project's names."""
    if name == "att2in2":
        core = {
            "core.i2h": nn.Linear(E, 5 * H),
            "core.h2h": nn.Linear(H, 5 * H),
            "core.a2c": nn.Linear(H, 2 * H),
        }
        return region_layers() | core
    if name == "updown":
        lstms = {
            "fc_embed.0": nn.Linear(D, H),
            "core.att_lstm": nn.LSTMCell(2 * H + E, H),
            "core.lang_lstm": nn.LSTMCell(2 * H, H),
        }
        return region_layers() | lstms
    if name == "transformer":
        return transformer_layers()
    return layers(name if name in ("fc", "newfc") else "newfc")


def write_sample(
    folder: Path, name: str, words: list[str] = WORDS, **options: Any
) -> tuple[Path, dict[str, nn.Module]]:
    """model.pth and infos_tiny.pkl, as the project writes them; and the layers."""
    folder.mkdir(exist_ok=True)
    parts = layers_of(name)
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


@pytest.mark.parametrize("forward", [att2in2, updown, transformer], ids=lambda function: function.__name__)
def test_log_probabilities_over_regions_are_those_of_the_project_s_layers(
    tmp_path: Path, weights_of_flat: dict[int, str], forward: Any
) -> None:
    path, parts = write_sample(tmp_path / "log", forward.__name__, num_att_heads=2)
    loaded = imported(path, "ruotianluo", tmp_path / "run", encoder="flat_18", encoder_weights=weights_of_flat[18])
    assert loaded.settings.encoder.grid_size == 14
    grid, vector = torch.randn(2, 3, 18), torch.randn(2, D)
    captions, theirs = [[4, 5, 3], [6]], [0, 0, 0, 4, 1, 2, 3]
    for image, logits in enumerate(logits_of(loaded, ImageFeatures(vector, grid), captions)):
        ids = [theirs[token] for token in [1, *captions[image]]]
        with torch.no_grad():
            expected = forward(parts, grid[image], vector[image], ids)
        check_close(logits.log_softmax(1)[:, 2:], expected[:, theirs[2:]])


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
