"""Photos of a split, chosen at random, with the captions of two checkpoints: one sheet to look at.

    python benchmarks/before_after.py sheet.png flickr8k/ --checkpoint old_model flickr8k --photos 40 --blind key.json

Under each photo stand both captions, as A and B. With --blind their order is random for each photo, and the file says
which is which: judge first, then look. The photos may not be redistributed, so the sheet is not part of the repository.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from captioner import Captioner
from captioner.config import Flickr8kConfig
from captioner.data.datasets.registry import load_dataset
from captioner.data.images.decode import load_image
from captioner.plots.caption_sheet import caption_sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path, help="the PNG file to write")
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
    parser.add_argument("--checkpoint", type=Path, nargs=2, required=True, help="before, after")
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", type=Path, help="shuffle the two captions of each photo, and write which is which")
    arguments = parser.parse_args()

    dataset = load_dataset(Flickr8kConfig(root=str(arguments.flickr8k)), arguments.split)
    generator = random.Random(arguments.seed)
    images = generator.sample(list(dataset.images), arguments.photos)
    paths = [image.path for image in images]
    of_models = [
        [caption.text for caption in Captioner.from_checkpoint(checkpoint).caption(paths)]
        for checkpoint in arguments.checkpoint
    ]
    rows = []
    for image, before, after in zip(images, *of_models, strict=True):
        swapped = arguments.blind is not None and generator.random() < 0.5
        rows.append(
            {"photo": str(image.image_id), "before": before, "after": after, "A": "after" if swapped else "before"}
        )
    shown = [(row["before"], row["after"]) if row["A"] == "before" else (row["after"], row["before"]) for row in rows]
    caption_sheet(
        [load_image(path) for path in paths],
        [f"{number} A: {first}" for number, (first, _) in enumerate(shown, 1)],
        arguments.sheet,
        references=[[f"B: {second}"] for _, second in shown],
        columns=arguments.columns,
    )
    if arguments.blind is not None:
        arguments.blind.write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
