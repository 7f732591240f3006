"""Checks of the data: unknown words, validation images in the training split, and a run's recorded captions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.config import DecodeConfig
from captioner.data.dataset import CaptionedImage
from captioner.data.datasets.annotation_files import join_names
from captioner.data.images.decode import load_image
from captioner.doctor.context import DiagnosticContext
from captioner.doctor.findings import Finding, make_finding, severity_by_limits, worst_severity
from captioner.errors import ConfigError, ImageError
from captioner.schema import from_plain

SIDE = 16  # pixels of the gray thumbnail by which re-encoded copies are recognized
NEAR = 3.0  # mean difference of two thumbnails, of 255, below which the images count as copies
FLAT = 8.0  # standard deviation of a thumbnail below which images cannot be distinguished


def check_unknown_words(context: DiagnosticContext) -> Finding:
    """The share of reference tokens that are not in the vocabulary, and of generated captions with <UNK>."""
    vocabulary = context.checkpoint.vocabulary
    tokens = [token for captions in context.val.tokens for words in captions for token in words]
    unknown = sum(token not in vocabulary for token in tokens) / max(len(tokens), 1)
    with_unknown = sum(vocabulary.special.unknown in hypothesis.tokens for hypothesis in context.hypotheses)
    share = with_unknown / len(context.hypotheses)
    return make_finding(
        "unknown words",
        worst_severity(severity_by_limits(unknown, 0.05, 0.15), severity_by_limits(share, 0.02, 0.2)),
        f"{unknown:.1%} of the reference tokens are not among the {len(vocabulary):,} words of the vocabulary; "
        f"{share:.1%} of the generated captions contain <UNK>.",
        "Lower vocabulary.min_count, raise vocabulary.max_size, choose a tokenizer that fits the language, and keep "
        "decode.allow_unknown=false.",
        {"unknown_tokens": unknown, "captions_with_unknown": share},
    )


def check_leak(context: DiagnosticContext, images: int) -> Finding:
    """Validation images that are in the training split: by id, by bytes, and by appearance.

    images: how many training images are compared.
    """
    if context.train_set is None:
        return Finding("validation in train", "skipped", "the data set has no train split.")
    train, val = context.train_set.images[:images], context.val.dataset.images
    ids = {image.image_id for image in context.train_set}
    by_id = {image.image_id for image in context.val_set} & ids
    train_digests, train_thumbnails = _thumbnails(train)
    digests, thumbnails = _thumbnails(val)
    trained = set(train_digests) - {b""}
    is_same = [digest in trained for digest in digests]
    same = [image for image, found in zip(val, is_same, strict=True) if found]
    near = [
        image
        for image, found, thumbnail in zip(val, is_same, thumbnails, strict=True)
        if not found and thumbnail.std() >= FLAT and _is_near(thumbnail, train_thumbnails)
    ]
    share = max(len(by_id) / len(context.val_set), len(same) / len(val))
    names = join_names(image.path.name for image in (*same, *near))
    return make_finding(
        "validation in train",
        worst_severity(severity_by_limits(share, 0.0, 0.01), severity_by_limits(len(near) / len(val), 0.0)),
        f"of {len(val):,} validation images, {len(same):,} are equal to a training image and "
        f"{len(near):,} more look like one; {len(by_id):,} of {len(context.val_set):,} ids are in both (compared "
        f"with {len(train):,} of {len(ids):,} training images)" + (f": {names}." if names else "."),
        "Scores on training images do not measure generalization. Remove these images from one split (python -m "
        "captioner data check names them all) and train again.",
        {"ids": len(by_id), "same_bytes": len(same), "near": len(near)},
    )


def _thumbnails(images: Sequence[CaptionedImage]) -> tuple[list[bytes], np.ndarray]:
    """The digest of every image's bytes, b"" if it cannot be read, and the thumbnails, (images, SIDE·SIDE)."""
    digests, thumbnails = [], np.zeros((len(images), SIDE * SIDE), dtype=np.float32)
    for row, image in enumerate(images):
        try:
            content = image.path.read_bytes()
            thumbnail = load_image(content, at_least=SIDE).convert("L")
        except (OSError, ImageError):
            digests.append(b"")  # data check names these
            continue
        digests.append(hashlib.blake2b(content, digest_size=16).digest())
        thumbnails[row] = np.asarray(thumbnail.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).ravel()
    return digests, thumbnails


def _is_near(one: np.ndarray, others: np.ndarray) -> bool:
    return bool((np.abs(others - one).mean(axis=1) < NEAR).any())


def check_recorded_captions(context: DiagnosticContext) -> Finding:
    """Compare the generated captions with those that the run wrote when it was scored."""
    path = context.checkpoint.path.parent.parent / f"captions_{context.val_set.split}.json"
    name = "recorded captions"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        recorded = {row["image_id"]: row["caption"] for row in rows}
    except (OSError, ValueError, LookupError, TypeError):
        return Finding(name, "skipped", f"{path} does not exist or cannot be read.")
    tokenizer = context.checkpoint.tokenizer()
    vocabulary = context.checkpoint.vocabulary
    pairs = [
        (recorded[image.image_id], tokenizer.join(vocabulary.decode_caption(hypothesis.tokens)))
        for image, hypothesis in zip(context.val.dataset, context.hypotheses, strict=True)
        if image.image_id in recorded
    ]
    if not pairs:
        return Finding(name, "skipped", f"{path} has captions of other images.")
    differ = sum(old != new for old, new in pairs) / len(pairs)
    search = _other_search(path.parent, context)
    return make_finding(
        name,
        worst_severity(severity_by_limits(differ, 0.05, 0.2), "warning" if search else None),
        f"{differ:.1%} of {len(pairs):,} captions differ from those in {Path(path.parent.name, path.name)}: the scores "
        f"in that folder {'are not' if differ > 0.05 or search else 'are'} those of this checkpoint{search}.",
        "The search, the weights, the images or their preprocessing changed after the run was scored: run evaluate.py "
        "again.",
        {"differ": differ},
    )


def _other_search(run: Path, context: DiagnosticContext) -> str:
    """In which settings the search that the run was scored with differs from the checkpoint's own; "" if in none."""
    try:
        signature = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["signature"]
        scored = from_plain(DecodeConfig, signature["decode"], "decode")
    except (OSError, ValueError, LookupError, TypeError, ConfigError):
        return ""  # not known: the captions alone were compared
    own = context.checkpoint.settings.decode
    if signature.get("split") != context.val_set.split or (scored.name, scored.read_settings) == (
        own.name,
        own.read_settings,
    ):
        return ""
    searches = (f"{decode.name} ({', '.join(decode.described)})" for decode in (scored, own))
    return ", which were measured with {}, and it searches with {} now".format(*searches)
