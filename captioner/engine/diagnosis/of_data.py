"""Words that the vocabulary lacks, validation pictures that were trained on, and the figures that a run recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.data.dataset import CaptionedImage
from captioner.data.pictures import open_picture
from captioner.data.reading import listed
from captioner.engine.diagnosis.findings import Finding, by_limits, judged, worst
from captioner.engine.diagnosis.patient import Patient
from captioner.errors import PictureError
from captioner.text.tokenizers import build_tokenizer

SIDE = 16  # of the small grey picture by which copies are told that were stored anew
NEAR = 3.0  # mean difference of two such pictures, of 255, below which they are taken for one
FLAT = 8.0  # a standard deviation below which a picture has too little in it to be told from others


def check_unknown_words(patient: Patient) -> Finding:
    """The share of the references' tokens that the vocabulary lacks, and of captions that say <UNK>."""
    vocabulary = patient.checkpoint.vocabulary
    tokens = [token for own in patient.val.tokens for words in own for token in words]
    unknown = sum(token not in vocabulary for token in tokens) / max(len(tokens), 1)
    said = sum(vocabulary.special.unknown in hypothesis.tokens for hypothesis in patient.hypotheses)
    share = said / len(patient.hypotheses)
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


def check_leak(patient: Patient, pictures: int) -> Finding:
    """Validation pictures in train: by id, by their bytes, and by what they show. Looks at so many of train."""
    if patient.train_set is None:
        return Finding("validation in train", "skipped", "the data set has no train split.")
    train, val = patient.train_set.images[:pictures], patient.val.dataset.images
    ids = {image.image_id for image in patient.train_set}
    by_id = {image.image_id for image in patient.val_set} & ids
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
    share = max(len(by_id) / len(patient.val_set), len(same) / len(val))
    names = listed(image.path.name for image in (*same, *near))
    return judged(
        "validation in train",
        worst(by_limits(share, 0.0, 0.01), by_limits(len(near) / len(val), 0.0)),
        f"of {len(val):,} validation pictures, {len(same):,} have the bytes of a training picture and "
        f"{len(near):,} more "
        f"look like one; {len(by_id):,} of {len(patient.val_set):,} ids are in both (compared with {len(train):,} of "
        f"{len(ids):,} training pictures)" + (f": {names}." if names else "."),
        "Scores on pictures that were trained on say nothing. Take them out of one split (python -m captioner "
        "data check "
        "names them all) and train again.",
        {"ids": len(by_id), "same_bytes": len(same), "near": len(near)},
    )


def _look(images: Sequence[CaptionedImage]) -> tuple[list[bytes], np.ndarray]:
    """The digest of every picture's bytes, b"" for bad ones, and (pictures, SIDE·SIDE) of what it shows."""
    digests, small = [], np.zeros((len(images), SIDE * SIDE), dtype=np.float32)
    for place, image in enumerate(images):
        try:
            content = image.path.read_bytes()
            picture = open_picture(content, at_least=SIDE).convert("L")
        except (OSError, PictureError):
            digests.append(b"")  # data check names these
            continue
        digests.append(hashlib.blake2b(content, digest_size=16).digest())
        small[place] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).ravel()
    return digests, small


def _is_near(one: np.ndarray, others: np.ndarray) -> bool:
    return bool((np.abs(others - one).mean(axis=1) < NEAR).any())


def check_recorded_captions(patient: Patient) -> Finding:
    """What the checkpoint says now beside what its run recorded when it was scored."""
    path = patient.checkpoint.path.parent.parent / f"captions_{patient.val_set.split}.json"
    name = "recorded captions"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        recorded = {row["image_id"]: row["caption"] for row in rows}
    except (OSError, ValueError, LookupError, TypeError):
        return Finding(name, "skipped", f"{path} is not there, or cannot be read.")
    tokenizer = build_tokenizer(patient.checkpoint.settings.tokenizer)
    vocabulary = patient.checkpoint.vocabulary
    pairs = [
        (recorded[image.image_id], tokenizer.join(vocabulary.decode(hypothesis.tokens)))
        for image, hypothesis in zip(patient.val.dataset, patient.hypotheses, strict=True)
        if image.image_id in recorded
    ]
    if not pairs:
        return Finding(name, "skipped", f"{path} is of other pictures.")
    differ = sum(old != new for old, new in pairs) / len(pairs)
    return judged(
        name,
        by_limits(differ, 0.05, 0.2),
        f"{differ:.1%} of {len(pairs):,} captions differ from those in {Path(path.parent.name, path.name)}, so "
        "that the "
        f"scores beside them {'do not hold' if differ > 0.05 else 'hold'} for this checkpoint.",
        "The weights, the pictures or their preparation are not those that were scored: score again with evaluate.py.",
        {"differ": differ},
    )
