"""One function for every search, with torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from captioner.config import DecodeConfig
from captioner.decode.beam import beam, diverse_beam
from captioner.decode.consensus import ConsensusPredictor, consensus_search
from captioner.decode.constrained import Constraints, check_constraints
from captioner.decode.contrastive import contrastive
from captioner.decode.forbidden_tokens import check_phrases
from captioner.decode.greedy import greedy
from captioner.decode.hypothesis import Hypothesis
from captioner.decode.preferred_beam import preferences_of
from captioner.decode.sampling import image_seeds, sample
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures
from captioner.text.class_preferences import ClassPreferences
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens


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
    consensus: ConsensusPredictor | None = None,
    constraints: Sequence[Constraints] | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of every image, best first, from the search that `config.name` selects.

    decoder: in eval mode, because dropout would make captions random.
    n_best: the number of hypotheses per image, at most `beam_width`; searches without a beam return one.
    image_ids: one per image; with `config.seed` they seed all sampling, of tokens or of attention, so that an image's
        caption does not depend on its batch. None: the image's position in the batch.
    phrases: the phrase statistics of the training captions, `Vocabulary.phrases`.
    classes: the words of classes, for `config.class_weight` and `features.classes`.
    consensus: the predictor for `config.consensus_weight`.
    constraints: one per image: the words that its caption must and must not have, of beam search only.

    Raises ConfigError for settings that need `phrases`, classes or a predictor where there are none, and for
    constraints of another search.
    """
    check_phrases(config, phrases)
    check_constraints(config, constraints)
    probabilities = None if features.classes is None else features.classes.float().cpu().numpy()
    preferences = preferences_of(probabilities, config, classes)
    ids = range(len(features.vector)) if image_ids is None else image_ids
    features = features._replace(seeds=image_seeds(config.seed, ids).to(features.vector.device))

    def ranked(search: Callable[[int], list[list[Hypothesis]]]) -> list[list[Hypothesis]]:
        return consensus_search(search, lambda: features.vector.float().cpu().numpy(), config, n_best, consensus)

    def searched(n: int) -> list[list[Hypothesis]]:
        return beam(decoder, features, config, special, n, phrases, preferences, constraints)

    searches: dict[str, Callable[[], list[list[Hypothesis]]]] = {
        "greedy": lambda: [[best] for best in greedy(decoder, features, config, special, phrases)],
        "sample": lambda: [[sampled] for sampled in sample(decoder, features, config, special, image_ids, phrases)],
        "beam": lambda: ranked(searched),
        "diverse": lambda: ranked(lambda n: diverse_beam(decoder, features, config, special, n, phrases)),
        "contrastive": lambda: [[one] for one in contrastive(decoder, features, config, special, phrases)],
    }
    return searches[config.name]()
