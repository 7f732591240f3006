"""Features of images → captions: the search, then what is known about each caption that it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from captioner.captioning.caption_request import CaptionRequest
from captioner.captioning.to_caption import to_caption
from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.data.features.precomputed.region_features import RegionFeatures
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import ImageSource
from captioner.decode import Hypothesis, search
from captioner.evaluation.tags import tags_of
from captioner.generated_caption import Caption, with_confidence
from captioner.nn.encoders.class_head import ClassScores
from captioner.nn.side_by_side import attention_maps
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import Tokenizer


class CaptionSearch:
    """Captions encoded images with the decoder of a checkpoint. tokenizer: joins the tokens of a caption to a text."""

    def __init__(self, checkpoint: LoadedCheckpoint, tokenizer: Tokenizer) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.vocabulary = checkpoint.vocabulary
        self.transform = checkpoint.settings.transform
        self.tokenizer = tokenizer

    def captions(
        self,
        features: ImageFeatures,
        request: CaptionRequest,
        image_ids: Sequence[int | str],
        images: Sequence[ImageSource | None],
        *,
        scores: ClassScores | None = None,
        regions: Sequence[RegionFeatures] | None = None,
    ) -> list[Caption]:
        """The captions of B images.

        image_ids: what a search that samples samples by. images: as they were given, for `Caption.plot`.
        scores: what the classifier says of the images, for tags. regions: `features` as they were made elsewhere.
        """
        hypotheses = self._search(features, request, image_ids)
        of_regions = [None] * len(images) if regions is None else regions
        captions = [self._to_caption(*of_image) for of_image in zip(hypotheses, images, of_regions, strict=True)]
        if request.tags and scores is not None and len(scores.logits) == len(images):  # not of several views
            found = tags_of(scores.probabilities.float().cpu().numpy(), scores.region_logits_of_image)
            captions = [replace(caption, tags=of_image) for caption, of_image in zip(captions, found, strict=True)]
        return self._with_confidence(captions, features, request)

    def _search(
        self, features: ImageFeatures, request: CaptionRequest, image_ids: Sequence[int | str]
    ) -> list[list[Hypothesis]]:
        """The best hypotheses of each image."""
        decoder, config, n_best = self.model.decoder, request.decode, request.alternatives + 1
        return search(
            decoder,
            features,
            config,
            self.vocabulary.special,
            n_best=n_best,
            image_ids=image_ids,
            phrases=self.vocabulary.phrases,
            classes=self.vocabulary.class_preferences,
            consensus=self.checkpoint.consensus,
            constraints=None if request.constraints is None else [request.constraints] * len(image_ids),
        )

    def _with_confidence(
        self, captions: list[Caption], features: ImageFeatures, request: CaptionRequest
    ) -> list[Caption]:
        """The captions with what the checkpoint's calibration says about them; it knows no constrained search."""
        calibration = self.checkpoint.calibration
        if calibration is None:
            return captions
        config = request.decode if request.constraints is None else None
        return with_confidence(captions, features.vector.float().cpu().numpy(), calibration, config)

    def _to_caption(
        self, hypotheses: Sequence[Hypothesis], image: ImageSource | None, regions: RegionFeatures | None
    ) -> Caption:
        """The best hypothesis as a caption, the others as its alternatives. regions: of features made elsewhere."""
        views = len(image.views) if isinstance(image, ImageViews) else 1
        grid_size = self.model.encoder.grid_size
        if regions is not None:
            views, grid_size = 1, regions.grid or (1, len(regions.features))
        return to_caption(
            hypotheses,
            self.vocabulary,
            self.tokenizer,
            lambda weights: attention_maps(weights.float(), grid_size, views).cpu().numpy(),
            image=image,
            stretch=self.transform.stretch,
            resize="squash" if isinstance(image, ImageViews) or regions is not None else self.transform.resize,
            boxes=None if regions is None else regions.boxes,
        )
