"""The contract of every caption decoder: what it must implement, and what it declares about itself.

A decoder implements `init_state` and `step`; that is enough for every search and for training. It overrides `forward`
where all steps of known captions can be computed faster together than one by one. Code outside of `captioner.nn` asks
for what a decoder declares (`attends`, `samples_attention`, …), never for its class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import EncoderConfig
from captioner.nn.layers.output import WordOutput
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, map_tensors, select_images
from captioner.text.vocabulary import Vocabulary

StateT = TypeVar("StateT", bound="DecoderState[Any, Any]")


class Decoder(nn.Module, ABC, Generic[StateT]):
    """A network that generates captions token by token from an image's features.

    It is constructed with (settings, vocabulary size V, feature dimension D).

    Attributes:
        needs_grid: whether it reads `ImageFeatures.grid`, or only the vector.
        attends: whether it returns attention weights over the regions of the grid.
        parallel_over_steps: whether `forward` computes all steps of a caption together, not one after another.
            Scheduled sampling then chooses the decoder's own words from a teacher-forced pass.
        reconstructs_features: whether `reconstruct_features` predicts an image's vector from a caption.
        returns_output: whether the logits of `step` are what its `output`, a `WordOutput`, returns, and the next state
            does not depend on them. Greedy search of one image is then faster (`captioner.decode.screened_greedy`).
        attention_at_test: "expected" or "sample" for a decoder that samples where to attend; otherwise None.
    """

    needs_grid: bool = False
    attends: bool = False
    parallel_over_steps: bool = False
    reconstructs_features: bool = False
    returns_output: bool = False
    attention_at_test: str | None = None

    @property
    def not_exportable(self) -> str | None:
        """Why `init_state` and `step` cannot be exported to ONNX, as a sentence; None where they can.

        Both must then work under `torch.export` with free lengths, so they take lengths from `tensor.shape`: `len`
        would fix them to those of the example.
        """
        if self.attention_at_test == "sample":
            return (
                "it samples where to attend, with shifts of signed 64-bit integers, which ONNX does not have. "
                "model.hard_at_test=expected attends without sampling."
            )
        return None

    @property
    def samples_attention(self) -> bool:
        """Whether it samples where to attend. Such a decoder is not trained by self-critical training as well."""
        return self.attention_at_test is not None

    @abstractmethod
    def init_state(self, features: ImageFeatures) -> StateT:
        """The state before the first token: one row per image, N = B."""

    @abstractmethod
    def step(self, tokens: Int[Tensor, " N"], state: StateT) -> DecoderStep:
        """Read one token per row and predict the next one.

        The caller may change the returned logits in place. Searches call it in eval mode.
        """

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher forcing: the logits (M, V) of every token of `captions`, given the reference tokens before it.

        This implementation calls `step` once per time step.
        """
        state = select_images(self.init_state(features), captions.images, captions.images)
        logits: list[Tensor] = []
        attention: list[Tensor] = []
        for active, step in captions.steps():
            state = _first_rows(state, active)
            output = self.step(captions.inputs[step], state)
            state = output.state
            logits.append(output.logits)
            if output.attention is not None:
                attention.append(output.attention)
        return DecoderOutput(torch.cat(logits), torch.cat(attention) if attention else None)

    def prepare_training(self, vocabulary: Vocabulary, encoder: EncoderConfig) -> None:
        """Called once for an untrained decoder, before its training; does nothing.

        A decoder overrides it to look up what it needs of the vocabulary and of the encoder's published weights, and
        keeps that in buffers, which a checkpoint stores. ConfigError where the encoder does not have it.
        """

    def start_from_frequencies(self, counts: Int[Tensor, " V"]) -> None:
        """Called once for an untrained decoder, with `trainer.output_bias=frequencies`: start its `WordOutput` there.

        counts: how often each token is to be predicted in the training captions. A decoder with an output layer of its
        own overrides it.
        """
        for module in self.modules():
            if isinstance(module, WordOutput):
                module.start_from_frequencies(counts)

    def after_optimizer_step(self, losses: Mapping[str, float]) -> None:
        """Called after every optimizer step with that step's mean losses ("words": nats per token); does nothing.

        A decoder overrides it to update statistics of its own.
        """

    def reconstruct_features(self, captions: PackedCaptions) -> Float[Tensor, "N D"]:
        """The image vector that each caption describes, where `reconstructs_features`; else NotImplementedError."""
        raise NotImplementedError(f"{type(self).__name__} does not predict image features from a caption")


def _first_rows(state: StateT, count: int) -> Any:
    """The first `count` images of a state with one row per image."""
    image, rows = (map_tensors(lambda tensor: tensor[:count], parts) for parts in (state.image, state.rows))
    return DecoderState(image, rows)
