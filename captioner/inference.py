"""The Python interface: load a trained model and caption images, in a script or a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch

from captioner.call_settings import decode_settings, suggest_keywords
from captioner.captioning.caption_search import CaptionRequest, CaptionSearch
from captioner.captioning.caption_stream import caption_stream
from captioner.captioning.describe_model import decoder_names, describe_model
from captioner.captioning.image_encoding import ImageEncoding
from captioner.captioning.word_constraints import word_constraints
from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.checkpoint.load_ensemble import join_checkpoints
from captioner.checkpoint.open_checkpoint import open_checkpoint
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder, pretrained_names
from captioner.config import DecodeConfig
from captioner.data.features.precomputed.region_features import from_array
from captioner.data.images.decode import ImageSource
from captioner.decode.sampling import image_seeds
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError, ImageError
from captioner.evaluation.scored_caption import ScoredCaption, score_captions_of_image, tokens_of_text
from captioner.generated_caption import Caption
from captioner.nn.encoders.class_head import ClassHead
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import build_tokenizer

IGNORES_CLASSES = (
    "class_weight={weight:g} has no effect with must_have or must_not: classes rank the captions of an ordinary beam "
    "search, and these have been chosen for their words. Leave one of them out."
)
BATCH = 32  # images encoded together

OneImage = TypeVar("OneImage", bound=ImageSource)
OneCaption = TypeVar("OneCaption", bound="str | Caption")


class Captioner:
    """A trained model that captions images.

    model = Captioner.pretrained("flickr8k")  # or Captioner.from_checkpoint("runs/…"), or of several, an ensemble
    model.caption("photo.jpg").text

    name: what the model is called in `repr`; training_data: the name of the data set that it was trained on, where
    that is known.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        device: torch.device,
        *,
        name: str | None = None,
        training_data: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.name = str(checkpoint.path) if name is None else name
        self.training_data = training_data
        self.model = checkpoint.model
        self.vocabulary = checkpoint.vocabulary
        self.transform = checkpoint.settings.transform
        self.decode = checkpoint.settings.decode
        self._tokenizer = build_tokenizer(
            replace(checkpoint.settings.tokenizer, backend="python"), checkpoint.tokenizer_model
        )
        self._encoding = ImageEncoding(self.model, checkpoint.settings.encoder, device)
        self._search = CaptionSearch(checkpoint, self._tokenizer)

    @classmethod
    @suggest_keywords
    def from_checkpoint(
        cls,
        checkpoint: str | Path | Sequence[str | Path],
        device: str = "auto",
        *,
        ensemble_mean: str = "probabilities",
        average: str | None = None,
    ) -> Captioner:
        """Load a run folder (its best checkpoint), a checkpoint folder, or an archive made by `captioner export`.

        The name of a model that comes with the package, such as "flickr8k", works as well.
        Several checkpoints with one vocabulary are an ensemble: each word is predicted from the mean of their
        "probabilities" or "log_probabilities" (`ensemble_mean`); transform and decoding are those of the first.
        average: "bestN", such as "best3": of each run the mean weights of its N best checkpoints, which training with
        `trainer.keep_best=N` has kept.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps". Raises CheckpointError, which says what is wrong with the
        checkpoint, and ConfigError for a device that is not there.
        """
        chosen = choose_device(device)
        paths = [checkpoint] if isinstance(checkpoint, str | Path) else list(checkpoint)
        if not paths:
            raise ConfigError("An ensemble needs at least one checkpoint.")
        loaded, training_data = zip(*(open_checkpoint(Path(path), chosen, average) for path in paths), strict=True)
        joined = join_checkpoints(loaded, ensemble_mean)
        known = list(dict.fromkeys(name for name in training_data if name is not None))
        return cls(joined, chosen, name=" + ".join(map(str, paths)), training_data=" + ".join(known) or None)

    @classmethod
    @suggest_keywords
    def pretrained(cls, name: str | Path = DEFAULT, device: str = "auto") -> Captioner:
        """Load a model that comes with the package, such as "flickr8k", or whatever `from_checkpoint` loads.

        The name of a bundled model means that model, even if the working folder has a folder of this name.
        Raises CheckpointError, which lists the names, and ConfigError for a device that is not there.
        """
        if str(name) not in pretrained_names() and Path(name).exists():
            return cls.from_checkpoint(name, device)
        captioner = cls.from_checkpoint(pretrained_folder(str(name)), device)
        captioner.name = str(name)
        return captioner

    def __repr__(self) -> str:
        return describe_model(self.name, self.checkpoint, self.device, self.decode, self.training_data)

    @property
    def decoder_names(self) -> str:
        """The name of the decoder, or those of the members of an ensemble, such as "attention + updown"."""
        return decoder_names(self.checkpoint)

    @property
    def class_head(self) -> ClassHead | None:
        """The classifier of the encoder's network; None where it has none, or where that is not on this machine."""
        return self._encoding.class_head

    @overload
    def caption(
        self,
        images: list[OneImage],
        *,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        tags: bool = True,
        must_have: Sequence[str] = (),
        must_not: Sequence[str] = (),
        **settings: float,
    ) -> list[Caption]: ...

    @overload
    def caption(
        self,
        images: ImageSource,
        *,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        tags: bool = True,
        must_have: Sequence[str] = (),
        must_not: Sequence[str] = (),
        **settings: float,
    ) -> Caption: ...

    def caption(
        self,
        images: ImageSource | list[OneImage],
        *,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        tags: bool = True,
        must_have: Sequence[str] = (),
        must_not: Sequence[str] = (),
        **settings: float,
    ) -> Caption | list[Caption]:
        """Caption one image, or each image of a list.

        images: a path, the bytes of an image file, a PIL image, an array (H, W), (H, W, 3) or (H, W, 4) or a tensor
        (3, H, W), the last two of uint8 or of floats in [0, 1]; several views of one sample,
        `ImageViews.of("frontal.png", "lateral.png")`; or a list of these.
        decode: the search, such as "greedy", "beam" or "sample", or all its settings as a DecodeConfig; by default what
        the model was trained with. alternatives: how many of the next best captions a beam search returns as well.
        tags: whether captions have `Caption.tags`, where the encoder has a classifier.
        must_have: words or phrases that a caption must have, "dog|puppy" for one of several; must_not: those that it
        must not have. They need a beam search (`captioner.decode.constrained`), which then ignores `class_weight`.
        settings: single settings of DecodeConfig, such as `beam_width=5`, `max_length=12` or, with decode="sample",
        `temperature=0.8, seed=3`.

        Raises ImageError for an image that cannot be read (of a list, its index is named), and ConfigError for a
        setting that does not exist, is out of range or has no effect on this search.
        """
        request = self._request(decode, alternatives, tags, must_have, must_not, settings)
        if not isinstance(images, list):
            return self._caption_batch([images], [""], request, 0)[0]
        captions: list[Caption] = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            names = [f"images[{start + index}]: " for index in range(len(batch))]
            captions += self._caption_batch(batch, names, request, start)
        return captions

    def caption_each(
        self,
        images: Iterable[ImageSource],
        *,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        tags: bool = True,
        must_have: Sequence[str] = (),
        must_not: Sequence[str] = (),
        batch_size: int = BATCH,
        **settings: float,
    ) -> Iterator[Caption | ImageError]:
        """Caption any number of images one after the other, as fast as possible and in constant memory.

        for path, caption in zip(paths, model.caption_each(paths)): ...

        The arguments are those of `caption`, and so are the captions: that of an image does not depend on the others,
        also where the search samples. While a batch of `batch_size` images is searched, threads encode the next one and
        decode later files. In place of the caption of an image that cannot be read comes its ImageError.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size} is too small: expected 1 or more.")
        self._encoding.check_encodes_images()
        request = self._request(decode, alternatives, tags, must_have, must_not, settings)
        return caption_stream(images, self._encoding, self._search, request, batch_size)

    @overload
    def score(self, image: ImageSource, captions: str | Caption) -> ScoredCaption: ...

    @overload
    def score(self, image: ImageSource, captions: list[OneCaption]) -> list[ScoredCaption]: ...

    def score(
        self, image: ImageSource, captions: str | Caption | list[OneCaption]
    ) -> ScoredCaption | list[ScoredCaption]:
        """How probable the model finds a caption of an image: log-probability, nats per word, surprise of each word.

        image: as for `caption`. captions: one caption, or a list of captions of the same image, which is encoded once.
        Text is tokenized as the training captions were; a `Caption` is scored with its own tokens, so that its score
        is its `log_prob`. Hard attention that samples is scored for the locations that `decode.seed` samples.

        Raises ImageError for an image that cannot be read, ConfigError for a caption without a word.
        """
        given: list[str | Caption] = list(captions) if isinstance(captions, list) else [captions]
        tokenized = [
            (one.text, one.tokens) if isinstance(one, Caption) else (one, tokens_of_text(one, self._tokenizer))
            for one in given
        ]
        features, _ = self._encoding.encode([image], [""], classify=False)
        seeds = image_seeds(self.decode.seed, [0]).to(features.vector.device)  # those of `caption(image)`
        found = score_captions_of_image(self.model, self.vocabulary, features._replace(seeds=seeds), tokenized)
        return found if isinstance(captions, list) else found[0]

    def caption_features(
        self,
        features: Sequence[np.ndarray],
        *,
        boxes: Sequence[np.ndarray | None] | None = None,
        images: Sequence[ImageSource | None] | None = None,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        **settings: float,
    ) -> list[Caption]:
        """Caption images by features made elsewhere, for a model that was trained on such features.

        features: for each image (N, D), the N regions of any number, or a grid (rows, columns, D).
        boxes: for each image (N, 4), the left, top, right and bottom of its regions as fractions of its width and
        height, or None. images: for `Caption.plot`. The other arguments are those of `caption`.

        Raises ConfigError for features of another D, DataError for arrays that are no features.
        """
        request = CaptionRequest(decode_settings(self.decode, decode, alternatives, settings), alternatives)
        found = [
            from_array(np.asarray(array), f"features[{index}]", None if boxes is None else boxes[index])
            for index, array in enumerate(features)
        ]
        captions: list[Caption] = []
        for start in range(0, len(found), BATCH):
            batch = found[start : start + BATCH]
            numbers = list(range(start, start + len(batch)))
            given = [None if images is None else images[number] for number in numbers]
            captions += self._search.captions(self._encoding.join(batch), request, numbers, given, regions=batch)
        return captions

    def encode(self, images: Sequence[ImageSource]) -> ImageFeatures:
        """The encoder's features of B images: `vector` (B, D) and `grid` (B, P, D).

        Raises ImageError, which names the index, for an image that cannot be read.
        """
        names = [f"images[{index}]: " for index in range(len(images))]
        return self._encoding.encode(images, names, classify=False)[0]

    def _request(
        self,
        decode: DecodeConfig | str | None,
        alternatives: int,
        tags: bool,
        must_have: Sequence[str],
        must_not: Sequence[str],
        settings: dict[str, Any],
    ) -> CaptionRequest:
        """The arguments of `caption`, checked."""
        config = decode_settings(self.decode, decode, alternatives, settings)
        constraints = word_constraints(must_have, must_not, config, self.vocabulary, self._tokenizer)
        if constraints is not None and settings.get("class_weight"):
            raise ConfigError(IGNORES_CLASSES.format(weight=settings["class_weight"]))
        return CaptionRequest(config, alternatives, tags, constraints)

    def _caption_batch(
        self, images: Sequence[ImageSource], names: Sequence[str], request: CaptionRequest, first: int
    ) -> list[Caption]:
        """Captions of images that are encoded together; `first`: the index of the first one in the whole list."""
        features, scores = self._encoding.encode(images, names, classify=request.needs_classes)
        image_ids = list(range(first, first + len(images)))
        return self._search.captions(features, request, image_ids, images, scores=scores)
