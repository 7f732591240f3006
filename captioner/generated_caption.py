"""A generated caption: its text, its probability, and what is known about it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.checkpoint.calibration import Calibration, gain_of_words
from captioner.config import DecodeConfig
from captioner.data.images.decode import ImageSource, load_image
from captioner.errors import ConfigError, ImageError
from captioner.files import write_atomically
from captioner.text.class_words import Tag
from captioner.text.degenerate import why_unusable


@dataclass(frozen=True, repr=False)
class Caption:
    """A generated caption of one image.

    text: the caption, detokenized.
    tokens: the T generated tokens, without <START> and <END>, "a" and "an" in the form that the next word needs.
    log_prob: natural logarithm of the caption's probability under the model, <END> included, with the articles that
        the model chose (`captioner.text.articles`). Where `decode.class_weight` has moved the probability of other
        animals to one that the classes are sure of, it is the one after that (`captioner.text.animal_transfers`).
    score: what the search ranks by: log_prob / tokens**length_penalty, <END> counted, and what classes and the
        predicted consensus add.
    finished: True where the model generated <END>, False where the caption was cut at the length limit.
    attention: (T, rows, columns) attention weights of each token over the image's regions, which sum to 1 per token
        (to less with adaptive attention, whose sentinel has the rest); of several views, their maps are side by side;
        None for a model without attention.
    alternatives: the next best captions of the beam search, best first: as many as `Captioner.caption` was asked for.
    confidence: the estimated probability that the caption is good, from 0 to 1 (docs/confidence.md says what "good"
        means); None for a model without a calibration, for another search than the calibrated one, for alternatives,
        and for an image unlike the training images, about which the calibration says nothing.
    familiarity: how much of the image lies where the known images' features lie, from 0 to 1; unlike_training: whether
        that is so little that the image counts as unlike them. Both None for a model without a calibration.
    tags: what the encoder's classifier sees (docs/tags.md), the most probable first, whether or not the caption says
        it; None where it has no classifier, where tags are turned off, and for alternatives.
    image: the captioned image as it was given; resize, stretch: how the model saw it. `plot` uses them.
    boxes: (N, 4) left, top, right and bottom of the N regions as fractions of the image, for features made elsewhere
        whose boxes are known. `attention` is then (T, 1, N).
    """

    text: str
    tokens: tuple[str, ...]
    log_prob: float
    score: float
    finished: bool
    attention: np.ndarray | None = field(default=None, compare=False)
    alternatives: tuple[Caption, ...] = ()
    confidence: float | None = None
    familiarity: float | None = None
    unlike_training: bool | None = None
    tags: tuple[Tag, ...] | None = None
    image: ImageSource | None = field(default=None, compare=False)
    resize: str = field(default="squash", compare=False)
    stretch: str = field(default="none", compare=False)
    boxes: np.ndarray | None = field(default=None, compare=False)

    @property
    def probability(self) -> float:
        """exp(log_prob): the caption's probability under the model, or after what classes have moved (see there)."""
        return math.exp(self.log_prob)

    @property
    def unusable(self) -> str | None:
        """Why no reader can use this caption, such as "is empty" or "repeats 'a'"; None for any other caption."""
        return why_unusable(self.tokens)

    def plot(
        self,
        path: str | Path | None = None,
        *,
        image: ImageSource | None = None,
        references: Sequence[str] = (),
        scale: str = "shared",
        contour: float | None = None,
    ) -> Image.Image:
        """Draw the image, the caption and, for each token, the attention weights over the image.

        Returns a PIL image, which a notebook displays, and also writes it to `path` (a PNG file) where one is given.

        image: the captioned image, needed if the given file is gone. references: reference captions to print
        below the caption. scale: "shared" for one color scale, "word" for one per token. contour: also draw a line
        around the smallest area that holds this share of a token's attention, such as 0.5.

        Raises ImageError where the image cannot be read (again), ConfigError for an unknown scale or a path that does
        not end in .png or is the image's own, OSError where `path` cannot be written.
        """
        from captioner.plots import draw_attention_sheet  # imports matplotlib

        if path is not None and Path(path).suffix.lower() != ".png":
            raise ConfigError(f"{path}: a plot is a PNG file. Expected a path that ends in .png.")
        source = self.image if image is None else image
        if source is None:
            raise ImageError("This caption was made without its image: give it, as in plot(image='photo.jpg').")
        if path is not None and isinstance(source, (str, Path)) and Path(path).resolve() == Path(source).resolve():
            raise ConfigError(f"{path} is the captioned image: name another file for the plot.")
        png = draw_attention_sheet(
            [load_image(source, stretch=self.stretch)], [self], [references], self.resize, scale=scale, contour=contour
        )
        if path is not None:
            write_atomically(Path(path), png)
        return Image.open(io.BytesIO(png)).convert("RGB")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        facts = [f"log_prob={self.log_prob:.2f}", f"{len(self.tokens)} tokens"]
        if not self.finished:
            facts.append("cut at the length limit")
        if self.unusable is not None:
            facts.append(f"unusable: it {self.unusable}")
        if self.confidence is not None:
            facts.append(f"confidence {self.confidence:.2f}")
        if self.unlike_training:
            facts.append("unlike the training images")
        if self.tags:
            facts.append("tags " + ", ".join(f"{tag.word} {tag.probability:.2f}" for tag in self.tags))
        if self.attention is not None:
            facts.append(f"attention {' × '.join(map(str, self.attention.shape))}")
        if self.alternatives:
            facts.append(f"{len(self.alternatives)} alternatives")
        return f"<Caption {self.text!r}: {', '.join(facts)}>"


def with_confidence(
    captions: Sequence[Caption], vectors: np.ndarray, calibration: Calibration, config: DecodeConfig | None
) -> list[Caption]:
    """The captions of B images, of vectors (B, D), with what a calibration says about those of this search.

    config: None for a search that was not calibrated.
    """
    familiarities = calibration.familiarity(vectors).tolist()
    found = []
    for caption, familiarity in zip(captions, familiarities, strict=True):
        unlike, confidence = familiarity < calibration.record.unlike_below, None
        if config is not None and calibration.applies_to(config) and not unlike:
            length = len(caption.tokens) + caption.finished
            gain = gain_of_words(caption.score, caption.log_prob, length, config.length_penalty)
            confidence = calibration.confidence(caption.log_prob, length, familiarity, gain)
        found.append(replace(caption, confidence=confidence, familiarity=familiarity, unlike_training=unlike))
    return found
