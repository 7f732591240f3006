"""`captioner quickstart` trains, scores and captions held-out scenes, and says where everything is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli import train_job
from captioner.cli.quickstart import PLOTTED, PRINTED, main
from captioner.config import ScenesConfig
from captioner.data.datasets.registry import load_dataset
from captioner.errors import ConfigError
from captioner.inference import Captioner
from captioner.metrics.meteor import paraphrases
from tests.cli.conftest import SMALL, Command

SIZES = {"train_size": 12, "val_size": 4, "test_size": 8}
TINY = [
    *(option for option in SMALL if not option.startswith(("data", "device"))),
    *(f"data.{name}={size}" for name, size in SIZES.items()),
    "data.num_workers=0",
    "model.attention_dim=8",
    "model.grid_dim=8",
    "decode.max_length=6",
]


def sets(*options: str) -> list[str]:
    return [part for option in options for part in ("--set", option)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_what_is_printed_is_what_the_model_says(command: Command, tmp_path: Path) -> None:
    outcome = command(main, "--device", "cpu", *sets(*TINY))
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("demo")
    images = load_dataset(ScenesConfig(num_workers=0, **SIZES), "test").images
    shown = [images[index * len(images) // PLOTTED] for index in range(PRINTED)]
    captions = Captioner.from_checkpoint(folder, "cpu").caption([image.path for image in shown], tags=False)
    expected = [
        line
        for image, caption in zip(shown, captions, strict=True)
        for line in (f"{image.path.name}: {caption.text}", *(f"    reference: {text}" for text in image.captions))
    ]
    lines = outcome.out.splitlines()
    first = lines.index(expected[0])
    assert [line for line in lines[first : first + len(expected) + PRINTED - 1] if line] == expected
    assert "Held-out images (test), captions by beam search:" in outcome.out
    assert f"--checkpoint runs/{folder.name}" in outcome.out
    with Image.open(folder / "attention.png") as sheet:
        assert sheet.width > sheet.height / PLOTTED


def test_a_typo_writes_nothing(command: Command, tmp_path: Path) -> None:
    outcome = command(main, *sets("trainer.max_epoch=2"))
    assert outcome.code == 2
    assert "trainer.max_epochs" in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "made"),
    [([], True), (["meteor.backend=java"], False), (["metric.names=[Bleu,CIDEr]"], False)],
)
def test_the_index_of_meteor_is_made_where_it_is_used(
    command: Command, monkeypatch: pytest.MonkeyPatch, options: list[str], made: bool
) -> None:
    begun: list[bool] = []

    @contextmanager
    def index_made_beside() -> Iterator[None]:
        begun.append(True)
        yield

    def no_training(*_: object) -> None:
        raise ConfigError("no training here")

    monkeypatch.setattr(paraphrases, "index_made_beside", index_made_beside)
    monkeypatch.setattr(train_job, "train_in_folder", no_training)
    outcome = command(main, "--device", "cpu", *sets(*options))
    assert outcome.code == 2
    assert "no training here" in outcome.err
    assert bool(begun) == made
