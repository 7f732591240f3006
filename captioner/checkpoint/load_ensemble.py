"""Join checkpoints that share a vocabulary to an ensemble, which is used like one checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import torch

from captioner.checkpoint.average import load_average
from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.config import ENSEMBLE_MEANS
from captioner.errors import CheckpointError, choose
from captioner.nn.encoders.encoder import Encoder, encode_alike
from captioner.nn.ensemble import EnsembleDecoder, EnsembleModel, Member, region_overlap
from captioner.text.vocabulary import Vocabulary

SHOWN = 3  # tokens in a message


def load_ensemble(
    paths: Sequence[Path],
    device: torch.device | str = "cpu",
    mean: str = "probabilities",
    average: str | None = None,
) -> LoadedCheckpoint:
    """Load the checkpoints and join them; the arguments are those of `load_average` and `join_checkpoints`."""
    return join_checkpoints([load_average(path, average, device) for path in paths], mean)


def join_checkpoints(checkpoints: Sequence[LoadedCheckpoint], mean: str = "probabilities") -> LoadedCheckpoint:
    """The ensemble of these checkpoints; of one checkpoint, this checkpoint itself.

    mean: "probabilities" or "log_probabilities", see `captioner.nn.ensemble`. Settings and path are those of the first
    checkpoint, and so is the consensus predictor, which reads features of the first encoder; there is no calibration,
    because it was made for one of them. Members with equal encoders share one.

    Raises CheckpointError where two checkpoints have another vocabulary or tokenizer, or where one reads images and
    another features made elsewhere.
    """
    choose("ensemble_mean", mean, ENSEMBLE_MEANS)
    first, *others = checkpoints
    if not others:
        return first
    for other in others:
        _check_members(first, other)
    encoders: list[Encoder] = []
    members = []
    for checkpoint in checkpoints:
        encoder = checkpoint.model.encoder
        index = next((i for i, known in enumerate(encoders) if encode_alike(known, encoder)), len(encoders))
        if index == len(encoders):
            encoders.append(encoder)
        members.append(_member(checkpoint, index, encoders))
    device = next(first.model.decoder.parameters()).device
    model = EnsembleModel(encoders, EnsembleDecoder(members, mean)).to(device).eval()
    equal = (checkpoint.vocabulary for checkpoint in checkpoints)
    vocabulary = next((one for one in equal if one.phrases is not None), first.vocabulary)
    return replace(first, model=model, vocabulary=vocabulary, calibration=None, members=tuple(checkpoints))


def _member(checkpoint: LoadedCheckpoint, index: int, encoders: Sequence[Encoder]) -> Member:
    """A checkpoint as a member; its attention counts if its encoder sees the same part of an image as the first."""
    first, own = encoders[0], encoders[index]
    regions = None
    if own.grid_size != first.grid_size:
        regions = region_overlap(*own.grid_size, *first.grid_size)
    same_part = own.transform.resize == first.transform.resize
    return Member(checkpoint.model.decoder, index, same_part, regions)


def _check_members(first: LoadedCheckpoint, other: LoadedCheckpoint) -> None:
    """CheckpointError unless the two can predict words together."""
    together = f"{first.path} and {other.path} cannot caption together: "
    advice = "An ensemble needs checkpoints that were trained with one vocabulary and one tokenizer."
    if first.vocabulary != other.vocabulary:
        raise CheckpointError(f"{together}{_difference(first.vocabulary, other.vocabulary)} {advice}")
    names = [checkpoint.settings.tokenizer.name for checkpoint in (first, other)]
    if names[0] != names[1]:
        raise CheckpointError(f"{together}their tokenizers are {names[0]} and {names[1]}. {advice}")
    if first.tokenizer_model != other.tokenizer_model:
        raise CheckpointError(f"{together}their {names[0]} tokenizers have learned different subwords. {advice}")
    if first.model.encoder.encodes_images != other.model.encoder.encodes_images:
        raise CheckpointError(f"{together}one reads images, and the other features made elsewhere.")
    dims = [checkpoint.model.encoder.feature_dim for checkpoint in (first, other)]
    if not first.model.encoder.encodes_images and dims[0] != dims[1]:
        raise CheckpointError(f"{together}they read features with {dims[0]:,} and with {dims[1]:,} values per region.")


def _difference(one: Vocabulary, other: Vocabulary) -> str:
    """How two vocabularies differ, in a sentence: sizes, the first different id, and words that one of them lacks."""
    sizes = f"their vocabularies differ ({len(one):,} and {len(other):,} tokens"
    place, pair = next(
        (i, pair) for i, pair in enumerate(zip_longest(one.tokens, other.tokens, fillvalue=None)) if pair[0] != pair[1]
    )
    names = ["nothing" if token is None else repr(token) for token in pair]
    lacks = [
        f"{', '.join(map(repr, only[:SHOWN]))}{' …' if len(only) > SHOWN else ''} only in the {which}"
        for which, only in (
            ("first", [token for token in one.tokens[4:] if token not in other]),
            ("second", [token for token in other.tokens[4:] if token not in one]),
        )
        if only
    ]
    return f"{sizes}; id {place} is {names[0]} and {names[1]}{''.join(f'; {lack}' for lack in lacks)})."
