"""Class probabilities beside the features of a data set, for a search that uses them (`decode.class_weight`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from captioner.config import CacheConfig, DataConfig, DecodeConfig, EncoderConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.features.sources import CachedFeatures, FeatureSource, OnTheFlyFeatures
from captioner.nn.encoders.class_head import Classifier, build_class_head
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.types import ImageFeatures


class ClassifiedFeatures:
    """A `FeatureSource` with `ImageFeatures.classes`. classes: a source whose vectors are the logits of the classes."""

    def __init__(self, features: FeatureSource, classes: FeatureSource) -> None:
        self._features, self._classes = features, classes
        self.origin = f"{features.origin}; classes from {classes.origin}"
        self.content, self.bad = features.content, features.bad

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        requested = [list(batch) for batch in batches]
        both = zip(self._features.batches(requested, epoch), self._classes.batches(requested), strict=True)
        for (indices, features), (classified, logits) in both:
            rows = torch.tensor([classified.index(index) for index in indices], device=features.vector.device)
            classes = logits.vector.softmax(dim=1).index_select(0, rows.long())
            yield indices, features._replace(classes=classes)


def with_classes(
    features: FeatureSource,
    dataset: CaptionDataset,
    encoder: Encoder,
    config: EncoderConfig,
    decode: DecodeConfig,
    *,
    data: DataConfig,
    cache: CacheConfig,
    device: torch.device,
) -> FeatureSource:
    """`features`, with the class probabilities of the encoder's network if the search uses them and it has them.

    encoder, config: as `build_class_head`. The logits come from the feature cache, as features do.
    """
    head = build_class_head(config, encoder, download=True) if decode.class_weight else None
    if head is None:
        return features
    classifier = Classifier(encoder, head).to(device)
    if cache.enabled:
        return ClassifiedFeatures(features, CachedFeatures(dataset, classifier, data, cache, device, False))
    return ClassifiedFeatures(features, OnTheFlyFeatures(dataset, classifier, data, device, False))
