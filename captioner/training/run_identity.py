"""What a run must find again when it is resumed: the same data, seed, batch size and past.

A checkpoint stores the identity of its run. A resumed run compares it with its own: docs/runs.md has the rule.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from captioner.config import TrainConfig
from captioner.data.dataset import CaptionDataset, ImagePath
from captioner.data.features.sources import FeatureSource
from captioner.data.image_views import views_of
from captioner.distributed.ranks import rank_info
from captioner.errors import CheckpointError

CHUNK = 4096  # images whose values are hashed in one call
DATA, PHASES, PROCESSES = "data", "phases", "processes"
NOT_COMPARED = (
    "the checkpoint is of an older version and does not say what its data were: that they are still the same could not "
    "be checked."
)
_ASPECTS = {
    "images": "other images",
    "order": "its images in another order",
    "captions": "other captions",
    "sizes": "image files of other sizes",
    "content": "other content",
}
"""Part of a split's identity → what the split has where this part differs. The first that differs is reported."""


def run_identity(
    config: TrainConfig,
    train_set: CaptionDataset,
    train_features: FeatureSource,
    val_set: CaptionDataset,
    val_features: FeatureSource,
) -> dict[str, Any]:
    """The identity of a captioner's run, as plain values for a checkpoint."""
    splits = {train_set.split: (train_set, train_features), val_set.split: (val_set, val_features)}
    return {
        DATA: {split: split_identity(*parts) for split, parts in splits.items()},
        "seed": config.seed,
        "batch_size": config.trainer.batch_size,
        PROCESSES: rank_info().world_size,
    }


def split_identity(dataset: CaptionDataset, source: FeatureSource) -> dict[str, str | None]:
    """Digests of a split: its image ids, their order, the captions, the sizes of image files, and their content.

    The content is None where the source has not read the images yet: only the feature cache hashes all of them.
    """
    order, captions, sizes = (hashlib.blake2b(digest_size=16) for _ in range(3))
    images = 0  # a sum does not depend on the order
    all_images = iter(dataset)
    while chunk := list(islice(all_images, CHUNK)):
        names = [repr(image.image_id).encode() for image in chunk]
        for name in names:
            images += int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "big")
        order.update(b"".join([name + b"\n" for name in names]))
        captions.update("".join([f"{image.captions!r}\n" for image in chunk]).encode())
        sizes.update("".join([f"{[_size(view) for view in views_of(image.path)]}\n" for image in chunk]).encode())
    return {
        "images": f"{images % 2**128:032x}",
        "order": order.hexdigest(),
        "captions": captions.hexdigest(),
        "sizes": sizes.hexdigest(),
        "content": source.content,
    }


def sequence_digest(values: Iterable[bytes]) -> str:
    """A digest of byte strings in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(len(value).to_bytes(8, "big") + value)
    return digest.hexdigest()


def _size(path: ImagePath) -> int | None:
    """The size of an image file in bytes; None where the file is missing, or its size not known without reading it."""
    try:
        return os.stat(path).st_size if isinstance(path, Path) else path.known_size  # noqa: PTH116 - faster
    except OSError:
        return None


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, str]:
    """What differs between two identities: name, as in `resume_despite` → a description.

    "data" is split → digest or digests; every other value is a setting. A name that `stored` lacks is not compared.
    """
    found = {}
    for name in current.keys() & stored.keys():
        if name != DATA and stored[name] != current[name]:
            found[name] = f"it was trained with {name}={stored[name]}, and this is {name}={current[name]}"
    if DATA in stored:
        changes = [_changed_split(split, stored[DATA][split], digests) for split, digests in current[DATA].items()]
        if changed := [change for change in changes if change is not None]:
            found[DATA] = " and ".join(changed)
    return dict(sorted(found.items()))


def _changed_split(split: str, stored: Mapping[str, Any], current: Mapping[str, Any]) -> str | None:
    for aspect, what in _ASPECTS.items():
        before, now = stored.get(aspect), current.get(aspect)
        if before is not None and now is not None and before != now:
            return f"{split} has {what}"
    return None


def check_same_run(found: Mapping[str, str], accepted: Sequence[str], folder: Path, step: int) -> list[str]:
    """Notes about the `differences` of a resumed run that are accepted.

    accepted: `resume_despite`. Another number of processes is always accepted, because it changes rounding only.
    CheckpointError names the others.
    """
    if refused := [name for name in found if name not in (*accepted, PROCESSES)]:
        what = "; ".join(f"{found[name]} ({name})" for name in refused)
        raise CheckpointError(
            f"{folder} cannot be resumed, because something has changed since its checkpoint of step {step}: {what}. "
            f"Undo the change, or continue in spite of it with resume_despite=[{','.join([*accepted, *refused])}]: the "
            "result is then that of no single training."
        )
    despite = " The result is that of no single training."
    return [f"resumed although {text}.{'' if name == PROCESSES else despite}" for name, text in found.items()]
