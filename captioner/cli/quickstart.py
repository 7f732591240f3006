"""What `make demo` runs: train on drawn images, score captions of held-out ones, show what was said and looked at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.cli.main import run_command
from captioner.cli.runs_folder import shown
from captioner.data.dataset import CaptionedImage

SHOWN = 3  # captions printed beside their references
DRAWN = 6  # images on the sheet


def main() -> None:
    """The entry point; options are those of train.py."""
    sys.exit(run_command(lambda: _tour(sys.argv[1:])))


def _tour(overrides: Sequence[str]) -> None:
    from captioner.cli.hydra_config import compose_train_settings, run_folder_name
    from captioner.cli.train_job import start_run
    from captioner.data.datasets.registry import load_dataset
    from captioner.data.images.decode import load_image
    from captioner.evaluation.evaluate import format_scores
    from captioner.inference import Captioner
    from captioner.plots import attention_sheet

    config = compose_train_settings(["experiment=demo", *overrides])
    folder = Path(run_folder_name(None, "demo"))
    folder.mkdir(parents=True)
    result = start_run(config, folder)
    (split, evaluation), *_ = result.evaluations.items()
    sys.stdout.write(f"\nHeld-out images ({split}), captions searched with a beam:\n")
    sys.stdout.write(format_scores([(split, evaluation.scores.corpus)], "split") + "\n")

    images = _spread(load_dataset(config.data, split).images, DRAWN)
    captions = Captioner.from_checkpoint(folder, config.device).caption([image.path for image in images])
    for image, caption in list(zip(images, captions, strict=True))[:SHOWN]:
        sys.stdout.write(f"\n{image.path.name}: {caption.text}\n")
        sys.stdout.writelines(f"    a person: {reference}\n" for reference in image.captions)
    sheet = folder / "attention.png"
    attention_sheet(
        [load_image(image.path) for image in images],
        captions,
        sheet,
        references=[image.captions for image in images],
        resize=config.encoder.resize,
    )
    sys.stdout.write(
        f"\nImages, captions, and where attention looked at each word: {shown(sheet)}\n"
        f"Caption a photo of your own: .venv/bin/python caption.py photo.jpg --checkpoint {shown(folder)}\n"
    )


def _spread(images: Sequence[CaptionedImage], count: int) -> list[CaptionedImage]:
    """So many images, evenly over the whole split."""
    return [images[i * len(images) // count] for i in range(min(count, len(images)))]


if __name__ == "__main__":
    main()
