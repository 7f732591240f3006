"""Exports: equal captions, no unnecessary content, and detection of another encoder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from captioner.checkpoint import omitted_weights
from captioner.checkpoint.checkpoint import (
    CheckpointSettings,
    LoadedCheckpoint,
    load_checkpoint,
    load_trainer_state,
    save_checkpoint,
)
from captioner.checkpoint.export import CARD_FILE, new_export, write_export
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.safetensors_file import SafetensorsFile
from captioner.config import AttentionConfig, DecodeConfig, EncoderConfig, TokenizerConfig
from captioner.errors import CheckpointError, ConfigError, WeightsError
from captioner.inference import Captioner
from captioner.nn.build_model import build_model
from captioner.text.vocabulary import Vocabulary
from tests.checkpoint.forging import forge_config
from tests.tiny import ENCODER

VOCABULARY = Vocabulary(["a", "dog", "犬", "runs", "fast"])
MODEL = AttentionConfig(embedding_dim=6, hidden_dim=8, attention_dim=5, tie_embeddings=True)
LITE = EncoderConfig(image_size=64)
PHOTO = torch.rand(3, 80, 64, generator=torch.Generator().manual_seed(3))


def trained(folder: Path, encoder: EncoderConfig, change: Any = None) -> Path:
    """A run folder with one checkpoint; `change` is applied to the model before it is saved."""
    folder.mkdir()
    model = build_model(MODEL, encoder, len(VOCABULARY))
    if change is not None:
        change(model)
    settings = CheckpointSettings(
        MODEL, encoder, model.encoder.transform, TokenizerConfig(), DecodeConfig(max_length=9, beam_width=2)
    )
    save_checkpoint(folder, 12, model, VOCABULARY, settings, {"step": 12}, is_best=True)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the published, frozen EfficientNet-Lite0."""
    return trained(tmp_path_factory.mktemp("trained") / "run", LITE)


