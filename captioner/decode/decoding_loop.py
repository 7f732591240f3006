"""One hypothesis an image, word by word: the loop that greedy search and sampling share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.constraints import MASKED, mask_forbidden_tokens
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis
from captioner.decode.scores import at_least_float32, check_not_nan
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures, select_images
from captioner.text.vocabulary import SpecialTokens

# (logits (N, V) in which what is forbidden is -inf, the image of each row, words said) → the next tokens (N,)
Choice = Callable[[Float[Tensor, "N V"], list[int], int], Int[Tensor, " N"]]


@torch.inference_mode()
def run_decoding_loop(
    decoder: Decoder[Any], features: ImageFeatures, config: DecodeConfig, special: SpecialTokens, choose: Choice
) -> list[Hypothesis]:
    """The hypothesis of every image that takes what `choose` says, up to <END> or `max_length` words.

    After the last word one more step is taken, in which only the choice of <END> counts: it finishes
    the caption. A caption whose choice there is another word stays as it is, unfinished.
    """
    device = features.vector.device
    images = list(range(features.vector.shape[0]))  # the image of each row; those that are done leave
    paths = [PartialHypothesis() for _ in images]
    attention: list[Tensor | None] = []
    state = decoder.init_state(features)
    tokens = torch.full((len(images),), special.start, device=device)
    length = 0

    while images:
        logits, state, weights = decoder.step(tokens, state)
        attention.append(weights)
        logits = at_least_float32(logits)
        total = logits.logsumexp(dim=1)  # the model's own normaliser: before anything is forbidden
        mask_forbidden_tokens(logits, [paths[image] for image in images], config, special)
        tokens = choose(logits, images, length)
        log_probs = logits.gather(1, tokens[:, None]).squeeze(1) - total

        stay = []
        for row, (image, token, log_prob) in enumerate(zip(images, tokens.tolist(), log_probs.tolist(), strict=True)):
            check_not_nan(log_prob, image, length)
            if log_prob == MASKED:  # nothing that is allowed has any probability: the caption stays unfinished
                continue
            if token == special.end:
                paths[image] = paths[image].end(log_prob)
            elif length < config.max_length:
                paths[image] = paths[image].append(token, log_prob, row)
                stay.append(row)
        if 0 < len(stay) < len(images):
            rows = torch.tensor(stay, device=device)
            state, tokens = select_images(state, rows, rows), tokens[rows]
        images = [images[row] for row in stay]
        length += 1
    return [path.hypothesis(attention, config.length_penalty) for path in paths]
