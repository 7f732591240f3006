"""What `make demo` runs: train on drawn pictures, score captions of held-out ones, show what was said and looked at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.cli.run import run_command
from captioner.cli.train import shown, start_run
from captioner.data.dataset import CaptionedImage

SHOWN = 3  # captions printed beside their references
DRAWN = 6  # pictures on the sheet


def main() -> None:
    """The entry point; options are those of train.py."""
    sys.exit(run_command(lambda: _tour(sys.argv[1:])))


def _tour(overrides: Sequence[str]) -> None:
    from captioner.cli.settings import compose_train_settings, run_folder_name
    from captioner.data.build import load_dataset
    from captioner.data.pictures import open_picture
    from captioner.engine.evaluation import format_scores
    from captioner.inference import Captioner
    from captioner.plots import attention_sheet

    config = compose_train_settings(["experiment=demo", *overrides])
    folder = Path(run_folder_name(None, "demo"))
    folder.mkdir(parents=True)
    result = start_run(config, folder)
    (split, evaluation), *_ = result.evaluations.items()
    sys.stdout.write(f"\nHeld-out pictures ({split}), captions searched with a beam:\n")
    sys.stdout.write(format_scores([(split, evaluation.scores.corpus)], "split") + "\n")

    pictures = _spread(load_dataset(config.data, split).images, DRAWN)
    captions = Captioner.from_checkpoint(folder, config.device).caption([picture.path for picture in pictures])
    for picture, caption in list(zip(pictures, captions, strict=True))[:SHOWN]:
        sys.stdout.write(f"\n{picture.path.name}: {caption.text}\n")
        sys.stdout.writelines(f"    a person: {reference}\n" for reference in picture.captions)
    sheet = folder / "attention.png"
    attention_sheet(
        [open_picture(picture.path) for picture in pictures],
        captions,
        sheet,
        references=[picture.captions for picture in pictures],
        resize=config.encoder.resize,
    )
    sys.stdout.write(
        f"\nPictures, captions, and where attention looked at each word: {shown(sheet)}\n"
        f"Caption a photo of your own: .venv/bin/python caption.py photo.jpg --checkpoint {shown(folder)}\n"
    )


def _spread(images: Sequence[CaptionedImage], count: int) -> list[CaptionedImage]:
    """So many images, evenly over the whole split."""
    return [images[i * len(images) // count] for i in range(min(count, len(images)))]


if __name__ == "__main__":
    main()
