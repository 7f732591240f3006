"""Write the samples of the current format version.

    python tests/checkpoint/samples/make.py

Run it before `FORMAT_VERSION` grows, and again for the new version. Each sample is the complete run folder of
`python train.py …`: checkpoints with encoder weights and optimizer, settings, logs. To keep it small, the encoder is
a small network with nearly all weights zero, which compress well. `expected.json` has the captions of the models, and
for the run `interrupted`, which was stopped in the RL phase, those of the same run without interruption.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import get_model

FOLDER = Path(__file__).parent
COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (250, 250, 250)}
SPLITS = ("train", "train", "val", "test")
CAPTIONERS = {
    "recurrent": ("model=lstm", "model.hidden_dim=8"),
    "attention": ("model=attention", "model.hidden_dim=6", "model.attention_dim=4", "model.cell=gru"),
}
SETTINGS = (
    "data=folder",
    "data.root=data",
    "data.num_workers=0",
    "encoder=torchvision",
    "encoder.name=squeezenet1_1",
    "encoder.weights=sparse.pth",
    "encoder.image_size=64",
    "model.embedding_dim=8",
    "model.dropout=0",
    "vocabulary.min_count=1",
    "cache.directory=cache",
    "optim.learning_rate=0.005",
    "trainer.label_smoothing=0",
    "trainer.batch_size=8",
    "trainer.max_epochs=300",
    "trainer.validate_every=300",
    "trainer.log_every=100",
    "trainer.eval_batch_size=4",
    "metric.names=[Bleu,CIDEr]",
    "decode.max_length=9",
    "device=cpu",
)
INTERRUPTED = (
    *("model=attention", "model.hidden_dim=6", "model.attention_dim=4", "model.cell=gru"),
    *("reward=cider", "reward.after=4", "trainer.ema=0.9", "data.on_bad_image=skip"),
)
INTERRUPTED_SETTINGS = (
    *("trainer.max_epochs=8", "trainer.batch_size=4", "trainer.validate_every=1", "trainer.log_every=1"),
    *("optim.warmup_steps=2", "optim.learning_rate=0.02", "reward.learning_rate=0.01"),
)
STOP_AT_EPOCH = 6
LANGUAGE_MODEL = (
    "task=language_model",
    "data.size=20000",
    "model.embedding_dim=8",
    "model.hidden_dim=10",
    "optim.learning_rate=0.01",
    "trainer.max_epochs=2",
    "trainer.streams=8",
    "trainer.validate_every=1000",
    "trainer.sample_stages=1",
    "trainer.baseline_order=0",
    "sampling.length=40",
    "device=cpu",
)


def images() -> dict[str, Image.Image]:
    """Name → an image of 64 × 64 pixels with one colored half, equal on every machine."""
    named = {}
    for color, rgb in COLORS.items():
        for side, columns in (("top", slice(0, 32)), ("bottom", slice(32, 64))):
            pixels = np.full((64, 64, 3), 110, np.uint8)
            pixels[columns] = rgb
            named[f"{color}-{side}.png"] = Image.fromarray(pixels)
    return named


def write_data(folder: Path) -> None:
    """The eight images in every split, with two captions each."""
    folder.mkdir()
    lines = ["image,caption,split"]
    for number, split in enumerate(SPLITS):
        for name, image in images().items():
            color, side = name.removesuffix(".png").split("-")
            image.save(folder / f"{number}-{name}")
            lines.append(f"{number}-{name},a {color} half at the {side},{split}")
            lines.append(f"{number}-{name},the {side} is {color},{split}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_sparse_weights(path: Path) -> None:
    """Write a state dict of squeezenet1_1 with nearly all weights zero: every fourth channel reads six inputs."""
    generator = torch.Generator().manual_seed(0)
    state = get_model("squeezenet1_1").state_dict()
    for name, tensor in state.items():
        tensor.zero_()
        if name == "features.0.weight":
            tensor.copy_(0.3 * signs(tensor.shape, generator))
        elif name.endswith("weight"):
            for channel in tensor[::4]:
                inputs = 4 * torch.randperm(len(channel) // 4, generator=generator)[:6]
                rows, columns = torch.randint(tensor.shape[2], (2, len(inputs)), generator=generator)
                channel[inputs, rows, columns] = 0.45 * signs((len(inputs),), generator)
    torch.save(state, path)


def signs(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """1 and −1, more of the former, so that most channels are active."""
    return 2.0 * (torch.rand(shape, generator=generator) < 0.6) - 1


def train(*settings: str, folder: str = "run") -> None:
    """Run `python train.py …` with the captioner that this Python imports."""
    subprocess.run([sys.executable, "-m", "captioner", "train", *settings, f"hydra.run.dir={folder}"], check=True)


def train_interrupted(gradient_accumulation: str) -> None:
    """Train in `run`, and stop after a step of epoch `STOP_AT_EPOCH`; train in `uninterrupted` to the end."""
    settings = (*INTERRUPTED, *SETTINGS, *INTERRUPTED_SETTINGS, gradient_accumulation)
    train(*settings, folder="uninterrupted")
    command = [sys.executable, "-m", "captioner", "train", *settings, "hydra.run.dir=run"]
    with subprocess.Popen(command) as process:
        log, marks = Path("run/log.jsonl"), (f'"epoch": {STOP_AT_EPOCH}', f'"epoch":{STOP_AT_EPOCH}')
        while not (log.is_file() and any(mark in log.read_text() for mark in marks)):
            if process.poll() is not None:
                raise RuntimeError("The run ended before it could be interrupted: give it more epochs.")
            time.sleep(0.002)
        process.terminate()


def write_damaged_image(folder: Path) -> None:
    """Make a training image unreadable."""
    (folder / "0-red-top.png").write_bytes(b"damaged")


def pack(run: Path, target: Path) -> None:
    """Write the run folder as a .tar.xz without the user names, times and permissions of this machine."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(target, "w:xz", preset=9) as archive:
        archive.add(run, "run", filter=anonymous)


