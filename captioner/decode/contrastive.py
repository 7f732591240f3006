"""Contrastive search (Su et al. 2022, equation 5).

At each step the word is, of the k = `candidates` most probable ones, the one that maximizes

    (1 − α) p(v | words before, image) − α max_j cos(h(v), h(x_j))

with α = `degeneration_penalty`. h(x_j) is the vector that the output layer read after the decoder had read word x_j of
the caption, and h(v) the one after reading v, for which every candidate is read once. The first word has no word before
it, so it is the most probable. k = 1 or α = 0 is greedy search. <END> is a candidate like any word.

Su et al. search with large language models, whose vectors they train to differ (their SimCTG) or that differ anyway.
Vectors of small captioners are alike for words of one kind, so that the search avoids words of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.config import DecodeConfig
from captioner.decode.constraints import MASKED, mask_forbidden_tokens, penalize_repetition
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis, check_not_nan
from captioner.decode.repetition import repetition_gain
from captioner.decode.scores import at_least_float32, top_tokens
from captioner.errors import ConfigError
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.output import WordOutput
from captioner.nn.types import ImageFeatures, repeat_rows, select_images, select_rows
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens


@torch.inference_mode()
def contrastive(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    phrases: PhraseStatistics | None = None,
) -> list[Hypothesis]:
    """One hypothesis per image. ConfigError for a decoder without an output layer of the package, `WordOutput`."""
    device = features.vector.device
    images = list(range(len(features.vector)))  # the image of each row; finished ones are removed
    hypotheses = [PartialHypothesis() for _ in images]
    attention: list[Tensor | None] = []
    with OutputInputs(decoder) as vectors:
        if not images:
            return []
        tokens = torch.full((len(images),), special.start, device=device)
        logits, state, weights = decoder.step(tokens, decoder.init_state(features))
        said: Tensor | None = None  # (N, t, H) unit vectors of the words so far
        while images:
            attention.append(weights)
            of_rows = [hypotheses[image] for image in images]
            values, tokens, log_probs = _candidates(logits, of_rows, config, special, phrases)
            count = tokens.shape[1]
            logits, state, weights = decoder.step(tokens.flatten(), repeat_rows(state, count))
            unit = F.normalize(vectors.read(), dim=1).view(len(images), count, -1)
            best = _most_contrastive(values.exp(), unit, said, values == MASKED, config.degeneration_penalty)

            active = []
            chosen = best[:, None]
            pairs = zip(tokens.gather(1, chosen).tolist(), log_probs.gather(1, chosen).tolist(), strict=True)
            for row, (image, ((token,), (log_prob,))) in enumerate(zip(images, pairs, strict=True)):
                check_not_nan(log_prob, image, len(of_rows[row].tokens))
                if log_prob == MASKED:  # no allowed token has a probability: the caption stays unfinished
                    continue
                if token == special.end:
                    hypotheses[image] = of_rows[row].end(log_prob)
                elif len(of_rows[row].tokens) < config.max_length:
                    repetition = repetition_gain(token, log_prob, of_rows[row].tokens, config)
                    hypotheses[image] = of_rows[row].append(token, log_prob, row, repetition=repetition)
                    active.append(row)
            images = [images[row] for row in active]
            kept = torch.tensor(active, dtype=torch.int64, device=device)
            rows = kept * count + best[kept]
            new = unit[kept, best[kept]][:, None]
            said = new if said is None else torch.cat([said[kept], new], dim=1)
            logits, weights = logits[rows], None if weights is None else weights[rows]
            state = select_rows(state, rows) if len(active) == len(of_rows) else select_images(state, kept, rows)
    return [hypothesis.complete(attention, config.length_penalty, _stack) for hypothesis in hypotheses]


def _candidates(
    logits: Float[Tensor, "N V"],
    hypotheses: Sequence[PartialHypothesis],
    config: DecodeConfig,
    special: SpecialTokens,
    phrases: PhraseStatistics | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, k) each: log-probabilities after the repetition penalty, best first, their tokens, and those of the model."""
    logits = at_least_float32(logits)
    total = logits.logsumexp(dim=1)  # the model's own normalizer, before tokens are masked
    logits = logits.clone()
    mask_forbidden_tokens(logits, hypotheses, config, special, phrases)
    log_probs = logits - total[:, None]
    values, tokens = top_tokens(
        penalize_repetition(log_probs, torch.zeros_like(total), hypotheses, config), config.candidates
    )
    return values, tokens, log_probs.gather(1, tokens)


def _most_contrastive(
    probabilities: Float[Tensor, "N K"],
    unit: Float[Tensor, "N K H"],
    said: Float[Tensor, "N T H"] | None,
    masked: Bool[Tensor, "N K"],
    alpha: float,
) -> Tensor:
    """(N,): the candidate that maximizes the module's expression; among equals the most probable."""
    value = (1 - alpha) * probabilities
    if said is not None:
        value = value - alpha * (unit @ said.transpose(1, 2)).amax(dim=2).to(value.dtype)
    return value.masked_fill(masked, MASKED).max(dim=1).indices


class OutputInputs:
    """Inside the context, `read` returns the vectors that the output layers of a decoder read last, side by side.

    An ensemble has several output layers; all vectors then count alike, each with unit length.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._layers = [module for module in decoder.modules() if isinstance(module, WordOutput)]
        if not self._layers:
            raise ConfigError(
                "decode.name=contrastive compares the vectors that a decoder's output layer reads, and this decoder "
                "has no output layer of the type captioner.nn.layers.output.WordOutput. Choose another search."
            )
        self._last: dict[int, Tensor] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> OutputInputs:
        for index, layer in enumerate(self._layers):
            handle = layer.register_forward_pre_hook(lambda _, inputs, index=index: self._keep(index, inputs[0]))
            self._hooks.callback(handle.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()

    def _keep(self, index: int, vectors: Tensor) -> None:
        self._last[index] = vectors

    def read(self) -> Float[Tensor, "N H"]:
        """The vectors of the last step."""
        parts = [
            self._last[index].to(torch.promote_types(self._last[index].dtype, torch.float32)) for index in self._last
        ]
        return torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)


def _stack(weights: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(weights))
