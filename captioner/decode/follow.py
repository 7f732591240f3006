"""One hypothesis an image, word by word: the loop that greedy search and sampling share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.batch import worth_shrinking
from captioner.decode.constraints import NEVER, forbid
from captioner.decode.hypothesis import Hypothesis, Path, StepDecoder
from captioner.decode.scores import at_least_float32, check_number
from captioner.nn.state import ImageFeatures, select_images
from captioner.text.vocabulary import SpecialTokens

# (logits (N, V) in which what is forbidden is -inf, the image of each row, words said) → the next tokens (N,)
Choice = Callable[[Float[Tensor, "N V"], list[int], int], Int[Tensor, " N"]]


@torch.inference_mode()
def follow(
    decoder: StepDecoder, features: ImageFeatures, config: DecodeConfig, special: SpecialTokens, choose: Choice
) -> list[Hypothesis]:
    """The hypothesis of every image that takes what `choose` says, up to <END> or `max_length` words.

    After the last word one more step is taken, in which only the choice of <END> counts: it finishes
    the caption. A caption whose choice there is another word stays as it is, unfinished.
    """
    count, device = features.vector.shape[0], features.vector.device
    paths = [Path() for _ in range(count)]
    images = list(range(count))  # the image of each row
    closed: set[int] = set()  # images that are done; their rows may stay in the batch for a while
    attention: list[Tensor | None] = []
    state = decoder.init_state(features)
    tokens = torch.full((count,), special.start, device=device)

    for length in range(config.max_length + 1):
        if len(closed) == count:
            break
        logits, state, weights = decoder.step(tokens, state)
        attention.append(weights)
        logits = at_least_float32(logits)
        total = logits.logsumexp(dim=1)  # before anything is forbidden: the model's own normaliser
        forbid(logits, [None if image in closed else paths[image] for image in images], config, special)
        tokens = choose(logits, images, length)
        log_probs = logits.gather(1, tokens[:, None]).squeeze(1) - total

        for row, (image, token, log_prob) in enumerate(zip(images, tokens.tolist(), log_probs.tolist(), strict=True)):
            if image in closed:
                continue
            check_number(log_prob, image, length)
            if log_prob == NEVER:  # nothing that is allowed has any probability
                closed.add(image)
            elif token == special.end:
                paths[image] = paths[image].end(log_prob)
                closed.add(image)
            elif length < config.max_length:
                paths[image] = paths[image].say(token, log_prob, row)

        stay = [row for row, image in enumerate(images) if image not in closed]
        if worth_shrinking(len(stay), len(images)):
            rows = torch.tensor(stay, device=device)
            state, tokens = select_images(state, rows, rows), tokens[rows]
            images = [images[row] for row in stay]
    return [path.hypothesis(attention, config.length_penalty) for path in paths]
