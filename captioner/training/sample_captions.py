"""A fixed handful of validation images: what the model says of them, and where it looks, after each validation.

Both go to TensorBoard, whose slider then leads through the training. Images are drawn with PIL, small and at once;
those for papers are made by `captioner.plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.data.images.decode import load_image
from captioner.data.images.transforms import resize_image
from captioner.decode import search
from captioner.errors import ImageError
from captioner.training.run import Run
from captioner.training.tensorboard import TensorBoardLog

SHOWN = 4  # images
TILE, LINE = 112, 18  # pixels: an image's side, and the height of the word above it
SHADE = 0.2  # how bright a place is that was not looked at


@dataclass(frozen=True)
class SampleCaption:
    """What is said of an image: its number in the split, the words, and the grid's weights (T, P) at each."""

    index: int
    words: list[str]
    attention: Tensor | None


def caption_samples(run: Run, decode: DecodeConfig) -> list[SampleCaption]:
    """Captions of a few images, spread over the validation split: the same ones at every validation."""
    count = min(SHOWN, len(run.val_set))
    chosen = [number * len(run.val_set) // count for number in range(count)]
    was_training = run.model.training
    run.model.eval()
    try:
        with torch.inference_mode():
            indices, features = next(iter(run.val_features.batches([chosen])))
            if not indices:  # not one of them can be read
                return []
            ids = [run.val_set.images[index].image_id for index in indices]
            found = search(run.model.decoder, features, decode, run.vocabulary.special, image_ids=ids)
    finally:
        run.model.train(was_training)
    return [
        SampleCaption(
            index, run.vocabulary.decode(best.tokens), None if best.attention is None else best.attention.cpu()
        )
        for index, (best, *_) in zip(indices, found, strict=True)
    ]


def log_samples(run: Run, samples: Sequence[SampleCaption], tensorboard: TensorBoardLog) -> None:
    """The captions as a table, beside what a person said; and the images, where the model attends."""
    lines = ["| image | the model | a person |", "|---|---|---|"]
    for sample in samples:
        image = run.val_set.images[sample.index]
        person = image.captions[0] if image.captions else ""
        cells = (str(image.image_id), run.tokenizer.join(sample.words), person)
        lines.append(f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in cells)} |")
    tensorboard.text("validation/captions", run.progress.step, "\n".join(lines))
    if any(sample.attention is not None and sample.words for sample in samples):
        tensorboard.image("validation/attention", run.progress.step, attention_sheet(run, samples))


def attention_sheet(run: Run, samples: Sequence[SampleCaption]) -> Tensor:
    """(H, W, 3) uint8: a row an image; first itself, then for each word the same, lit where it was looked at.

    A caption's words share one scale: its greatest weight is full light.
    """
    columns = 1 + max(len(sample.words) for sample in samples)
    sheet = Image.new("RGB", (columns * TILE, len(samples) * (TILE + LINE)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row, sample in enumerate(samples):
        seen = seen_image(run, sample.index)
        tiles = [seen]
        if sample.attention is not None and sample.words:
            light = sample.attention.float() / sample.attention.max()
            tiles += [lit(seen, weights.view(run.model.encoder.grid_size).numpy()) for weights in light]
        for column, (tile, word) in enumerate(zip(tiles, ["", *sample.words], strict=True)):
            left, top = column * TILE, row * (TILE + LINE)
            pen.text((left + 2, top + 2), word, fill="black", font=font)
            sheet.paste(tile, (left, top + LINE))
    return torch.from_numpy(np.array(sheet))


def seen_image(run: Run, index: int) -> Image.Image:
    """What the encoder sees of an image of the validation split, as a tile; grey where it cannot be read any more."""
    try:
        image = load_image(run.val_set.images[index].path, at_least=TILE)
    except ImageError:  # its features may well be in the cache: no reason to end a training
        return Image.new("RGB", (TILE, TILE), "grey")
    return resize_image(image, run.model.encoder.transform).resize((TILE, TILE))


def lit(image: Image.Image, light: NDArray[np.float32]) -> Image.Image:
    """`image`, dark where the light (rows, columns) of its cells is 0, and as it is where that is 1."""
    mask = Image.fromarray(np.round(255 * light).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    brightness = SHADE + (1 - SHADE) * np.asarray(mask, dtype=np.float32)[:, :, None] / 255
    return Image.fromarray(np.round(np.asarray(image) * brightness).astype(np.uint8))
