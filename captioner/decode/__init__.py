"""Search for captions: greedy, sampling and beam, over any decoder that can take one step.

Reading order: `hypothesis` (what goes in and comes out), `constraints` (what may be said), `run_decoding_loop` and
`greedy` (one word after the other), `sampling`, `beam`; `docs/decoding.md` defines every setting exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from captioner.config import DecodeConfig
from captioner.decode.beam import beam
from captioner.decode.greedy import greedy
from captioner.decode.hypothesis import Hypothesis
from captioner.decode.sampling import image_seeds, sample, sample_captions
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SpecialTokens

__all__ = ["Hypothesis", "sample_captions", "search"]


def search(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    *,
    n_best: int = 1,
    image_ids: Sequence[int | str] | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of every image, best first, by the search that `config.name` selects.

    n_best: how many an image, at most `beam_width`; greedy and sampling give one.
    image_ids: what draws by lot, the search or the decoder's attention, is seeded with these and `config.seed` (its
    place in the batch if None), so that it does not depend on the batch an image is in.
    """
    ids = range(len(features.vector)) if image_ids is None else image_ids
    features = features._replace(seeds=image_seeds(config.seed, ids).to(features.vector.device))
    searches: dict[str, Callable[[], list[list[Hypothesis]]]] = {
        "greedy": lambda: [[one] for one in greedy(decoder, features, config, special)],
        "sample": lambda: [[one] for one in sample(decoder, features, config, special, image_ids)],
        "beam": lambda: beam(decoder, features, config, special, n_best),
    }
    return searches[config.name]()
