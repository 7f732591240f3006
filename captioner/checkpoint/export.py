"""Export a trained captioner for sharing: a small run folder with one checkpoint, from which no run can be resumed.

Weights are stored in float16 or 8 bits (`captioner.checkpoint.weights`), encoder weights that equal the published ones
are omitted (`captioner.checkpoint.omitted_weights`), and there is no optimizer state. Whatever loads a run folder
loads an export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.checkpoint.calibration import save_calibration
from captioner.checkpoint.checkpoint import (
    CONFIG_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    TRAINER_FILE,
    VOCABULARY_FILE,
    LoadedCheckpoint,
    checkpoint_config,
)
from captioner.checkpoint.consensus_file import save_consensus
from captioner.checkpoint.index import INDEX_FILE, is_checkpoint_name
from captioner.checkpoint.manifest import write_manifest
from captioner.checkpoint.omitted_weights import OmittedWeights, omit_published_weights
from captioner.checkpoint.phrase_file import PHRASES_FILE, save_phrases
from captioner.checkpoint.weights import compress_to, unique_weights, write_weights
from captioner.config import EncoderConfig
from captioner.errors import CheckpointError, ConfigError, WeightsError
from captioner.files import replacing_folder, restore_replaced, write_json
from captioner.nn.encoders.encoder_weights import looks_like_file
from captioner.schema import to_plain

CARD_FILE = "MODEL_CARD.md"
_RESERVED = 64 << 10  # bytes for the card, the settings and other small files


@dataclass(frozen=True)
class ExportedWeights:
    """How an export's weights are stored.

    decoder_parameters: their number; half: whether matrices are in float16; in_8_bits: the names of those in 8
    bits; omitted_weights: blocks of the encoder that are not in the file; why_whole: why none could be omitted,
    where omitting was asked for.
    """

    decoder_parameters: int
    half: bool
    in_8_bits: list[str]
    omitted_weights: OmittedWeights | None
    why_whole: str | None = None


def write_export(
    loaded: LoadedCheckpoint,
    folder: Path,
    *,
    half: bool = True,
    in_8_bits: Sequence[str] = (),
    most_bytes: int | None = None,
    whole: bool = False,
) -> ExportedWeights:
    """Write the captioner to the run folder `folder`; its checkpoint keeps its name.

    half: store matrices in float16, otherwise everything in float32. in_8_bits: the parts of the model, "decoder" and
    "encoder", whose large matrices are stored in 8 bits. most_bytes: the limit of the folder's size; the largest
    matrices are stored in 8 bits if that is needed to meet it. whole: include the encoder weights that are published.
    Raises ConfigError for `in_8_bits` or `most_bytes` without `half`, CheckpointError if the limit cannot be met.
    """
    if most_bytes is not None and not half:
        raise ConfigError("A size limit needs float16: leave one of the two out.")
    if in_8_bits and not half:
        raise ConfigError("Weights in 8 bits and in float32 exclude each other: leave one of the two out.")
    model, settings = loaded.model, loaded.settings
    weights, omitted_weights, why = unique_weights(model), None, None
    if not whole:
        try:
            weights, omitted_weights = omit_published_weights(weights, model.encoder, settings.encoder)
        except WeightsError as error:
            why = str(error)
    names_in_8_bits: list[str] = []
    # The path of the encoder's weights file stays private; the checkpoint contains the weights.
    settings = replace(settings, encoder=without_path(settings.encoder))
    config = checkpoint_config(settings) | ({"omitted_weights": to_plain(omitted_weights)} if omitted_weights else {})
    name = loaded.path.name if is_checkpoint_name(loaded.path.name) else "step-00000000"
    target = folder / "checkpoints" / name
    target.mkdir(parents=True)
    loaded.vocabulary.save(target / VOCABULARY_FILE)
    if loaded.tokenizer_model is not None:
        (target / TOKENIZER_FILE).write_bytes(loaded.tokenizer_model)
    if loaded.vocabulary.phrases is not None:
        save_phrases(loaded.vocabulary.phrases, target / PHRASES_FILE)
    if loaded.consensus is not None:
        save_consensus(loaded.consensus, target)
    if half:
        others = sum(file.stat().st_size for file in target.iterdir())
        most = None if most_bytes is None else most_bytes - others - _RESERVED
        weights, names_in_8_bits = compress_to(weights, most, in_8_bits)
    write_weights(weights, target / MODEL_FILE)
    if loaded.calibration is not None:
        save_calibration(loaded.calibration, target)
    write_json(target / CONFIG_FILE, config)
    write_manifest(target)
    write_json(target.parent / INDEX_FILE, {"latest": target.name, "best": target.name, "last": [target.name]})
    decoder_parameters = sum(parameter.numel() for parameter in model.decoder.parameters())
    return ExportedWeights(decoder_parameters, half, names_in_8_bits, omitted_weights, why)


@contextmanager
def new_export(target: Path, *, replace_export: bool = False) -> Iterator[Path]:
    """An empty folder beside `target`, renamed to `target` on success and removed on failure.

    Raises CheckpointError if `target` exists and is not an export that `replace_export` allows to replace.
    """
    restore_replaced(target)
    if target.exists():
        if not replace_export:
            raise CheckpointError(f"{target} exists already: give another folder, or --replace for an older export.")
        if not (target / CARD_FILE).is_file() or any(target.rglob(TRAINER_FILE)):
            raise CheckpointError(
                f"{target} is not an export (it has no {CARD_FILE}, or it has a training state): not replaced."
            )
    if not target.absolute().parent.is_dir():
        raise CheckpointError(f"{target} cannot be created: the folder {target.absolute().parent} does not exist.")
    with replacing_folder(target) as temporary:
        yield temporary


def without_path(encoder: EncoderConfig) -> EncoderConfig:
    """The encoder settings with the name of a weights file instead of its path."""
    if encoder.weights is None or not looks_like_file(encoder.weights):
        return encoder
    return replace(encoder, weights=Path(encoder.weights).name)
