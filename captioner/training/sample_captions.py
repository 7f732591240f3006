"""Generated captions of a few validation images, with the attention of each word, after each validation.

Both are written to TensorBoard, whose slider shows them over the training. PIL renders the images, small and fast;
`captioner.plots` renders figures for publications.
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
from captioner.data.image_views import views_of
from captioner.data.images.decode import beside_each_other, load_image
from captioner.data.images.transforms import resize_image
from captioner.decode import search
from captioner.errors import ImageError
from captioner.nn.side_by_side import attention_maps
from captioner.training.run import Run
from captioner.training.tensorboard import TensorBoardLog

SHOWN = 4  # images
TILE, LINE = 112, 18  # pixels: the side of an image, and the height of the word above it
SHADE = 0.2  # the brightness of regions with attention weight 0


@dataclass(frozen=True)
class SampleCaption:
    """The generated caption of an image: its index in the split, T words, and their attention weights (T, P)."""

    index: int
    words: list[str]
    attention: Tensor | None


def caption_samples(run: Run, decode: DecodeConfig) -> list[SampleCaption]:
    """Generated captions of a few images, evenly spaced in the validation split: the same images every time."""
    count = min(SHOWN, len(run.val_set))
    chosen = [number * len(run.val_set) // count for number in range(count)]
    was_training = run.model.training
    run.model.eval()
    try:
        with torch.inference_mode():
            indices, features = next(iter(run.val_features.batches([chosen])))
            if not indices:  # none of them can be read
                return []
            ids = [run.val_set.images[index].image_id for index in indices]
            found = search(
                run.model.decoder,
                features,
                decode,
                run.vocabulary.special,
                image_ids=ids,
                phrases=run.vocabulary.phrases,
            )
    finally:
        run.model.train(was_training)
    return [
        SampleCaption(
            index, run.vocabulary.decode_caption(best.tokens), None if best.attention is None else best.attention.cpu()
        )
        for index, (best, *_) in zip(indices, found, strict=True)
    ]


def log_samples(run: Run, samples: Sequence[SampleCaption], tensorboard: TensorBoardLog) -> None:
    """Write the captions as a table with a reference caption, and for models that attend the images with attention."""
    lines = ["| image | generated | reference |", "|---|---|---|"]
    for sample in samples:
        image = run.val_set.images[sample.index]
        reference = image.captions[0] if image.captions else ""
        entries = (str(image.image_id), run.tokenizer.join(sample.words), reference)
        lines.append(f"| {' | '.join(' '.join(entry.split()).replace('|', '&#124;') for entry in entries)} |")
    tensorboard.text("validation/captions", run.progress.step, "\n".join(lines))
    encodes = run.model.encoder.encodes_images  # regions of features made elsewhere have no place in a grid
    if encodes and any(sample.attention is not None and sample.words for sample in samples):
        tensorboard.image("validation/attention", run.progress.step, attention_sheet(run, samples))


def attention_sheet(run: Run, samples: Sequence[SampleCaption]) -> Tensor:
    """An overview (H, W, 3) uint8, one row per image: the image, and then for each word the image lit by the attention.

    The words of a caption share one scale: its greatest attention weight has full brightness.
    """
    columns = 1 + max(len(sample.words) for sample in samples)
    sheet = Image.new("RGB", (columns * TILE, len(samples) * (TILE + LINE)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row, sample in enumerate(samples):
        view = encoder_view(run, sample.index)
        tiles = [view]
        if sample.attention is not None and sample.words:
            light = sample.attention.float() / sample.attention.max()
            views = len(views_of(run.val_set.images[sample.index].path))
            maps = attention_maps(light, run.model.encoder.grid_size, views)
            tiles += [lit_by_attention(view, weights.numpy()) for weights in maps]
        for column, (tile, word) in enumerate(zip(tiles, ["", *sample.words], strict=True)):
            left, top = column * TILE, row * (TILE + LINE)
            pen.text((left + 2, top + 2), word, fill="black", font=font)
            sheet.paste(tile, (left, top + LINE))
    return torch.from_numpy(np.array(sheet))


def encoder_view(run: Run, index: int) -> Image.Image:
    """A validation image as the encoder gets it, resized to a tile; gray if it can no longer be read."""
    transform = run.model.encoder.transform
    try:
        paths = views_of(run.val_set.images[index].path)
        images = [load_image(path, TILE, run.config.data.stretch) for path in paths]
    except ImageError:  # its features may be in the cache, so training continues
        return Image.new("RGB", (TILE, TILE), "gray")
    return beside_each_other([resize_image(image, transform) for image in images]).resize((TILE, TILE))


def lit_by_attention(image: Image.Image, light: NDArray[np.float32]) -> Image.Image:
    """`image`, unchanged where the light (rows, columns) of its regions is 1, and dark where it is 0."""
    mask = Image.fromarray(np.round(255 * light).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    brightness = SHADE + (1 - SHADE) * np.asarray(mask, dtype=np.float32)[:, :, None] / 255
    return Image.fromarray(np.round(np.asarray(image) * brightness).astype(np.uint8))
