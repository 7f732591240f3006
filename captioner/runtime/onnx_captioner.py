"""`OnnxCaptioner`: captions of images from ONNX files, with the arguments and results of `captioner.Captioner`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np

from captioner.call_settings import describe_search, suggest_keywords
from captioner.captioning.base_captioner import BaseCaptioner
from captioner.captioning.caption_request import CaptionRequest
from captioner.captioning.to_caption import to_caption
from captioner.checkpoint.calibration import CALIBRATION_FILE, load_calibration
from captioner.checkpoint.checkpoint_settings import (
    MODEL_FILE,
    VOCABULARY_FILE,
    CheckpointSettings,
    load_phrase_vocabulary,
    load_tokenizer_model,
    parse_settings,
    read_config,
    read_verified_config,
)
from captioner.checkpoint.consensus_file import CONSENSUS_FILE, load_consensus
from captioner.checkpoint.manifest import verify
from captioner.checkpoint.onnx.description import (
    CLASS_FILES,
    ENCODER_FILE,
    GRAPH_FILES,
    INIT_FILE,
    STEP_FILE,
    find_onnx,
    read_description,
)
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder, pretrained_names
from captioner.config import DecodeConfig
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import ImageSource, load_image
from captioner.data.images.pixels import image_to_array
from captioner.decode.consensus import check_consensus, consensus_search
from captioner.decode.forbidden_tokens import check_phrases
from captioner.decode.hypothesis import Hypothesis
from captioner.decode.preferred_beam import preferences_of, preferred_beam_search
from captioner.errors import CheckpointError, ConfigError
from captioner.evaluation.tags import tags_of
from captioner.generated_caption import Caption, with_confidence
from captioner.runtime.onnx_classes import OnnxClassHead, OnnxClassScores
from captioner.runtime.onnx_rows import OnnxRows
from captioner.runtime.sessions import Session
from captioner.text.tokenizers import build_tokenizer, is_learned

SEARCHES = ("greedy", "beam")
WITH_TORCH = "use captioner.Captioner (--backend torch)"

EncodedImages: TypeAlias = "tuple[dict[str, np.ndarray], OnnxClassScores | None]"
"""The features of a batch, and what the classifier says of it, where it was asked and there is one."""


class OnnxCaptioner(BaseCaptioner[np.ndarray, EncodedImages]):
    """A trained model that captions images, without torch.

    model = OnnxCaptioner.pretrained("flickr8k")  # or from_checkpoint(DIR), a folder of `captioner export --onnx DIR`
    model.caption("photo.jpg").text

    folder: of the ONNX files; name: what the model is called in `repr`; threads: of onnxruntime, 0 for all cores.
    decode: the model's own search; without_classes: whether it has no `class_weight` only because these ONNX files have
    no classifier. Greedy and beam search only: samples come from torch's random numbers. Everything is verified;
    CheckpointError names the file that is missing or altered.
    """

    def __init__(self, folder: Path, *, name: str | None = None, threads: int = 0) -> None:
        self.folder, self.name = folder, str(folder) if name is None else name
        self.description = read_description(folder)
        raw = read_verified_config(folder, CheckpointSettings.task, [VOCABULARY_FILE])
        self.settings = parse_settings(folder, raw)
        self.transform, decode = self.settings.transform, self.settings.decode
        weighs = decode.name == "beam" and decode.class_weight > 0
        self.without_classes = weighs and not self.description.classes
        self.decode = replace(decode, class_weight=0.0) if self.without_classes else decode
        self._threads = threads
        manifest = read_config(folder).manifest
        self.vocabulary = load_phrase_vocabulary(folder, manifest)
        self.calibration = None
        if CALIBRATION_FILE in manifest.sums:
            verify(folder, CALIBRATION_FILE, manifest)
            self.calibration = load_calibration(folder)
        self.consensus = load_consensus(folder, manifest, len(self.vocabulary), self.description.feature_dim)
        learned = load_tokenizer_model(folder) if is_learned(self.settings.tokenizer) else None
        self._tokenizer = build_tokenizer(replace(self.settings.tokenizer, backend="python"), learned)
        self._encoder, self._init_state, self._step = (
            Session(folder / file, threads) for file in (ENCODER_FILE, INIT_FILE, STEP_FILE)
        )

    @classmethod
    @suggest_keywords
    def from_checkpoint(cls, checkpoint: str | Path, threads: int = 0) -> OnnxCaptioner:
        """Load a folder of ONNX files, or a run folder or bundled model whose checkpoint has them.

        CheckpointError where there are none.
        """
        folder = find_onnx(Path(checkpoint))
        if folder is None:
            raise CheckpointError(
                f"{checkpoint} has no ONNX files: write some with python -m captioner export --checkpoint {checkpoint} "
                "--onnx DIR, and give DIR."
            )
        return cls(folder, name=str(checkpoint), threads=threads)

    @classmethod
    @suggest_keywords
    def pretrained(cls, name: str | Path = DEFAULT, threads: int = 0) -> OnnxCaptioner:
        """Load a model that comes with the package, such as "flickr8k", or whatever `from_checkpoint` loads."""
        if str(name) not in pretrained_names() and Path(name).exists():
            return cls.from_checkpoint(name, threads)
        captioner = cls.from_checkpoint(pretrained_folder(str(name)), threads)
        captioner.name = str(name)
        return captioner

    def __repr__(self) -> str:
        (rows, columns), size = self.description.grid_size, self.transform.size
        step = self.folder.name
        lines = [
            f"OnnxCaptioner {self.name} {f'({step}) ' if step.startswith('step-') else ''}in "
            f"{self.description.precision}",
            f"decoder: {self.settings.model.name}, {self.description.parameters:,} parameters",
            f"encoder: {self.settings.encoder.name}, {size} × {size} pixels, {rows} × {columns} regions",
            f"vocabulary: {len(self.vocabulary):,} tokens",
            f"decoding: {describe_search(self.decode)}",
        ]
        return "\n  ".join(lines)

    def _check(self, request: CaptionRequest) -> None:
        config = request.decode
        lacking = self.lacking(config) if config.name not in SEARCHES or request.weighs_classes else None
        if lacking is not None:
            raise ConfigError(f"{lacking}: {WITH_TORCH}.")
        check_phrases(config, self.vocabulary.phrases)
        check_consensus(config, self.consensus)

    def lacking(self, config: DecodeConfig) -> str | None:
        """What a search needs and is not here, as a message; None where it is possible as the model means it."""
        if config.name not in SEARCHES:
            return f"decode={config.name} needs torch"
        if config.name == "beam" and self.class_head is None and (self.without_classes or config.class_weight > 0):
            return (
                "class_weight needs the encoder's classifier, which these ONNX files do not have (captioner export "
                "writes them again)"
            )
        return None

    @property
    def identity(self) -> str:
        sums = read_config(self.folder).manifest.sums
        names = [*GRAPH_FILES, *(CLASS_FILES if self.description.classes else ()), MODEL_FILE, CONSENSUS_FILE]
        digest = hashlib.sha256("".join(str(sums.get(name, "")) for name in names).encode())
        return f"{self.name} onnx {digest.hexdigest()[:12]}"

    @property
    def about(self) -> str:
        decoder = f"{self.settings.model.name}, {self.description.parameters / 1e6:.1f} M parameters"
        return f"{decoder} · {self.settings.encoder.name} · {len(self.vocabulary):,} tokens"

    @cached_property
    def class_head(self) -> OnnxClassHead | None:
        """The classifier of the encoder's network, loaded when it is first used; None where the files have none."""
        return OnnxClassHead(self.folder, self._threads) if self.description.classes else None

    def score(self, image: ImageSource, captions: Any) -> NoReturn:
        """ConfigError: scoring given captions needs torch."""
        raise ConfigError(f"Scoring a caption needs torch: {WITH_TORCH}.")

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Preprocessed images (B, 3, S, S) → "vector" (B, D) and "grid" (B, P, D)."""
        return self._encoder.run({"images": images}, ["vector", "grid"])

    def search(
        self,
        features: dict[str, np.ndarray],
        request: CaptionRequest,
        probabilities: np.ndarray | None = None,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each image, best first. probabilities: (B, 1000) of the classes, for `class_weight`."""
        images, config, n_best = len(features["vector"]), request.decode, request.alternatives + 1
        special, phrases = self.vocabulary.special, self.vocabulary.phrases
        if config.name == "greedy":  # which is a beam of one hypothesis
            config = replace(config, name="beam", beam_width=1, implausible_penalty=0.0, class_weight=0.0)
            config = replace(config, consensus_weight=0.0)

        def new_rows(chosen: Sequence[int] | None) -> OnnxRows:
            given = features if chosen is None else {name: part[chosen] for name, part in features.items()}
            state = self._init_state.run(given)
            return OnnxRows(self._step, state, len(given["vector"]), config, special, phrases)

        wanted = None if request.constraints is None else [request.constraints] * images
        classes = self.vocabulary.class_preferences if request.weighs_classes else None
        preferences = preferences_of(probabilities, config, classes)

        def ranked(n: int) -> list[list[Hypothesis]]:
            return preferred_beam_search(new_rows, images, config, special, n, phrases, preferences, wanted)

        return consensus_search(ranked, lambda: features["vector"], config, n_best, self.consensus)

    def _load(self, image: ImageSource) -> np.ndarray:
        if isinstance(image, ImageViews):
            raise ConfigError(f"Several views of one sample need torch: {WITH_TORCH}.")
        return image_to_array(load_image(image, self.transform.size, self.transform.stretch), self.transform)

    def _encode(self, loaded: Sequence[np.ndarray], *, classify: bool) -> EncodedImages:
        images = np.stack(loaded)
        head = self.class_head if classify else None
        if head is None:
            return self.encode(images), None
        found = self._encoder.run({"images": images})
        scores = head.scores({"images": images, **found}[head.reads])
        return {name: found[name] for name in ("vector", "grid")}, scores

    def _search(
        self,
        encoded: EncodedImages,
        request: CaptionRequest,
        image_ids: Sequence[int | str],
        images: Sequence[ImageSource],
    ) -> list[Caption]:
        features, scores = encoded
        found = self.search(features, request, None if scores is None else scores.probabilities)
        captions = [self._to_caption(*of_image) for of_image in zip(found, images, strict=True)]
        if request.tags and scores is not None:
            tags = tags_of(scores.probabilities, scores.region_logits_of_image)
            captions = [replace(caption, tags=of_image) for caption, of_image in zip(captions, tags, strict=True)]
        if self.calibration is None:
            return captions
        config = request.decode if request.constraints is None else None
        return with_confidence(captions, features["vector"], self.calibration, config)

    def _to_caption(self, hypotheses: Sequence[Hypothesis], image: ImageSource) -> Caption:
        rows, columns = self.description.grid_size
        return to_caption(
            hypotheses,
            self.vocabulary,
            self._tokenizer,
            lambda weights: weights.reshape(len(weights), rows, columns),
            image=image,
            stretch=self.transform.stretch,
            resize=self.transform.resize,
        )
