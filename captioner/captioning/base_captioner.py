"""`BaseCaptioner`: how every captioner is called, whether torch or onnxruntime computes its captions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, overload

from captioner.call_settings import decode_settings
from captioner.captioning.caption_request import CaptionRequest
from captioner.captioning.caption_stream import caption_stream
from captioner.captioning.word_constraints import word_constraints
from captioner.config import DecodeConfig, TransformConfig
from captioner.data.images.decode import ImageSource
from captioner.errors import ConfigError, ImageError
from captioner.generated_caption import Caption
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary

OneImage = TypeVar("OneImage", bound=ImageSource)
Loaded = TypeVar("Loaded")
"""The preprocessed pixels of an image."""
Encoded = TypeVar("Encoded")
"""The features of a batch, and what the classifier says of it."""


class BaseCaptioner(ABC, Generic[Loaded, Encoded]):
    """A trained model that captions images.

    decode: its own search. vocabulary; transform: the preprocessing of its images. batch: how many images of a list are
    encoded together.
    """

    batch: ClassVar[int] = 32
    decode: DecodeConfig
    vocabulary: Vocabulary
    transform: TransformConfig
    _tokenizer: Tokenizer

    @property
    @abstractmethod
    def identity(self) -> str:
        """The name of the model, and a digest of what it computes with."""

    @property
    @abstractmethod
    def about(self) -> str:
        """Its decoder, encoder and vocabulary in one line."""

    @abstractmethod
    def _load(self, image: ImageSource) -> Loaded:
        """The preprocessed pixels of an image. ImageError where it cannot be read."""

    @abstractmethod
    def _encode(self, loaded: Sequence[Loaded], *, classify: bool) -> Encoded:
        """The features of images. classify: also what the encoder's classifier says, if it has one."""

    @abstractmethod
    def _search(
        self,
        encoded: Encoded,
        request: CaptionRequest,
        image_ids: Sequence[int | str],
        images: Sequence[ImageSource],
    ) -> list[Caption]:
        """The captions of encoded images. image_ids: what a search that samples samples by."""

    def _check(self, request: CaptionRequest) -> None:
        """ConfigError for what this captioner cannot do."""

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
        must not have; both as captions are printed. They need a beam search (`captioner.decode.constrained`).
        settings: single settings of DecodeConfig, such as `beam_width=5`, `max_length=12` or, with decode="sample",
        `temperature=0.8, seed=3`.

        Raises ImageError for an image that cannot be read (of a list, its index is named), and ConfigError for a
        setting that does not exist, is out of range or has no effect on this search.
        """
        request = self._request(decode, alternatives, tags, must_have, must_not, settings)
        if not isinstance(images, list):
            return self._caption_batch([images], [""], request, [0])[0]
        captions: list[Caption] = []
        for start in range(0, len(images), self.batch):
            batch = images[start : start + self.batch]
            numbers = range(start, start + len(batch))
            captions += self._caption_batch(batch, _index_names(len(batch), start), request, numbers)
        return captions

    def caption_by_id(self, images: Mapping[int | str, ImageSource]) -> dict[int | str, Caption]:
        """Caption images of a data set by their ids, with the model's own search.

        A search that samples, samples by these ids, as `evaluate.py` does: so these are the captions that it scores.
        Raises ImageError for an image that cannot be read, which names its id.
        """
        request = self._request(None, 0, True, (), (), {})
        captions: dict[int | str, Caption] = {}
        ids = list(images)
        for start in range(0, len(ids), self.batch):
            of_batch = ids[start : start + self.batch]
            names = [f"image {image_id}: " for image_id in of_batch]
            found = self._caption_batch([images[image_id] for image_id in of_batch], names, request, of_batch)
            captions |= dict(zip(of_batch, found, strict=True))
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
        batch_size: int | None = None,
        **settings: float,
    ) -> Iterator[Caption | ImageError]:
        """Caption any number of images one after the other, as fast as possible and in constant memory.

        for path, caption in zip(paths, model.caption_each(paths)): ...

        The arguments are those of `caption`, and so are the captions: that of an image does not depend on the others,
        also where the search samples. While a batch of `batch_size` images (by default `batch`) is searched, threads
        encode the next one and decode later files. In place of the caption of an image that cannot be read comes its
        ImageError.
        """
        size = self.batch if batch_size is None else batch_size
        if size < 1:
            raise ConfigError(f"batch_size={size} is too small: expected 1 or more.")
        request = self._request(decode, alternatives, tags, must_have, must_not, settings)
        return self._caption_stream(images, request, size)

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
        request = CaptionRequest(config, alternatives, tags, constraints)
        self._check(request)
        return request

    def _caption_stream(
        self, images: Iterable[ImageSource], request: CaptionRequest, size: int
    ) -> Iterator[Caption | ImageError]:
        """The captions of any number of images, in batches of `size`."""
        return caption_stream(
            images,
            self._load,
            lambda loaded: self._encode(loaded, classify=request.needs_classes),
            lambda encoded, read: self._search(encoded, request, [0] * len(read), read),
            size,
        )

    def _caption_batch(
        self,
        images: Sequence[ImageSource],
        names: Sequence[str],
        request: CaptionRequest,
        image_ids: Sequence[int | str],
    ) -> list[Caption]:
        """Captions of images that are encoded together; image_ids: what a search that samples samples by."""
        encoded = self._encode(self._load_batch(images, names), classify=request.needs_classes)
        return self._search(encoded, request, image_ids, images)

    def _load_batch(self, images: Sequence[ImageSource], names: Sequence[str] | None = None) -> list[Loaded]:
        """The pixels of images. names: a prefix for each one's error message; by default its index."""
        loaded = []
        for image, name in zip(images, names or _index_names(len(images)), strict=True):
            try:
                loaded.append(self._load(image))
            except ImageError as error:
                raise ImageError(f"{name}{error}") from error
        return loaded


def _index_names(count: int, first: int = 0) -> list[str]:
    """The prefixes images[0], images[1] and so on of messages."""
    return [f"images[{first + index}]: " for index in range(count)]
