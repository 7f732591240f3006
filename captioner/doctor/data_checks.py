"""Words that the vocabulary lacks, validation images that were trained on, and the figures that a run recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.data.dataset import CaptionedImage
from captioner.data.datasets.annotation_files import join_names
from captioner.data.images.decode import load_image
from captioner.doctor.context import DiagnosticContext
from captioner.doctor.findings import Finding, by_limits, judged, worst
from captioner.errors import ImageError
from captioner.text.tokenizers import build_tokenizer

SIDE = 16  # of the small grey image by which copies are told that were stored anew
NEAR = 3.0  # mean difference of two such images, of 255, below which they are taken for one
FLAT = 8.0  # a standard deviation below which an image has too little in it to be told from others


def check_unknown_words(context: DiagnosticContext) -> Finding:
    """The share of the references' tokens that the vocabulary lacks, and of captions that say <UNK>."""
    vocabulary = context.checkpoint.vocabulary
    tokens = [token for own in context.val.tokens for words in own for token in words]
    unknown = sum(token not in vocabulary for token in tokens) / max(len(tokens), 1)
    said = sum(vocabulary.special.unknown in hypothesis.tokens for hypothesis in context.hypotheses)
    share = said / len(context.hypotheses)
    return judged(
        "unknown words",
        worst(by_limits(unknown, 0.05, 0.15), by_limits(share, 0.02, 0.2)),
        f"{unknown:.1%} of the references' tokens are not among the {len(vocabulary):,} words; {share:.1%} of "
        "the captions "
        "say <UNK>.",
        "Lower vocabulary.min_count, raise vocabulary.max_size, see that tokenizer fits the language, and keep "
        "decode.allow_unknown=false.",
        {"unknown_tokens": unknown, "captions_with_unknown": share},
    )


def check_leak(context: DiagnosticContext, images: int) -> Finding:
    """Validation images in train: by id, by their bytes, and by what they show. Looks at so many of train."""
    if context.train_set is None:
        return Finding("validation in train", "skipped", "the data set has no train split.")
    train, val = context.train_set.images[:images], context.val.dataset.images
    ids = {image.image_id for image in context.train_set}
    by_id = {image.image_id for image in context.val_set} & ids
    train_digests, train_small = _look(train)
    digests, small = _look(val)
    trained = set(train_digests) - {b""}
    is_same = [digest in trained for digest in digests]
    same = [image for image, found in zip(val, is_same, strict=True) if found]
    near = [
        image
        for image, found, own in zip(val, is_same, small, strict=True)
        if not found and own.std() >= FLAT and _is_near(own, train_small)
    ]
    share = max(len(by_id) / len(context.val_set), len(same) / len(val))
    names = join_names(image.path.name for image in (*same, *near))
    return judged(
        "validation in train",
        worst(by_limits(share, 0.0, 0.01), by_limits(len(near) / len(val), 0.0)),
        f"of {len(val):,} validation images, {len(same):,} have the bytes of a training image and "
        f"{len(near):,} more "
        f"look like one; {len(by_id):,} of {len(context.val_set):,} ids are in both (compared with {len(train):,} of "
        f"{len(ids):,} training images)" + (f": {names}." if names else "."),
        "Scores on images that were trained on say nothing. Take them out of one split (python -m captioner "
        "data check "
        "names them all) and train again.",
        {"ids": len(by_id), "same_bytes": len(same), "near": len(near)},
    )


def _look(images: Sequence[CaptionedImage]) -> tuple[list[bytes], np.ndarray]:
    """The digest of every image's bytes, b"" for bad ones, and (images, SIDE·SIDE) of what it shows."""
    digests, small = [], np.zeros((len(images), SIDE * SIDE), dtype=np.float32)
    for place, image in enumerate(images):
        try:
            content = image.path.read_bytes()
            thumbnail = load_image(content, at_least=SIDE).convert("L")
        except (OSError, ImageError):
            digests.append(b"")  # data check names these
            continue
        digests.append(hashlib.blake2b(content, digest_size=16).digest())
        small[place] = np.asarray(thumbnail.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).ravel()
    return digests, small


def _is_near(one: np.ndarray, others: np.ndarray) -> bool:
    return bool((np.abs(others - one).mean(axis=1) < NEAR).any())


def check_recorded_captions(context: DiagnosticContext) -> Finding:
    """What the checkpoint says now beside what its run recorded when it was scored."""
    path = context.checkpoint.path.parent.parent / f"captions_{context.val_set.split}.json"
    name = "recorded captions"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        recorded = {row["image_id"]: row["caption"] for row in rows}
    except (OSError, ValueError, LookupError, TypeError):
        return Finding(name, "skipped", f"{path} is not there, or cannot be read.")
    tokenizer = build_tokenizer(context.checkpoint.settings.tokenizer)
    vocabulary = context.checkpoint.vocabulary
    pairs = [
        (recorded[image.image_id], tokenizer.join(vocabulary.decode(hypothesis.tokens)))
        for image, hypothesis in zip(context.val.dataset, context.hypotheses, strict=True)
        if image.image_id in recorded
    ]
    if not pairs:
        return Finding(name, "skipped", f"{path} is of other images.")
    differ = sum(old != new for old, new in pairs) / len(pairs)
    return judged(
        name,
        by_limits(differ, 0.05, 0.2),
        f"{differ:.1%} of {len(pairs):,} captions differ from those in {Path(path.parent.name, path.name)}, so "
        "that the "
        f"scores beside them {'do not hold' if differ > 0.05 else 'hold'} for this checkpoint.",
        "The weights, the images or their preparation are not those that were scored: score again with evaluate.py.",
        {"differ": differ},
    )
