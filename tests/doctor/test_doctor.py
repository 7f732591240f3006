"""The doctor: each check detects the failure that it is for, and does not report a healthy model."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from captioner import Captioner
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.config import EncoderConfig, FolderConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.registry import load_dataset
from captioner.doctor.context import DiagnosticContext, build_context
from captioner.doctor.data_checks import check_leak, check_recorded_captions, check_unknown_words
from captioner.doctor.findings import SEVERITIES, Finding, format_findings, severity_by_limits, worst_severity
from captioner.doctor.input_checks import check_batch_norm, check_pixels
from captioner.doctor.model_checks import (
    check_attention,
    check_captions_end,
    check_identical_captions,
    check_image_matters,
    check_overfitting,
)
from captioner.doctor.run_checks import run_checks
from captioner.doctor.unit_checks import check_dead_units
from captioner.nn.cells import Cell
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.types import DecoderOutput

CPU = torch.device("cpu")


@pytest.fixture
def run(tiny_run: Path) -> Path:
    """A run that generates correct captions."""
    return tiny_run


@pytest.fixture
def data(run: Path) -> FolderConfig:
    return FolderConfig(root=str(run.parent / "data"), captions="captions.csv", num_workers=0)


@pytest.fixture
def checkpoint(run: Path) -> LoadedCheckpoint:
    return load_checkpoint(run)


@pytest.fixture
def diagnose(checkpoint: LoadedCheckpoint, data: FolderConfig) -> Callable[..., DiagnosticContext]:
    """Make the context of the tiny run; keyword arguments replace those of `build_context`."""

    def made(**changed: Any) -> DiagnosticContext:
        data_sets = {name: load_dataset(data, name.removesuffix("_set")) for name in ("train_set", "val_set")}
        settings = {"checkpoint": checkpoint, "data": data, "max_images": 16, "device": CPU, **data_sets, **changed}
        return build_context(**settings)

    return made


def test_the_bundled_model_is_searched_as_it_searches(data: FolderConfig) -> None:
    """Its search weighs classes and a predicted consensus, which the doctor has to provide."""
    checkpoint = load_checkpoint(Path("flickr8k"))
    assert checkpoint.settings.decode.class_weight > 0
    assert checkpoint.settings.decode.consensus_weight > 0
    split = load_dataset(data, "val")
    context = build_context(checkpoint, data, None, split, 3, CPU)
    captioner = Captioner(checkpoint, CPU)
    for image, found in zip(context.val.dataset, context.hypotheses, strict=True):
        expected = captioner.caption(image.path)
        assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-3)
        assert found.score == pytest.approx(expected.score, abs=1e-3)


def with_references(dataset: CaptionDataset, *captions: str) -> CaptionDataset:
    """The data set with other reference captions."""
    return replace(dataset, images=tuple(replace(image, captions=captions) for image in dataset))


def test_a_good_run_is_healthy(diagnose: Callable[..., DiagnosticContext]) -> None:
    findings = {finding.check: finding for finding in run_checks(diagnose())}
    assert len(findings) == 11
    assert findings["dead units"].severity == "healthy"
    bad = {name for name, finding in findings.items() if finding.severity in ("serious", "warning")}
    # These two are correct: images of one color and side differ in noise only, and need no attention.
    assert bad <= {"attention", "validation in train"}
    assert findings["BatchNorm"].severity == "skipped"
    assert all((finding.remedy != "") == (name in bad) for name, finding in findings.items())


def test_a_decoder_whose_image_weights_are_zero(
    diagnose: Callable[..., DiagnosticContext], checkpoint: LoadedCheckpoint
) -> None:
    healthy = diagnose()
    assert check_identical_captions(healthy).severity == check_image_matters(healthy).severity == "healthy"
    feature_dim = checkpoint.model.encoder.feature_dim
    of_image = [weight for weight in checkpoint.model.decoder.parameters() if weight.shape[-1:] == (feature_dim,)]
    assert len(of_image) == 4
    with torch.no_grad():
        for weight in of_image:
            weight.zero_()
    blind = diagnose()
    identical, matters = check_identical_captions(blind), check_image_matters(blind)
    assert (identical.severity, matters.severity) == ("serious", "serious")
    assert identical.values == {"distinct": 1, "most_frequent_share": 1.0}
    assert abs(matters.values["gap"]) < 1e-4
    assert "generated for 100%" in identical.evidence


def test_one_image_has_no_other_image(diagnose: Callable[..., DiagnosticContext]) -> None:
    assert check_image_matters(diagnose(max_images=1)).severity == "skipped"


@pytest.mark.parametrize(("share", "severity"), [(0.0, "healthy"), (0.25, "warning"), (0.75, "serious")])
def test_dead_units(
    diagnose: Callable[..., DiagnosticContext],
    checkpoint: LoadedCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    severity: str,
) -> None:
    """Dead: units with a constant output. (One unit of the run is saturated.)"""
    context = diagnose()
    saturated = check_dead_units(context).values["dead_layer1"]
    (cell,) = (part for part in checkpoint.model.decoder.modules() if isinstance(part, Cell))
    step, width = type(cell).step, checkpoint.settings.model.hidden_dim
    killed = int(share * width)

    def with_dead_units(self: Cell, inputs: torch.Tensor, hidden: Any) -> Any:
        top, *rest = step(self, inputs, hidden)
        return (torch.cat([torch.full_like(top[:, :killed], 0.25), top[:, killed:]], dim=1), *rest)

    monkeypatch.setattr(type(cell), "step", with_dead_units)
    finding = check_dead_units(context)
    dead = finding.values["dead_layer1"]
    assert finding.severity == severity
    assert max(saturated, killed) <= dead <= saturated + killed
    assert finding.values["share"] == dead / width
    assert f"{dead:.0f} of {width} in layer1" in finding.evidence
    assert (finding.remedy == "") == (severity == "healthy")


class _Attending(nn.Module):
    """A decoder with the given attention, (images, P), and logits of zero."""

    needs_grid = True

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, features: Any, captions: Any) -> DecoderOutput:
        return DecoderOutput(torch.zeros(len(captions.targets), 9), self.maps[captions.images[captions.rows]])


@pytest.mark.parametrize(
    ("maps", "severity", "kind"),
    [
        (torch.full((8, 9), 1 / 9), "warning", "uniform"),
        (torch.eye(9)[torch.zeros(8, dtype=torch.long)], "warning", "the same for every image"),
        (torch.eye(9)[:8], "healthy", "specific to the image"),
    ],
)
def test_attention(diagnose: Callable[..., DiagnosticContext], maps: torch.Tensor, severity: str, kind: str) -> None:
    context = diagnose()
    context.checkpoint.model.decoder = _Attending(maps)
    finding = check_attention(context)
    assert finding.severity == severity
    assert kind in finding.evidence


class _Remembering(nn.Module):
    """A decoder whose cross-entropy grows with the distance of the features from `remembered`."""

    needs_grid = False

    def __init__(self, remembered: torch.Tensor) -> None:
        super().__init__()
        self.remembered = remembered

    def forward(self, features: Any, captions: Any) -> DecoderOutput:
        logits = torch.zeros(len(captions.targets), 15)
        distance = (features.vector - self.remembered).norm(dim=1) / self.remembered.norm(dim=1)
        logits[:, 0] = 20 * distance[captions.images[captions.rows]]  # <PAD>, which is never a target
        return DecoderOutput(logits)


def test_batch_norm(diagnose: Callable[..., DiagnosticContext]) -> None:
    """Running statistics of other images; a model that was trained with the statistics of its batches."""
    encoder = build_encoder(EncoderConfig(image_size=64)).eval()
    context = diagnose()
    context.checkpoint.model.encoder = encoder
    with torch.no_grad():
        features = encoder(context.val.images)
        context = replace(context, val=replace(context.val, features=features))
        context.checkpoint.model.decoder = _Remembering(features.vector)
        assert check_batch_norm(context).severity == "healthy"

        trunk = copy.deepcopy(encoder.trunk)
        for module in trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
        context.checkpoint.model.decoder = _Remembering(trunk(context.val.images).flatten(2).mean(2))
        trained_on_batches = check_batch_norm(context)
        assert trained_on_batches.severity == "serious"
        assert trained_on_batches.values["train"] < trained_on_batches.values["eval"] - 0.5
        assert "batch_norm_eval=true" in trained_on_batches.remedy

        for module in encoder.trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 10 * module.running_var.sqrt()  # type: ignore[operator, union-attr]
        context.checkpoint.model.decoder = _Remembering(features.vector)
        assert check_batch_norm(context).values["distance"] > 3


@pytest.mark.parametrize(
    "changed",
    [
        {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)},  # 0 to 255
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},  # not normalized
        {"std": (0.05, 0.05, 0.05)},  # divided twice
    ],
)
def test_input_that_is_not_normalized(diagnose: Callable[..., DiagnosticContext], changed: dict[str, Any]) -> None:
    assert check_pixels(diagnose()).severity == "healthy"
    context = diagnose()
    encoder = context.checkpoint.model.encoder
    encoder.transform = replace(encoder.transform, **changed)
    finding = check_pixels(diagnose(checkpoint=context.checkpoint))
    assert finding.severity == "serious"
    assert "weights need [0.485, 0.456, 0.406]" in finding.evidence
    assert finding.values["std"] != pytest.approx(check_pixels(context).values["std"])


def test_words_that_are_not_in_the_vocabulary(diagnose: Callable[..., DiagnosticContext], data: FolderConfig) -> None:
    assert check_unknown_words(diagnose()).severity == "healthy"
    foreign = with_references(load_dataset(data, "val"), "eine rote Hälfte links", "a red half")
    finding = check_unknown_words(diagnose(val_set=foreign))
    assert finding.severity == "serious"
    assert finding.values["unknown_tokens"] == pytest.approx(4 / 7)


def test_captions_that_are_cut(diagnose: Callable[..., DiagnosticContext], checkpoint: LoadedCheckpoint) -> None:
    assert check_captions_end(diagnose()).severity == "healthy"
    settings = replace(checkpoint.settings, decode=replace(checkpoint.settings.decode, max_length=2))
    finding = check_captions_end(diagnose(checkpoint=replace(checkpoint, settings=settings)))
    assert finding.severity == "serious"
    assert finding.values["longer_references"] == 1.0


def test_a_model_that_overfits(diagnose: Callable[..., DiagnosticContext], data: FolderConfig) -> None:
    assert check_overfitting(diagnose()).severity == "healthy"
    other = with_references(load_dataset(data, "val"), "left the on half red a")
    finding = check_overfitting(diagnose(val_set=other))
    assert finding.severity == "serious"
    assert finding.values["val"] > finding.values["train"] + 3
    assert check_overfitting(diagnose(train_set=None)).severity == "skipped"


def _photo(path: Path, seed: int, **options: Any) -> Path:
    """A synthetic photo: random colors in large areas."""
    noise = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(seed)).mul(255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(noise).resize((96, 80), Image.Resampling.BICUBIC).save(path, **options)
    return path


def _photos(split: str, paths: list[Path], first: int) -> CaptionDataset:
    images = (CaptionedImage(first + number, path, ("a red half",)) for number, path in enumerate(paths))
    return CaptionDataset("photos", split, tuple(images))


def test_validation_images_in_train(diagnose: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    trained = [_photo(tmp_path / f"{seed}.png", seed) for seed in range(8)]
    fresh = [_photo(tmp_path / f"{seed}.png", seed) for seed in range(8, 12)]
    copied = shutil.copy(trained[2], tmp_path / "copied.png")
    reencoded = _photo(tmp_path / "reencoded.jpg", 5, quality=60)
    train_set = _photos("train", trained, 0)

    def finding(val: list[Path], first: int = 100, images: int = 99) -> Finding:
        return check_leak(diagnose(train_set=train_set, val_set=_photos("val", val, first)), images)

    assert finding(fresh).severity == "healthy"
    assert finding(fresh).values == {"ids": 0, "same_bytes": 0, "near": 0}
    same = finding([*fresh, copied])
    assert (same.severity, same.values) == ("serious", {"ids": 0, "same_bytes": 1, "near": 0})
    assert "copied.png" in same.evidence
    near = finding([*fresh, reencoded])
    assert (near.severity, near.values) == ("warning", {"ids": 0, "same_bytes": 0, "near": 1})
    assert finding(fresh, first=7).values["ids"] == 1
    assert finding([*fresh, copied], images=2).severity == "healthy"  # it is not among the images compared
    assert check_leak(replace(diagnose(), train_set=None), 9).severity == "skipped"


def test_captions_that_differ_from_the_recorded_ones(
    diagnose: Callable[..., DiagnosticContext], run: Path, tmp_path: Path
) -> None:
    assert check_recorded_captions(diagnose()).severity == "healthy"
    other = shutil.copytree(run, tmp_path / "run")
    rows = json.loads((other / "captions_val.json").read_text())
    (other / "captions_val.json").write_text(json.dumps([{**row, "caption": "a cat"} for row in rows]))
    finding = check_recorded_captions(diagnose(checkpoint=load_checkpoint(other)))
    assert (finding.severity, finding.values) == ("serious", {"differ": 1.0})
    for broken in ("{", "[1]", '[{"image_id": 1}]', '[{"image_id": 1, "caption": "of another image"}]'):
        (other / "captions_val.json").write_text(broken)
        assert check_recorded_captions(diagnose(checkpoint=load_checkpoint(other))).severity == "skipped"


def test_scores_of_another_search_are_not_those_of_the_checkpoint(
    diagnose: Callable[..., DiagnosticContext], run: Path, tmp_path: Path
) -> None:
    """Also where this search finds the same captions in the sampled images."""
    other = shutil.copytree(run, tmp_path / "run")
    metrics = other / "metrics.json"
    scored = json.loads(metrics.read_text())
    assert (
        "are those of this checkpoint." in check_recorded_captions(diagnose(checkpoint=load_checkpoint(other))).evidence
    )

    def finding(**decode: object) -> Finding:
        signature = scored["signature"]
        metrics.write_text(
            json.dumps({**scored, "signature": {**signature, "decode": {**signature["decode"], **decode}}})
        )
        return check_recorded_captions(diagnose(checkpoint=load_checkpoint(other)))

    own = load_checkpoint(other).settings.decode
    assert finding(temperature=0.5).severity == "healthy"  # this search does not read it
    found = finding(length_penalty=0.75)
    assert (found.severity, found.values) == ("warning", {"differ": 0.0})
    assert "are not those of this checkpoint, which were measured with" in found.evidence
    assert "length_penalty=0.75" in found.evidence
    assert f"it searches with {own.name} ({', '.join(own.described)}) now." in found.evidence
    assert finding(no_such_setting=1).severity == "healthy"  # the captions alone are compared


def test_severities_and_the_report() -> None:
    assert [severity_by_limits(value, 0.1, 0.5) for value in (0.1, 0.2, 0.6)] == [None, "warning", "serious"]
    assert [worst_severity(None), worst_severity("warning", None), worst_severity("warning", "serious")] == [
        None,
        "warning",
        "serious",
    ]
    page = format_findings([Finding(name, name, "why", "what to do") for name in reversed(SEVERITIES)])
    assert [line.split()[0] for line in page.splitlines()[::2]] == list(SEVERITIES)
    assert page.splitlines()[1].endswith("→ what to do")
