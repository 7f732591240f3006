"""`python -m captioner quickstart`, which is `make demo`: train a small captioner on synthetic images and try it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from captioner.cli.flags import FlagParser, add_device, add_set
from captioner.cli.main import run_command
from captioner.cli.runs_folder import shown
from captioner.data.dataset import CaptionedImage
from captioner.distributed.device import check_device_name

PRINTED = 3  # captions printed beside their references
PLOTTED = 6  # images in the plot


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _quickstart(_parser().read(sys.argv[1:]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "quickstart",
        "Train a small captioner with attention on synthetic images, score its captions of held-out images, and plot\n"
        "where it attends. Takes 2 to 3 minutes of processor time. `make demo` runs this command.\n"
        "(`python -m captioner demo` opens a web page instead.)",
        ["quickstart", "quickstart --set trainer.max_epochs=2"],
    )
    add_set(parser, "a setting of train.py; may be repeated")
    add_device(parser)
    return parser


def _quickstart(arguments: argparse.Namespace) -> None:
    from captioner.cli.hydra_config import compose_train_settings, run_folder_name

    check_device_name(arguments.device)
    config = compose_train_settings(["experiment=demo", f"device={arguments.device}", *arguments.set])
    folder = Path(run_folder_name(None, "demo"))

    from captioner.metrics.meteor.paraphrases import index_made_beside

    needs_index = "METEOR" in config.metric.names and config.meteor.backend != "java"
    with index_made_beside() if needs_index else nullcontext():
        from captioner.cli.train_job import train_in_folder
        from captioner.data.datasets.registry import load_dataset
        from captioner.data.images.decode import load_image
        from captioner.evaluation.evaluation import format_scores
        from captioner.inference import Captioner
        from captioner.plots import attention_sheet
        from captioner.training.loop import TrainingResult

        folder.mkdir(parents=True)
        result = train_in_folder(config, folder)
    assert isinstance(result, TrainingResult)
    (split, evaluation), *_ = result.evaluations.items()
    sys.stdout.write(f"\nHeld-out images ({split}), captions by beam search:\n")
    sys.stdout.write(format_scores([(split, evaluation.table_row)], "split") + "\n")

    images = _evenly_spaced(load_dataset(config.data, split).images, PLOTTED)
    captioner = Captioner.from_checkpoint(folder, config.device)
    captions = captioner.caption([image.path for image in images], tags=False)
    for image, caption in list(zip(images, captions, strict=True))[:PRINTED]:
        sys.stdout.write(f"\n{image.path.name}: {caption.text}\n")
        sys.stdout.writelines(f"    reference: {reference}\n" for reference in image.captions)
    sheet = folder / "attention.png"
    attention_sheet(
        [load_image(image.path) for image in images],
        captions,
        sheet,
        references=[image.captions for image in images],
        resize=config.encoder.resize,
    )
    sys.stdout.write(
        f"\nImages, captions and attention weights per word: {shown(sheet)}\n"
        f"Caption a photo of your own: .venv/bin/python caption.py photo.jpg --checkpoint {shown(folder)}\n"
    )


def _evenly_spaced(images: Sequence[CaptionedImage], count: int) -> list[CaptionedImage]:
    """`count` images, evenly spaced over the split."""
    return [images[i * len(images) // count] for i in range(min(count, len(images)))]
