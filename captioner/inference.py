"""The Python interface: load a trained model and caption images, in a script or a notebook."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar, overload

import numpy as np
import torch
import yaml
from torch import Tensor

from captioner.call_settings import decode_settings, describe_search, suggest_keywords
from captioner.checkpoint.archive import is_archive_name, unpacked
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.load_ensemble import join_checkpoints
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder, pretrained_names
from captioner.config import DecodeConfig
from captioner.data.features.precomputed.region_features import RegionFeatures, from_array
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import ImageSource, load_image
from captioner.data.images.read_ahead import in_background, map_ahead
from captioner.data.images.transforms import image_to_tensor
from captioner.decode import Hypothesis, search
from captioner.decode.constrained import Constraints, constrained_beam
from captioner.decode.forbidden_tokens import check_phrases
from captioner.decode.sampling import image_seeds
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError, ImageError, WeightsError, near_misses
from captioner.evaluation.scored_caption import ScoredCaption, score_captions_of_image, tokens_of_text
from captioner.evaluation.tags import tags_of
from captioner.generated_caption import Caption, with_confidence
from captioner.nn.encoders.class_head import ClassHead, ClassScores, build_class_head
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.encoders.no_encoder import NO_ENCODER
from captioner.nn.side_by_side import attention_maps, side_by_side
from captioner.nn.types import ImageFeatures, join_features
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import SPECIAL_NAMES

BATCH = 32  # images encoded together
LOADING_THREADS = 2  # for `caption_each`: one core decodes 100 photos a second, and encodes and searches fewer

_Views: TypeAlias = list[list[Tensor]]
"""For each encoder, the pixels (3, S, S) of each view of an image."""

_Loaded: TypeAlias = tuple[ImageSource, "_Views | ImageError"]
"""An image and its pixels, or why it cannot be read."""

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

    @classmethod
    @suggest_keywords
    def from_checkpoint(
        cls,
        checkpoint: str | Path | Sequence[str | Path],
        device: str = "auto",
        *,
        ensemble_mean: str = "probabilities",
    ) -> Captioner:
        """Load a run folder (its best checkpoint), a checkpoint folder, or an archive made by `captioner export`.

        The name of a model that comes with the package, such as "flickr8k", works as well.
        Several checkpoints with one vocabulary are an ensemble: each word is predicted from the mean of their
        "probabilities" or "log_probabilities" (`ensemble_mean`); transform and decoding are those of the first.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps". Raises CheckpointError, which says what is wrong with the
        checkpoint, and ConfigError for a device that is not there.
        """
        chosen = choose_device(device)
        paths = [checkpoint] if isinstance(checkpoint, str | Path) else list(checkpoint)
        if not paths:
            raise ConfigError("An ensemble needs at least one checkpoint.")
        loaded, training_data = zip(*(_load(Path(path), chosen) for path in paths), strict=True)
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
        parameters = sum(parameter.numel() for parameter in self.model.decoder.parameters())
        step = "" if self.checkpoint.members else self.checkpoint.path.name
        lines = [
            f"Captioner {self.name} {f'({step}) ' if step.startswith('step-') else ''}on {self.device}",
            f"decoder: {self.decoder_names}, {parameters:,} parameters",
            *map(_describe_encoder, self.model.encoders),
            f"vocabulary: {len(self.vocabulary):,} tokens",
            f"training data: {self.training_data or 'unknown'}",
            f"decoding: {describe_search(self.decode)}",
        ]
        return "\n  ".join(lines)

    @property
    def decoder_names(self) -> str:
        """The name of the decoder, or those of the members of an ensemble, such as "attention + updown"."""
        return " + ".join(one.settings.model.name for one in self.checkpoint.members or (self.checkpoint,))

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
        config = decode_settings(self.decode, decode, alternatives, settings)
        constraints = self._constraints(must_have, must_not, config)
        if not isinstance(images, list):
            return self._caption_batch([images], [""], config, alternatives, 0, tags, constraints)[0]
        captions: list[Caption] = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            names = [f"images[{start + index}]: " for index in range(len(batch))]
            captions += self._caption_batch(batch, names, config, alternatives, start, tags, constraints)
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
        if not self.model.encoder.encodes_images:
            raise ConfigError(NO_ENCODER)
        config = decode_settings(self.decode, decode, alternatives, settings)
        constraints = self._constraints(must_have, must_not, config)
        return self._caption_each(images, config, alternatives, batch_size, tags, constraints)

    def _caption_each(
        self,
        images: Iterable[ImageSource],
        config: DecodeConfig,
        alternatives: int,
        batch_size: int,
        tags: bool,
        constraints: Constraints | None,
    ) -> Iterator[Caption | ImageError]:
        loaded = map_ahead(self._load_or_error, images, threads=LOADING_THREADS, ahead=2 * batch_size)
        batches = self._encode_batches(loaded, batch_size, classify=tags or config.class_weight > 0)
        with closing(in_background(batches)) as encoded:
            for batch, result in encoded:
                captions: Iterator[Caption] = iter(())
                if result is not None:
                    features, scores = result
                    read = [image for image, views in batch if not isinstance(views, ImageError)]
                    captions = iter(
                        self._caption_encoded(
                            read, features, config, alternatives, [0] * len(read), scores if tags else None, constraints
                        )
                    )
                for _, views in batch:
                    yield views if isinstance(views, ImageError) else next(captions)

    def _load_or_error(self, image: ImageSource) -> _Loaded:
        try:
            return image, self._load(image)
        except ImageError as error:
            return image, error

    def _encode_batches(
        self, loaded: Generator[_Loaded, None, None], batch_size: int, *, classify: bool
    ) -> Generator[tuple[list[_Loaded], tuple[ImageFeatures, ClassScores | None] | None], None, None]:
        """The images in batches, and what `_encode_loaded` gives for those that could be read, None for none."""
        with closing(loaded):
            while batch := list(islice(loaded, batch_size)):
                readable = [views for _, views in batch if not isinstance(views, ImageError)]
                yield batch, self._encode_loaded(readable, classify=classify) if readable else None

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
        features = self._encode([image], [""])
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
        config = decode_settings(self.decode, decode, alternatives, settings)
        found = [
            from_array(np.asarray(array), f"features[{index}]", None if boxes is None else boxes[index])
            for index, array in enumerate(features)
        ]
        captions: list[Caption] = []
        for start in range(0, len(found), BATCH):
            batch = found[start : start + BATCH]
            joined = self._joined(batch)
            hypotheses = self._search(joined, config, alternatives, list(range(start, start + len(batch))))
            of_batch = []
            for offset, (of_image, regions) in enumerate(zip(hypotheses, batch, strict=True)):
                image = None if images is None else images[start + offset]
                of_batch.append(self._to_caption(of_image, image, regions))
            captions += self._with_confidence(of_batch, joined, config)
        return captions

    def _joined(self, batch: Sequence[RegionFeatures]) -> ImageFeatures:
        """The features of a batch, padded; ConfigError for another D than the model's."""
        for regions in batch:
            if regions.features.shape[1] != self.model.encoder.feature_dim:
                raise ConfigError(
                    f"features have {regions.features.shape[1]} values per region, but the model was made for "
                    f"{self.model.encoder.feature_dim}."
                )
        grids = [torch.from_numpy(regions.features).unsqueeze(0) for regions in batch]
        joined = join_features([ImageFeatures(grid.mean(1), grid) for grid in grids])
        return joined.images(lambda tensor: tensor.to(self.device))

    def encode(self, images: Sequence[ImageSource]) -> ImageFeatures:
        """The encoder's features of B images: `vector` (B, D) and `grid` (B, P, D).

        Raises ImageError, which names the index, for an image that cannot be read.
        """
        return self._encode(images, [f"images[{index}]: " for index in range(len(images))])

    def _caption_batch(
        self,
        images: Sequence[ImageSource],
        names: Sequence[str],
        config: DecodeConfig,
        alternatives: int,
        first: int,
        tags: bool,
        constraints: Constraints | None,
    ) -> list[Caption]:
        """Captions of images that are encoded together; `first`: the index of the first one in the whole list."""
        features, scores = self._encode_and_classify(images, names, classify=tags or config.class_weight > 0)
        image_ids = list(range(first, first + len(images)))
        shown = scores if tags else None
        return self._caption_encoded(images, features, config, alternatives, image_ids, shown, constraints)

    def _caption_encoded(
        self,
        images: Sequence[ImageSource],
        features: ImageFeatures,
        config: DecodeConfig,
        alternatives: int,
        image_ids: list[int],
        scores: ClassScores | None,
        constraints: Constraints | None,
    ) -> list[Caption]:
        """Captions of encoded images, with tags by the classifier's `scores`, if given."""
        if constraints is None:
            found = self._search(features, config, alternatives, image_ids)
        else:
            special, phrases, wanted = self.vocabulary.special, self.vocabulary.phrases, [constraints] * len(images)
            check_phrases(config, phrases)
            found = constrained_beam(self.model.decoder, features, config, special, wanted, alternatives + 1, phrases)
        captions = [self._to_caption(hypotheses, image) for hypotheses, image in zip(found, images, strict=True)]
        if scores is not None and len(scores.logits) == len(images):  # not of several views
            captions = [
                replace(caption, tags=of_image) for caption, of_image in zip(captions, tags_of(scores), strict=True)
            ]
        return self._with_confidence(captions, features, config if constraints is None else None)

    def _constraints(
        self, must_have: Sequence[str], must_not: Sequence[str], config: DecodeConfig
    ) -> Constraints | None:
        """The constraints of one call in token ids; ConfigError for words that the vocabulary lacks."""
        if isinstance(must_have, str) or isinstance(must_not, str):
            raise ConfigError("must_have and must_not are lists of words or phrases, such as must_have=['dog'].")
        if not must_have and not must_not:
            return None
        if config.name != "beam":
            raise ConfigError(f"must_have and must_not need decode='beam', but this is {config.name!r}.")
        required = tuple(tuple(map(self._phrase, one.split("|"))) for one in must_have)
        return Constraints(required, tuple(map(self._phrase, must_not)))

    def _phrase(self, text: str) -> tuple[int, ...]:
        tokens = tokens_of_text(text, self._tokenizer)
        unknown = [token for token in tokens if token not in self.vocabulary]
        if unknown:
            words = self.vocabulary.tokens[len(SPECIAL_NAMES) :]
            raise ConfigError(
                f"{unknown[0]!r} is not in the model's vocabulary of {len(words):,} words."
                f"{near_misses(unknown[0], words)}"
            )
        return tuple(self.vocabulary.encode(tokens))

    def _search(
        self, features: ImageFeatures, config: DecodeConfig, alternatives: int, image_ids: list[int]
    ) -> list[list[Hypothesis]]:
        """The best hypotheses of each image; image_ids: what a search that samples samples by."""
        return search(
            self.model.decoder,
            features,
            config,
            self.vocabulary.special,
            n_best=alternatives + 1,
            image_ids=image_ids,
            phrases=self.vocabulary.phrases,
            classes=self.vocabulary.class_preferences,
        )

    def _with_confidence(
        self, captions: Sequence[Caption], features: ImageFeatures, config: DecodeConfig | None
    ) -> list[Caption]:
        """The captions with what the checkpoint's calibration says about them; config: None for another search."""
        calibration = self.checkpoint.calibration
        if calibration is None:
            return list(captions)
        return with_confidence(captions, features.vector.float().cpu().numpy(), calibration, config)

    @functools.cached_property
    def class_head(self) -> ClassHead | None:
        """The classifier of the encoder's network; None where it has none, or where that is not on this machine."""
        try:
            return build_class_head(self.checkpoint.settings.encoder, self.model.encoder)
        except WeightsError:
            return None

    def _encode(self, images: Sequence[ImageSource], names: Sequence[str]) -> ImageFeatures:
        """`names`: a prefix per image for the message where it cannot be read."""
        return self._encode_and_classify(images, names, classify=False)[0]

    def _encode_and_classify(
        self, images: Sequence[ImageSource], names: Sequence[str], *, classify: bool
    ) -> tuple[ImageFeatures, ClassScores | None]:
        """The features and, with `classify` and where the encoder has a classifier, what it says of each view."""
        if not self.model.encoder.encodes_images:
            raise ConfigError(NO_ENCODER)
        loaded = []
        for image, name in zip(images, names, strict=True):
            try:
                loaded.append(self._load(image))
            except ImageError as error:
                raise ImageError(f"{name}{error}") from error
        return self._encode_loaded(loaded, classify=classify)

    def _load(self, image: ImageSource) -> _Views:
        """The pixels of an image's views, preprocessed for each encoder. ImageError where it cannot be read."""
        views = image.views if isinstance(image, ImageViews) else (image,)
        transforms = [encoder.transform for encoder in self.model.encoders]
        return [
            [image_to_tensor(load_image(view, transform.size, transform.stretch), transform) for view in views]
            for transform in transforms
        ]

    def _encode_loaded(self, loaded: Sequence[_Views], *, classify: bool) -> tuple[ImageFeatures, ClassScores | None]:
        """`_encode_and_classify` for what `_load` returns. The classifier is that of the first encoder."""
        scores: ClassScores | None = None
        found = []
        with torch.inference_mode():
            for number, encoder in enumerate(self.model.encoders):
                pixels = torch.stack([view for views in loaded for view in views[number]]).to(self.device)
                if classify and not number and self.class_head is not None:
                    features, shared = encoder.forward_with_frozen(pixels)
                    scores = self.class_head(pixels, shared)
                    features = features._replace(classes=scores.probabilities)
                else:
                    features = encoder(pixels)
                if len(pixels) != len(loaded):
                    features = side_by_side(features, [len(views[0]) for views in loaded])
                found.append(features)
        return found[0]._replace(others=tuple(found[1:])), scores

    def _to_caption(
        self, hypotheses: Iterable[Hypothesis], image: ImageSource | None, regions: RegionFeatures | None = None
    ) -> Caption:
        """The best hypothesis as a caption, the others as its alternatives. regions: of features made elsewhere."""
        best, *others = [self._from_hypothesis(hypothesis, image, regions) for hypothesis in hypotheses]
        return replace(best, alternatives=tuple(others))

    def _from_hypothesis(
        self, hypothesis: Hypothesis, image: ImageSource | None, regions: RegionFeatures | None
    ) -> Caption:
        tokens = tuple(self.vocabulary.decode(hypothesis.tokens))
        attention = None
        if hypothesis.attention is not None:
            views = len(image.views) if isinstance(image, ImageViews) else 1
            grid_size = self.model.encoder.grid_size
            if regions is not None:
                views, grid_size = 1, regions.grid or (1, len(regions.features))
            attention = attention_maps(hypothesis.attention.float(), grid_size, views).cpu().numpy()
        return Caption(
            self._tokenizer.join(tokens),
            tokens,
            hypothesis.log_prob,
            hypothesis.score,
            hypothesis.finished,
            attention=attention,
            image=image,
            stretch=self.transform.stretch,
            resize="squash" if isinstance(image, ImageViews) or regions is not None else self.transform.resize,
            boxes=None if regions is None else regions.boxes,
        )


def _describe_encoder(encoder: Encoder) -> str:
    """An encoder in one line."""
    if not encoder.encodes_images:
        return f"encoder: none, features made elsewhere with {encoder.feature_dim:,} values per region"
    (rows, columns), size = encoder.grid_size, encoder.transform.size
    return f"encoder: {encoder.name}, {size} × {size} pixels, {rows} × {columns} regions"


def _load(path: Path, device: torch.device) -> tuple[LoadedCheckpoint, str | None]:
    """A checkpoint, from a folder or an archive, and the name of the data set that it was trained on."""
    if path.is_file() and is_archive_name(path):
        with unpacked(path) as folder:
            loaded = load_checkpoint(folder, device)
            return replace(loaded, path=path), _training_data(loaded.path)
    loaded = load_checkpoint(path, device)
    return loaded, _training_data(loaded.path)


def _training_data(checkpoint: Path) -> str | None:
    """The data set that a run was trained on, from its config.yaml; None where there is none."""
    path = checkpoint.parent.parent / "config.yaml"
    if not path.is_file():
        return None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):
        return f"unknown ({path} cannot be read)"
    data = settings.get("data") if isinstance(settings, dict) else None
    return str(data["name"]) if isinstance(data, dict) and "name" in data else None
