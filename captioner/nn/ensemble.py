"""An ensemble: several captioners that share a vocabulary predict each word together.

    mean="probabilities":      p(word) = 1/M Σ_m p_m(word)                    the arithmetic mean
    mean="log_probabilities":  p(word) ∝ exp(1/M Σ_m ln p_m(word))            the geometric mean, normalized

M members, each under its own softmax, given the image and the words that all have read (Sutskever et al. 2014 and
Vinyals et al. 2015 search with the former). An ensemble is a `Decoder`, so it works with every search. Its attention
weights are the mean of those of its members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.nn.decoders.decoder import Decoder
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures


class Member(NamedTuple):
    """A member of an ensemble.

    encoder: which of the ensemble's encoders encodes its images, from 0.
    maps_attention: whether its attention weights count in the ensemble's.
    regions: (P, P₀), its regions expressed in those of the first encoder, see `region_overlap`; None: the same regions.
    """

    decoder: Decoder[Any]
    encoder: int = 0
    maps_attention: bool = True
    regions: Tensor | None = None


class EnsembleDecoder(Decoder[DecoderState[Any, Any]]):
    """The decoders of the members as one. Their features are `ImageFeatures.others`, encoder by encoder."""

    def __init__(self, members: Sequence[Member], mean: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(member.decoder for member in members)
        self.mean = mean
        self._encoders = [member.encoder for member in members]
        self.attends = any(member.decoder.attends and member.maps_attention for member in members)
        self.needs_grid = any(member.decoder.needs_grid for member in members)
        self._maps_attention = [member.maps_attention for member in members]
        for index, member in enumerate(members):
            self.register_buffer(f"regions{index}", member.regions, persistent=False)

    @property
    def attention_at_test(self) -> str | None:
        """ "expected" or "sample" where a member samples where to attend; setting it sets it of all such members."""
        return next((member.attention_at_test for member in self._decoders() if member.samples_attention), None)

    @attention_at_test.setter
    def attention_at_test(self, how: str | None) -> None:
        for member in self._decoders():
            if member.samples_attention:
                member.attention_at_test = how

    def needs_grid_of(self, encoder: int) -> bool:
        """Whether a member reads the grid of this encoder."""
        pairs = zip(self._decoders(), self._encoders, strict=True)
        return any(member.needs_grid for member, its_encoder in pairs if its_encoder == encoder)

    def init_state(self, features: ImageFeatures) -> DecoderState[Any, Any]:
        """The states of all members."""
        states = [
            member.init_state(own) for member, own in zip(self._decoders(), self._features(features), strict=True)
        ]
        return DecoderState(tuple(state.image for state in states), tuple(state.rows for state in states))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[Any, Any]) -> DecoderStep:
        """`logits` are logarithms of the mean; of the geometric one they are not normalized, like any logits."""
        steps = [
            member.step(tokens, DecoderState(image, rows))
            for member, image, rows in zip(self._decoders(), state.image, state.rows, strict=True)
        ]
        states = [step.state for step in steps]
        return DecoderStep(
            mean_log_probs([step.logits for step in steps], self.mean),
            DecoderState(tuple(of.image for of in states), tuple(of.rows for of in states)),
            self._mean_attention([step.attention for step in steps]),
        )

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher forcing: what `step` gives for each token."""
        outputs = [
            member(own, captions) for member, own in zip(self._decoders(), self._features(features), strict=True)
        ]
        return DecoderOutput(
            mean_log_probs([output.logits for output in outputs], self.mean),
            self._mean_attention([output.attention for output in outputs]),
        )

    def _decoders(self) -> list[Decoder[Any]]:
        return [member for member in self.members if isinstance(member, Decoder)]

    def _features(self, features: ImageFeatures) -> list[ImageFeatures]:
        """The features that each member reads."""
        of_encoders = (features, *features.others)
        return [of_encoders[encoder]._replace(seeds=features.seeds, others=()) for encoder in self._encoders]

    def _mean_attention(self, attention: Sequence[Tensor | None]) -> Tensor | None:
        """(N, P₀), over the members that attend; None where none does."""
        of_members = []
        for index, weights in enumerate(attention):
            if weights is not None and self._maps_attention[index]:
                regions: Tensor | None = getattr(self, f"regions{index}")
                of_members.append(weights if regions is None else _project(weights, regions))
        return torch.stack(of_members).mean(dim=0) if of_members else None


class EnsembleModel(CaptioningModel):
    """The members' encoders, each once, and their decoders as one. `encoder` is the first."""

    decoder: EnsembleDecoder

    def __init__(self, encoders: Sequence[Encoder], decoder: EnsembleDecoder) -> None:
        super().__init__(encoders[0], decoder)
        self.other_encoders = nn.ModuleList(encoders[1:])

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The encoders, in the order of `ImageFeatures.others`."""
        return (self.encoder, *(encoder for encoder in self.other_encoders if isinstance(encoder, Encoder)))

    def needs_grid_of(self, encoder: int) -> bool:
        """Whether a member reads the grid of this encoder."""
        return self.decoder.needs_grid_of(encoder)


def mean_log_probs(logits: Sequence[Float[Tensor, "N V"]], mean: str) -> Float[Tensor, "N V"]:
    """ln of the mean of softmax(logits) over the members, or the mean of ln softmax (see the module's docstring).

    The mean of probabilities is taken of the probabilities themselves, which takes a third of the time of logarithms,
    unless one is too small for a float. In float32 at least: sums over V tokens need the precision.
    """
    wide = [
        of_member.to(torch.promote_types(of_member.dtype, torch.float32)) for of_member in logits
    ]  # for sums over V
    if mean == "log_probabilities":
        return _sum([of_member.log_softmax(dim=1) for of_member in wide]) / len(wide)
    total = _sum([of_member.softmax(dim=1) for of_member in wide])
    if total.numel() and bool(total.min() < torch.finfo(total.dtype).tiny):
        log_probs = torch.stack([of_member.log_softmax(dim=1) for of_member in wide])
        return log_probs.logsumexp(dim=0) - math.log(len(wide))
    return (total / len(wide)).log()


def _sum(parts: Sequence[Float[Tensor, "N V"]]) -> Float[Tensor, "N V"]:
    """The sum, in one new tensor."""
    total = parts[0] + parts[1] if len(parts) > 1 else parts[0]
    for part in parts[2:]:
        total += part
    return total


def region_overlap(rows: int, columns: int, to_rows: int, to_columns: int) -> Float[Tensor, "P P0"]:
    """(rows · columns, to_rows · to_columns): the share of each region of one grid that lies in each of another.

    Both grids cover the same image. So attention weights times this keep their sum, and a region's weight is spread
    evenly over its area.
    """
    return torch.kron(_overlap(rows, to_rows), _overlap(columns, to_columns))


def _overlap(parts: int, to_parts: int) -> Float[Tensor, "n m"]:
    """The share of each of n equal parts of [0, 1] that lies in each of m equal parts; rows sum to 1."""
    edges, to_edges = torch.linspace(0, 1, parts + 1).double(), torch.linspace(0, 1, to_parts + 1).double()
    upper = torch.minimum(edges[1:, None], to_edges[None, 1:])
    lower = torch.maximum(edges[:-1, None], to_edges[None, :-1])
    return ((upper - lower).clamp(min=0) * parts).float()


def _project(weights: Float[Tensor, "N Q"], regions: Float[Tensor, "P P0"]) -> Float[Tensor, "N R"]:
    """Weights over the regions of one or several views, one after the other, as weights over other regions."""
    views = weights.reshape(len(weights), -1, len(regions))
    return (views @ regions.to(weights.dtype)).flatten(1)
