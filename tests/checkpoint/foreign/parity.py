"""Comparing an imported model with what the project's own code computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.foreign.import_checkpoint import ImportOptions, import_checkpoint
from captioner.config import DecodeConfig
from captioner.decode import search
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures

TOLERANCE = 1e-5


def imported(path: Path, project: str, out: Path, **options: object) -> LoadedCheckpoint:
    """The run folder that the import writes, loaded as any other."""
    import_checkpoint(path, project, out, ImportOptions(**options))  # type: ignore[arg-type]
    return load_checkpoint(out)


def logits_of(
    loaded: LoadedCheckpoint, features: ImageFeatures, captions: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """The teacher-forced logits (T, V) of one caption per image, given as our token ids."""
    packed = pack_captions([[list(caption)] for caption in captions])
    with torch.no_grad():
        logits = loaded.model.decoder(features, packed).logits
    rows = {int(packed.images[row]): logits[packed.rows == row] for row in range(len(captions))}
    return [rows[image] for image in range(len(captions))]


def captions_of(
    loaded: LoadedCheckpoint, features: ImageFeatures, *, beam: int | None = None, length: int, unknown: bool = True
) -> list[tuple[list[int], float]]:
    """The best caption of each image as our token ids, and its log-probability; `beam`: None for greedy search."""
    config = DecodeConfig(
        name="greedy" if beam is None else "beam", beam_width=beam or 1, max_length=length, allow_unknown=unknown
    )
    found = search(loaded.model.decoder, features, config, loaded.vocabulary.special)
    return [(list(hypotheses[0].tokens), hypotheses[0].log_prob) for hypotheses in found]


def check_close(found: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    """Equal to 1e-5."""
    torch.testing.assert_close(found, torch.as_tensor(np.asarray(expected)), atol=TOLERANCE, rtol=0)
