"""The Python interface: load a trained model and caption images, in a script or a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch

from captioner.call_settings import decode_settings, suggest_keywords
from captioner.captioning.base_captioner import BaseCaptioner
from captioner.captioning.caption_request import CaptionRequest
from captioner.captioning.caption_search import CaptionSearch
from captioner.captioning.describe_model import decoder_names, describe_model
from captioner.captioning.image_encoding import EncodedImages, ImageEncoding, Views
from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.checkpoint.load_ensemble import join_checkpoints
from captioner.checkpoint.open_checkpoint import open_checkpoint
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder, pretrained_names
from captioner.config import DecodeConfig
from captioner.data.features.precomputed.region_features import from_array
from captioner.data.images.decode import ImageSource
from captioner.decode.sampling import image_seeds
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError
from captioner.evaluation.scored_caption import ScoredCaption, score_captions_of_image
from captioner.generated_caption import Caption
from captioner.nn.encoders.class_head import ClassHead
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import build_tokenizer, tokens_of_text

OneCaption = TypeVar("OneCaption", bound="str | Caption")


class Captioner(BaseCaptioner[Views, EncodedImages]):
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
        self._caption_search = CaptionSearch(checkpoint, self._tokenizer)

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
    def identity(self) -> str:
        """The name of the model, and a digest of its weights."""
        from captioner.data.features.cache import weights_digest

        return f"{self.name} {weights_digest(self.model)[:12]}"

    @property
    def about(self) -> str:
        """Decoder, encoder and vocabulary in one line."""
        encoders = " + ".join(encoder.name for encoder in self.model.encoders)
        parameters = sum(parameter.numel() for parameter in self.model.decoder.parameters())
        return (
            f"{self.decoder_names}, {parameters / 1e6:.1f} M parameters · {encoders} · {len(self.vocabulary):,} tokens"
        )

    @property
    def class_head(self) -> ClassHead | None:
        """The classifier of the encoder's network; None where it has none, or where that is not on this machine."""
        return self._encoding.class_head

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
        is its `log_prob`, unless its articles were corrected or classes have moved probability (docs/tags.md). Hard
        attention that samples is scored for the locations that `decode.seed` samples.

        Raises ImageError for an image that cannot be read, ConfigError for a caption without a word.
        """
        given: list[str | Caption] = list(captions) if isinstance(captions, list) else [captions]
        tokenized = [
            (one.text, one.tokens) if isinstance(one, Caption) else (one, tokens_of_text(one, self._tokenizer))
            for one in given
        ]
        features, _ = self._encode([self._load(image)], classify=False)
        seeds = image_seeds(self.decode.seed, [0]).to(features.vector.device)  # those of `caption(image)`
        found = score_captions_of_image(self.model, self.vocabulary, features._replace(seeds=seeds), tokenized)
        return found if isinstance(captions, list) else found[0]

    def caption_features(
        self,
        features: Sequence[np.ndarray],
        *,
        boxes: Sequence[np.ndarray | None] | None = None,
        images: Sequence[ImageSource | None] | None = None,
        image_ids: Sequence[int | str] | None = None,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        **settings: float,
    ) -> list[Caption]:
        """Caption images by features made elsewhere, for a model that was trained on such features.

        features: for each image (N, D), the N regions of any number, or a grid (rows, columns, D).
        boxes: for each image (N, 4), the left, top, right and bottom of its regions as fractions of its width and
        height, or None. images: for `Caption.plot`. image_ids: what a search that samples samples by; by default the
        index. The other arguments are those of `caption`.

        Raises ConfigError for features of another D, DataError for arrays that are no features.
        """
        request = CaptionRequest(decode_settings(self.decode, decode, alternatives, settings), alternatives)
        found = [
            from_array(np.asarray(array), f"features[{index}]", None if boxes is None else boxes[index])
            for index, array in enumerate(features)
        ]
        captions: list[Caption] = []
        for start in range(0, len(found), self.batch):
            batch = found[start : start + self.batch]
            numbers = range(start, start + len(batch))
            given = [None if images is None else images[number] for number in numbers]
            ids = [number if image_ids is None else image_ids[number] for number in numbers]
            captions += self._caption_search.captions(self._encoding.join(batch), request, ids, given, regions=batch)
        return captions

    def encode(self, images: Sequence[ImageSource]) -> ImageFeatures:
        """The encoder's features of B images: `vector` (B, D) and `grid` (B, P, D).

        Raises ImageError, which names the index, for an image that cannot be read.
        """
        return self._encode(self._load_batch(images), classify=False)[0]

    def _check(self, request: CaptionRequest) -> None:
        self._encoding.check_encodes_images()

    def _load(self, image: ImageSource) -> Views:
        self._encoding.check_encodes_images()
        return self._encoding.load(image)

    def _encode(self, loaded: Sequence[Views], *, classify: bool) -> EncodedImages:
        return self._encoding.encode(loaded, classify=classify)

    def _search(
        self,
        encoded: EncodedImages,
        request: CaptionRequest,
        image_ids: Sequence[int | str],
        images: Sequence[ImageSource],
    ) -> list[Caption]:
        features, scores = encoded
        return self._caption_search.captions(features, request, image_ids, images, scores=scores)
