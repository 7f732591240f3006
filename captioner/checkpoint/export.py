"""Export a trained captioner for sharing: a small run folder with one checkpoint, from which no run can be resumed.

Weights are stored in float16 (`captioner.checkpoint.weights`), encoder weights that equal the published ones are
omitted (`captioner.checkpoint.omitted_weights`), and there is no optimizer state. Whatever loads a run folder loads
an export.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.checkpoint.checkpoint import (
    CONFIG_FILE,
    MODEL_FILE,
    TRAINER_FILE,
    VOCABULARY_FILE,
    LoadedCheckpoint,
    checkpoint_config,
)
from captioner.checkpoint.index import INDEX_FILE, is_checkpoint_name
from captioner.checkpoint.manifest import write_manifest
from captioner.checkpoint.omitted_weights import OmittedWeights, omit_published_weights
from captioner.checkpoint.weights import own_weights, size_of, within_bytes, write_weights
from captioner.config import EncoderConfig
from captioner.errors import CheckpointError, ConfigError, WeightsError
from captioner.files import write_json
from captioner.nn.encoders.encoder_weights import looks_like_file
from captioner.schema import to_plain

CARD_FILE = "MODEL_CARD.md"
_AROUND = 64 << 10  # bytes kept free for the card, the settings and the like


@dataclass(frozen=True)
class Packed:
    """How an export's weights are stored.

    numbers: parameters of the decoder; half: whether matrices are in float16; in_8_bits: the names of those in 8
    bits; omitted_weights: blocks of the encoder that are not in the file; why_whole: why none could be omitted,
    where omitting was asked for.
    """

    numbers: int
    half: bool
    in_8_bits: list[str]
    omitted_weights: OmittedWeights | None
    why_whole: str | None = None


def write_export(
    loaded: LoadedCheckpoint, folder: Path, *, half: bool = True, most_bytes: int | None = None, whole: bool = False
) -> Packed:
    """Write the captioner into the new run folder `folder`, its checkpoint under the name it had.

    half: matrices in float16, else every number as it is. most_bytes: of the whole folder, for which the largest
    matrices are stored in 8 bits where need be. whole: the encoder's weights too, also where they are published.
    Raises CheckpointError where it cannot be done within `most_bytes`.
    """
    if most_bytes is not None and not half:
        raise ConfigError("A limit of the size goes with float16: leave one of the two out.")
    model, settings = loaded.model, loaded.settings
    weights, omitted_weights, why = own_weights(model), None, None
    if not whole:
        try:
            weights, omitted_weights = omit_published_weights(weights, model.encoder, settings.encoder)
        except WeightsError as error:
            why = str(error)
    in_8_bits: list[str] = []
    if half:
        vocabulary = len(loaded.vocabulary.to_json().encode())
        most = size_of(weights) if most_bytes is None else most_bytes - vocabulary - _AROUND
        weights, in_8_bits = within_bytes(weights, most)
    # What the encoder was first filled from is nobody's business: the checkpoint has its own weights.
    settings = replace(settings, encoder=without_path(settings.encoder))
    config = checkpoint_config(settings) | ({"omitted_weights": to_plain(omitted_weights)} if omitted_weights else {})
    name = loaded.path.name if is_checkpoint_name(loaded.path.name) else "step-00000000"
    target = folder / "checkpoints" / name
    target.mkdir(parents=True)
    write_weights(weights, target / MODEL_FILE)
    loaded.vocabulary.save(target / VOCABULARY_FILE)
    write_json(target / CONFIG_FILE, config)
    write_manifest(target)
    write_json(target.parent / INDEX_FILE, {"latest": target.name, "best": target.name, "last": [target.name]})
    numbers = sum(parameter.numel() for parameter in model.decoder.parameters())
    return Packed(numbers, half, in_8_bits, omitted_weights, why)


@contextmanager
def new_export(target: Path, *, replace_export: bool = False) -> Iterator[Path]:
    """An empty folder beside `target`, which becomes `target` when all went well and is removed when not.

    Raises CheckpointError where `target` is there: only an earlier export gives way, with `replace_export`.
    """
    if target.exists():
        if not replace_export:
            raise CheckpointError(f"{target} is there already: give another folder, or --replace for an older export.")
        if not (target / CARD_FILE).is_file() or any(target.rglob(TRAINER_FILE)):
            raise CheckpointError(f"{target} is no export (it holds no {CARD_FILE}, or a training): not replaced.")
    if not target.absolute().parent.is_dir():
        raise CheckpointError(f"{target} cannot be made: the folder {target.absolute().parent} does not exist.")
    temporary, old = (target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp") for _ in range(2))
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def without_path(encoder: EncoderConfig) -> EncoderConfig:
    """The same settings, a file of weights by its name alone: where it was says nothing to others."""
    if encoder.weights is None or not looks_like_file(encoder.weights):
        return encoder
    return replace(encoder, weights=Path(encoder.weights).name)