def captions(run: Path) -> dict[str, dict[str, object]]:
    """Image → generated caption and its log-probability."""
    from captioner import Captioner

    model = Captioner.from_checkpoint(run, device="cpu")
    generated = {name: model.caption(image) for name, image in images().items()}
    return {
        name: {"caption": caption.text, "log_prob": round(caption.log_prob, 5)} for name, caption in generated.items()
    }


def latest_checkpoint(run: Path) -> Path:
    """The folder of the run's latest checkpoint."""
    return run / "checkpoints" / str(json.loads((run / "checkpoints" / "index.json").read_text())["latest"])


def bits(run: Path) -> float:
    """The cross-entropy of the language model on a text, in bits per character."""
    from captioner.checkpoint.language_model_checkpoint import load_language_model
    from captioner.training.language_model.held_out_loss import mean_bits

    loaded = load_language_model(run)
    return round(mean_bits(loaded.model, torch.tensor(loaded.vocabulary.encode("the same words again and again"))), 5)


def main() -> None:
    from captioner.checkpoint.checkpoint import FORMAT_VERSION

    target = FOLDER / f"version_{FORMAT_VERSION}"
    target.mkdir(exist_ok=True)
    expected: dict[str, object] = {}
    for name, settings in {**CAPTIONERS, "language_model": LANGUAGE_MODEL}.items():
        with tempfile.TemporaryDirectory() as scratch:
            os.chdir(scratch)
            if name in CAPTIONERS:
                write_data(Path("data"))
                write_sparse_weights(Path("sparse.pth"))
                train(*settings, *SETTINGS)
                expected[name] = captions(Path("run"))
            else:
                train(*settings)
                expected[name] = bits(Path("run"))
            pack(Path("run"), target / f"{name}.tar.xz")
            os.chdir(FOLDER)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        write_data(Path("data"))
        write_damaged_image(Path("data"))
        write_sparse_weights(Path("sparse.pth"))
        train_interrupted("trainer.gradient_accumulation_steps=2")
        pack(Path("run"), target / "interrupted.tar.xz")
        expected["interrupted"] = captions(latest_checkpoint(Path("uninterrupted")))
        os.chdir(FOLDER)
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