@pytest.fixture(scope="module")
def export(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in float32, without encoder weights."""
    folder = tmp_path_factory.mktemp("exported")
    write_export(load_checkpoint(run), folder, half=False)
    return folder


def stored_names(folder: Path) -> set[str]:
    with safe_open(find_checkpoint(folder) / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_a_float32_export_is_equal_bit_by_bit(run: Path, export: Path) -> None:
    ours, theirs = load_checkpoint(run), load_checkpoint(export)
    assert theirs.settings == ours.settings
    assert theirs.vocabulary == ours.vocabulary
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(tensor, theirs.model.state_dict()[name]), name
    first, second = (Captioner.from_checkpoint(folder, "cpu").caption(PHOTO) for folder in (run, export))
    assert first == second
    assert theirs.path.name == ours.path.name == "step-00000012"


def test_an_export_omits_published_encoder_weights_and_the_trainer_state(run: Path, export: Path) -> None:
    assert not [name for name in stored_names(export) if name.startswith("encoder.")]
    checkpoint = find_checkpoint(export)
    assert {path.name for path in checkpoint.iterdir()} == {
        "model.safetensors",
        "config.json",
        "vocab.json",
        "SHA256SUMS",
    }
    with pytest.raises(CheckpointError, match=r"trainer\.pt is missing"):
        load_trainer_state(checkpoint)
    omitted = json.loads((checkpoint / "config.json").read_text())["omitted_weights"]
    assert omitted["blocks"] == load_checkpoint(run).model.encoder.blocks


def test_an_export_contains_only_the_fine_tuned_blocks_of_the_encoder(tmp_path: Path) -> None:
    def learn(model: Any) -> None:
        with torch.no_grad():
            model.encoder.trunk.features[8][0].weight[0, 0] += 1e-3

    run = trained(tmp_path / "run", replace(LITE, fine_tune_from="features.8"), learn)
    packed = write_export(load_checkpoint(run), tmp_path / "export", half=False)
    assert packed.omitted_weights is not None
    assert packed.omitted_weights.blocks == [f"features.{block}" for block in range(8)]
    encoder = {name for name in stored_names(tmp_path / "export") if name.startswith("encoder.")}
    assert encoder
    assert all(name.startswith("encoder.trunk.features.8.") for name in encoder)
    exported = load_checkpoint(tmp_path / "export").model.state_dict()
    for name, tensor in load_checkpoint(run).model.state_dict().items():
        assert torch.equal(tensor, exported[name]), name


def test_float16_changes_the_probability_of_a_caption_little(run: Path, tmp_path: Path) -> None:
    packed = write_export(load_checkpoint(run), tmp_path / "export")
    assert packed.half
    ours, theirs = (Captioner.from_checkpoint(folder, "cpu").caption(PHOTO) for folder in (run, tmp_path / "export"))
    assert theirs.text == ours.text
    assert theirs.log_prob == pytest.approx(ours.log_prob, rel=1e-3)
    assert all(p.dtype == torch.float32 for p in load_checkpoint(tmp_path / "export").model.parameters())
    half = (find_checkpoint(tmp_path / "export") / "model.safetensors").stat().st_size
    assert half < 0.6 * sum(4 * p.numel() for p in load_checkpoint(run).model.decoder.parameters())


def test_an_export_in_8_bits_is_restored_alike_with_and_without_torch(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    model = AttentionConfig(embedding_dim=64, hidden_dim=64, attention_dim=64, tie_embeddings=True)
    network = build_model(model, ENCODER, len(VOCABULARY))
    settings = CheckpointSettings(
        model, ENCODER, network.encoder.transform, TokenizerConfig(), DecodeConfig(max_length=9, beam_width=2)
    )
    save_checkpoint(folder, 12, network, VOCABULARY, settings, {"step": 12}, is_best=True)
    loaded = load_checkpoint(folder)
    packed = write_export(loaded, tmp_path / "export", in_8_bits=["decoder"])
    assert packed.in_8_bits
    assert all(name.startswith("decoder.") for name in packed.in_8_bits)
    back = load_checkpoint(tmp_path / "export").model.state_dict()
    file = SafetensorsFile.read(find_checkpoint(tmp_path / "export") / "model.safetensors")
    for name, original in loaded.model.state_dict().items():
        if name in packed.in_8_bits:
            scale = file.array(f"{name}.scale")
            assert np.array_equal(back[name].numpy(), file.array(name).astype(np.float32) * scale)
            assert ((back[name] - original).abs().numpy() <= scale * 0.5001).all()
        elif original.is_floating_point():
            assert torch.equal(back[name], original.half().float() if original.dim() >= 2 else original), name
    ours, theirs = (Captioner.from_checkpoint(path, "cpu").caption(PHOTO) for path in (folder, tmp_path / "export"))
    assert theirs.log_prob == pytest.approx(ours.log_prob, rel=0.05)
    write_export(load_checkpoint(tmp_path / "export"), tmp_path / "again", in_8_bits=["decoder"])
    again = load_checkpoint(tmp_path / "again").model.state_dict()
    assert all(torch.allclose(tensor, again[name], rtol=1e-6, atol=0) for name, tensor in back.items())


def test_8_bits_and_float32_exclude_each_other(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave one of the two out"):
        write_export(load_checkpoint(run), tmp_path / "export", half=False, in_8_bits=["decoder"])


def test_other_published_weights_are_detected(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = omitted_weights.published_weights

    def another(*arguments: Any) -> dict[str, Tensor]:
        weights = published(*arguments)
        weights["features.0.0.weight"] = weights["features.0.0.weight"] * (1 + 1e-6)
        return weights

    monkeypatch.setattr(omitted_weights, "published_weights", another)
    with pytest.raises(CheckpointError, match=r"omits weights of efficientnet_lite0 .* differ from them: install"):
        load_checkpoint(export)


def test_an_export_contains_encoder_weights_that_are_unavailable(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_checkpoint(run)

    def gone(*arguments: Any) -> dict[str, Tensor]:
        raise WeightsError("The weights are gone.")

    monkeypatch.setattr(omitted_weights, "published_weights", gone)
    packed = write_export(loaded, tmp_path / "export")
    assert packed.omitted_weights is None
    assert packed.why_whole == "The weights are gone."
    load_checkpoint(tmp_path / "export")


@pytest.mark.parametrize("weights", [None, "somewhere/weights.pth"])
def test_an_export_contains_random_and_private_weights(tmp_path: Path, weights: str | None) -> None:
    loaded = load_checkpoint(trained(tmp_path / "run", ENCODER))
    settings = replace(loaded.settings, encoder=replace(ENCODER, weights=weights))
    packed = write_export(replace(loaded, settings=settings), tmp_path / "export", half=False)
    assert packed.omitted_weights is None
    back = load_checkpoint(tmp_path / "export")
    assert back.settings.encoder.weights == (weights and "weights.pth")  # without the private path
    assert all(torch.equal(t, back.model.state_dict()[name]) for name, t in loaded.model.state_dict().items())


def test_exporting_a_model_twice_gives_equal_bytes(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_export(load_checkpoint(run), tmp_path / name)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("a", "b")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"blocks": ["features.99"]}, "omitted_weights names 'features.99', which is not a block"),
        ({"blocks": ["features.0"]}, "differ from them"),
        ({"sha256": "0" * 64}, "differ from them"),
        ({"blocks": "features.0"}, "has the wrong type"),
        ({"path": "/etc/passwd"}, r"omitted_weights\.path does not exist"),
    ],
)
def test_an_altered_list_of_omitted_weights(
    run: Path, export: Path, tmp_path: Path, changed: dict[str, Any], match: str
) -> None:
    folder = find_checkpoint(copy_of(export, tmp_path))
    forge_config(folder, lambda config: config["omitted_weights"].update(changed))
    with pytest.raises(CheckpointError, match=match):
        load_checkpoint(folder)


def test_a_checkpoint_cannot_make_the_loader_read_a_weights_file(export: Path, tmp_path: Path) -> None:
    """Otherwise the sender of a checkpoint could choose files to read."""
    (tmp_path / "weights.pth").write_bytes(b"read by nobody")
    folder = find_checkpoint(copy_of(export, tmp_path))
    forge_config(folder, lambda config: config["encoder"].update(weights=str(tmp_path / "weights.pth")))
    with pytest.raises(CheckpointError, match="omitted_weights needs published weights"):
        load_checkpoint(folder)


def copy_of(export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(export, tmp_path / "copy"))


def loaded_tiny(tmp_path: Path) -> LoadedCheckpoint:
    return load_checkpoint(trained(tmp_path / "run", ENCODER))


def test_a_size_limit_that_cannot_be_met_and_one_without_float16(tmp_path: Path) -> None:
    loaded = loaded_tiny(tmp_path)
    with pytest.raises(CheckpointError, match="The weights take"):
        write_export(loaded, tmp_path / "export", most_bytes=1000)
    with pytest.raises(ConfigError, match="leave one of the two out"):
        write_export(loaded, tmp_path / "export", most_bytes=1000, half=False)


def test_only_an_export_can_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "export"
    with new_export(target) as folder:
        (folder / CARD_FILE).write_text("first")
    with pytest.raises(CheckpointError, match="exists already"), new_export(target):
        pass
    with new_export(target, replace_export=True) as folder:
        (folder / CARD_FILE).write_text("second")
    assert (target / CARD_FILE).read_text() == "second"
    with pytest.raises(ZeroDivisionError), new_export(target, replace_export=True):
        _ = 1 / 0
    assert (target / CARD_FILE).read_text() == "second"
    (target / "checkpoints").mkdir()
    (target / "checkpoints" / "trainer.pt").write_text("a training")
    with pytest.raises(CheckpointError, match="not replaced"), new_export(target, replace_export=True):
        pass
    (tmp_path / "photos").mkdir()
    with pytest.raises(CheckpointError, match="not replaced"), new_export(tmp_path / "photos", replace_export=True):
        pass
    with pytest.raises(CheckpointError, match="does not exist"), new_export(tmp_path / "no" / "where"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "photos"]
