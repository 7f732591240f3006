"""Write the samples of today's format: run once, just before `FORMAT_VERSION` grows.

    python tests/checkpoint/samples/make.py

Each sample is what a person's `python train.py …` leaves behind, whole: the encoder's weights, the optimizer, the logs.
So that it can be kept in the repository, the encoder is a small network of which nearly all weights are zero: zeros
take no room in a packed file, and training with them is training like any other. `expected.json` holds what the model
says at that moment, which is what it must go on saying.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
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
    """Name → an image of 64 × 64 pixels with one colored half: the same on every machine and for ever."""
    drawn = {}
    for color, rgb in COLORS.items():
        for side, columns in (("top", slice(0, 32)), ("bottom", slice(32, 64))):
            pixels = np.full((64, 64, 3), 110, np.uint8)
            pixels[columns] = rgb
            drawn[f"{color}-{side}.png"] = Image.fromarray(pixels)
    return drawn


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
    """A state dict of squeezenet1_1, nearly all of it zero: of its channels, every fourth looks at six inputs."""
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
    """1 and −1, somewhat more of the former: most channels shall say something."""
    return 2.0 * (torch.rand(shape, generator=generator) < 0.6) - 1


def train(*settings: str) -> None:
    """`python train.py …` of the captioner that this Python finds."""
    subprocess.run([sys.executable, "-m", "captioner", "train", *settings, "hydra.run.dir=run"], check=True)


def pack(run: Path, target: Path) -> None:
    """The run folder as a .tar.xz without names, times or rights of whoever made it."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(target, "w:xz", preset=9) as archive:
        archive.add(run, "run", filter=anonymous)


def captions(run: Path) -> dict[str, dict[str, object]]:
    """What the model says of every image, and how sure it is."""
    from captioner import Captioner

    model = Captioner.from_checkpoint(run, device="cpu")
    said = {name: model.caption(image) for name, image in images().items()}
    return {name: {"caption": caption.text, "log_prob": round(caption.log_prob, 5)} for name, caption in said.items()}


def bits(run: Path) -> float:
    """What the language model gives for the letters of a sentence, in bits a character."""
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
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
