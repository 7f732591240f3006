"""One photo in, a caption out: the captioner as a person uses it from a notebook or a script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch

from captioner.checkpoint.archive import is_archive_name, unpacked
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.pretrained import pretrained_folder, pretrained_names
from captioner.config import DecodeConfig
from captioner.data.images.decode import ImageSource, open_image
from captioner.data.images.transforms import image_to_tensor
from captioner.decode import Hypothesis, search
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import build_tokenizer

BATCH = 32  # images encoded together


@dataclass(frozen=True)
class Caption:
    """What the model says of one image.

    tokens: the caption's words; log_prob: natural logarithm of its probability, <END> included; score:
    what the search ranks by, log_prob / tokens**length_penalty, <END> counted; finished: did it reach
    <END>, or was it cut at the length limit?; attention: (T, rows, columns) weights of each word over
    the image's grid, summing to 1 a word, or None for a model that does not attend; alternatives:
    the next best captions of the search, best first.
    """

    text: str
    tokens: tuple[str, ...]
    log_prob: float
    score: float
    finished: bool
    attention: np.ndarray | None = field(default=None, repr=False, compare=False)
    alternatives: tuple[Caption, ...] = ()

    def __str__(self) -> str:
        return self.text


class Captioner:
    """A trained model, ready to caption.

    model = Captioner.pretrained("flickr8k")  # or Captioner.from_checkpoint("runs/…")
    model.caption("photo.jpg").text
    """

    def __init__(self, checkpoint: LoadedCheckpoint, device: torch.device) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.model = checkpoint.model
        self.vocabulary = checkpoint.vocabulary
        self.transform = checkpoint.settings.transform
        self.decode = checkpoint.settings.decode
        self._tokenizer = build_tokenizer(replace(checkpoint.settings.tokenizer, backend="python"))

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto") -> Captioner:
        """Load a run folder (its best checkpoint), a checkpoint folder, or an archive made by `captioner export`.

        The name of a captioner that comes with the package will do as well. CheckpointError says what is wrong.
        """
        chosen, path = choose_device(device), Path(path)
        if path.is_file() and is_archive_name(path):
            with unpacked(path) as folder:
                return cls(replace(load_checkpoint(folder, chosen), path=path), chosen)
        return cls(load_checkpoint(path, chosen), chosen)

    @classmethod
    def pretrained(cls, name: str | Path, device: str = "auto") -> Captioner:
        """Load a captioner that comes with the package, such as "flickr8k", or what `from_checkpoint` loads.

        A name of the package's means that one whatever is in the working folder. CheckpointError lists the names.
        """
        if str(name) not in pretrained_names() and Path(name).exists():
            return cls.from_checkpoint(name, device)
        return cls.from_checkpoint(pretrained_folder(str(name)), device)

    @overload
    def caption(
        self, images: list[ImageSource], *, decode: DecodeConfig | None = None, alternatives: int = 0
    ) -> list[Caption]: ...

    @overload
    def caption(self, images: ImageSource, *, decode: DecodeConfig | None = None, alternatives: int = 0) -> Caption: ...

    def caption(
        self,
        images: ImageSource | list[ImageSource],
        *,
        decode: DecodeConfig | None = None,
        alternatives: int = 0,
    ) -> Caption | list[Caption]:
        """Caption one image, or each of a list of images.

        An image is a path, the bytes of an image file, a PIL image, an array (H, W[, channels]) or a
        tensor (3, H, W), the last two uint8 or floats in [0, 1]. `decode` overrides the search that the
        model was trained with; `alternatives` asks a beam search for so many captions besides the best.
        Raises ImageError for what cannot be read as an image, ConfigError for `alternatives` of a
        search that has none.
        """
        if not isinstance(images, list):
            return self.caption([images], decode=decode, alternatives=alternatives)[0]
        settings = decode or self.decode
        if alternatives < 0:
            raise ConfigError(f"alternatives={alternatives}: expected 0 or more.")
        if alternatives and settings.name != "beam":
            raise ConfigError(
                f"alternatives={alternatives} needs a beam search, but this is decode.name={settings.name}."
            )
        if settings.name == "beam" and settings.beam_width <= alternatives:
            settings = replace(settings, beam_width=alternatives + 1)
        captions: list[Caption] = []
        for start in range(0, len(images), BATCH):
            features = self.encode(images[start : start + BATCH])
            found = search(
                self.model.decoder,  # type: ignore[arg-type]
                features,
                settings,
                self.vocabulary.special,
                n_best=alternatives + 1,
                image_ids=list(range(start, start + len(features.vector))),
            )
            captions += [self._caption(hypotheses) for hypotheses in found]
        return captions

    def encode(self, images: Sequence[ImageSource]) -> ImageFeatures:
        """Features of images: vector (B, D) and grid (B, P, D)."""
        tensors = [self._to_tensor(image) for image in images]
        with torch.inference_mode():
            return self.model.encode(torch.stack(tensors).to(self.device))

    def _to_tensor(self, image: ImageSource) -> torch.Tensor:
        return image_to_tensor(open_image(image, at_least=self.transform.size), self.transform)

    def _caption(self, hypotheses: Iterable[Hypothesis]) -> Caption:
        first, *others = [self._one(hypothesis) for hypothesis in hypotheses]
        return replace(first, alternatives=tuple(others))

    def _one(self, hypothesis: Hypothesis) -> Caption:
        tokens = tuple(self.vocabulary.decode(hypothesis.tokens))
        attention = None
        if hypothesis.attention is not None:
            rows, columns = self.model.encoder.grid_size
            attention = hypothesis.attention.float().cpu().numpy().reshape(len(tokens), rows, columns)
        return Caption(
            self._tokenizer.join(tokens),
            tokens,
            hypothesis.log_prob,
            hypothesis.score,
            hypothesis.finished,
            attention=attention,
        )
