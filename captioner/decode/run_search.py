"""One function for every search, with torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from captioner.config import DecodeConfig
from captioner.decode.beam import beam, diverse_beam
from captioner.decode.contrastive import contrastive
from captioner.decode.forbidden_tokens import check_phrases
from captioner.decode.greedy import greedy
from captioner.decode.hypothesis import Hypothesis
from captioner.decode.sampling import image_seeds, sample
from captioner.errors import ConfigError
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures
from captioner.text.class_preferences import ClassPreferences
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens
from captioner.text.word_preferences import WordPreferences


def search(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    *,
    n_best: int = 1,
    image_ids: Sequence[int | str] | None = None,
    phrases: PhraseStatistics | None = None,
    classes: ClassPreferences | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of every image, best first, from the search that `config.name` selects.

    decoder: in eval mode, because dropout would make captions random.
    n_best: the number of hypotheses per image, at most `beam_width`; searches without a beam return one.
    image_ids: one per image; with `config.seed` they seed all sampling, of tokens or of attention, so that an image's
        caption does not depend on its batch. None: the image's position in the batch.
    phrases: the phrase statistics of the training captions, `Vocabulary.phrases`.
    classes: the words of classes, for `config.class_weight` and `features.classes`.

    Raises ConfigError for settings that need `phrases` or classes where there are none.
    """
    check_phrases(config, phrases)
    preferences = _preferences(features, config, classes)
    ids = range(len(features.vector)) if image_ids is None else image_ids
    features = features._replace(seeds=image_seeds(config.seed, ids).to(features.vector.device))
    searches: dict[str, Callable[[], list[list[Hypothesis]]]] = {
        "greedy": lambda: [[best] for best in greedy(decoder, features, config, special, phrases)],
        "sample": lambda: [[sampled] for sampled in sample(decoder, features, config, special, image_ids, phrases)],
        "beam": lambda: beam(decoder, features, config, special, n_best, phrases, preferences),
        "diverse": lambda: diverse_beam(decoder, features, config, special, n_best, phrases),
        "contrastive": lambda: [[one] for one in contrastive(decoder, features, config, special, phrases)],
    }
    return searches[config.name]()


def _preferences(
    features: ImageFeatures, config: DecodeConfig, classes: ClassPreferences | None
) -> list[WordPreferences] | None:
    """What each image's classes prefer; None where they have no weight in this search."""
    if config.name != "beam" or not config.class_weight:
        return None
    if features.classes is None or classes is None:
        raise ConfigError(
            f"decode.class_weight={config.class_weight:g} needs the class probabilities of the images, and here are "
            "none: the encoder's published classifier gives them (docs/tags.md). Use decode.class_weight=0."
        )
    return classes.of_images(features.classes.float().cpu().numpy(), config.class_weight)
