"""`OnnxCaptioner`: captions of images from ONNX files, with the arguments and results of `captioner.Captioner`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, overload

import numpy as np

from captioner.call_settings import decode_settings, describe_search, suggest_keywords
from captioner.checkpoint.calibration import CALIBRATION_FILE, load_calibration
from captioner.checkpoint.checkpoint_settings import (
    VOCABULARY_FILE,
    CheckpointSettings,
    load_phrase_vocabulary,
    load_tokenizer_model,
    parse_settings,
    read_config,
    read_verified_config,
)
from captioner.checkpoint.manifest import verify
from captioner.checkpoint.onnx.description import ENCODER_FILE, INIT_FILE, STEP_FILE, find_onnx, read_description
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder, pretrained_names
from captioner.config import DecodeConfig
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import ImageSource, load_image
from captioner.data.images.pixels import image_to_array
from captioner.decode.beam_search import beam_search
from captioner.decode.forbidden_tokens import check_phrases
from captioner.decode.hypothesis import Hypothesis
from captioner.errors import CheckpointError, ConfigError, ImageError
from captioner.generated_caption import Caption, with_confidence
from captioner.runtime.onnx_rows import OnnxRows
from captioner.runtime.sessions import Session
from captioner.text.tokenizers import build_tokenizer, is_learned

BATCH = 16  # images encoded together


class OnnxCaptioner:
    """A trained model that captions images, without torch.

    model = OnnxCaptioner.pretrained("flickr8k")  # or from_checkpoint(DIR), a folder of `captioner export --onnx DIR`
    model.caption("photo.jpg").text

    folder: of the ONNX files; name: what the model is called in `repr`; threads: of onnxruntime, 0 for all cores.
    decode: the model's own search, without `class_weight`, because ONNX files have no classifier; without_classes:
    whether that leaves anything out. Everything is verified; CheckpointError names the file that is missing or altered.
    """

    def __init__(self, folder: Path, *, name: str | None = None, threads: int = 0) -> None:
        self.folder, self.name = folder, str(folder) if name is None else name
        self.description = read_description(folder)
        raw = read_verified_config(folder, CheckpointSettings.task, [VOCABULARY_FILE])
        self.settings = parse_settings(folder, raw)
        self.transform, decode = self.settings.transform, self.settings.decode
        self.without_classes = decode.name == "beam" and decode.class_weight > 0
        self.decode = replace(decode, class_weight=0.0)
        manifest = read_config(folder).manifest
        self.vocabulary = load_phrase_vocabulary(folder, manifest)
        self.calibration = None
        if CALIBRATION_FILE in manifest.sums:
            verify(folder, CALIBRATION_FILE, manifest)
            self.calibration = load_calibration(folder)
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

    @overload
    def caption(
        self,
        images: list[Any],
        *,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        tags: bool = False,
        must_have: Sequence[str] = (),
        must_not: Sequence[str] = (),
        **settings: float,
    ) -> list[Caption]: ...

    @overload
    def caption(
        self,
        images: ImageSource,
        *,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        tags: bool = False,
        must_have: Sequence[str] = (),
        must_not: Sequence[str] = (),
        **settings: float,
    ) -> Caption: ...

    def caption(
        self,
        images: ImageSource | list[Any],
        *,
        decode: DecodeConfig | str | None = None,
        alternatives: int = 0,
        tags: bool = False,
        must_have: Sequence[str] = (),
        must_not: Sequence[str] = (),
        **settings: float,
    ) -> Caption | list[Caption]:
        """Caption one image, or each image of a list: see `captioner.Captioner.caption`.

        Greedy and beam search only: samples come from torch's random numbers, and tags and `class_weight` from the
        encoder's classifier, which ONNX files do not have.
        """
        config = decode_settings(self.decode, decode, alternatives, settings)
        why = self.why_not(config)
        if tags:
            why = "tags need the encoder's classifier, which ONNX files do not have"
        elif must_have or must_not:
            why = "must_have and must_not need torch"
        if why is not None:
            raise ConfigError(f"{why}: use captioner.Captioner (--backend torch).")
        check_phrases(config, self.vocabulary.phrases)
        if not isinstance(images, list):
            return self._caption_batch([images], [""], config, alternatives)[0]
        captions: list[Caption] = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            names = [f"images[{start + index}]: " for index in range(len(batch))]
            captions += self._caption_batch(batch, names, config, alternatives)
        return captions

    @staticmethod
    def why_not(config: DecodeConfig) -> str | None:
        """Why a search is not possible without torch; None where it is."""
        if config.name not in ("greedy", "beam"):
            return f"decode={config.name} needs torch"
        if config.name == "beam" and config.class_weight > 0:
            return "class_weight needs the encoder's classifier, which ONNX files do not have"
        return None

    def caption_each(self, images: Iterable[ImageSource], **arguments: Any) -> Iterator[Caption | ImageError]:
        """Caption the images one after the other; in place of the caption of one that cannot be read, its error."""
        for image in images:
            try:
                yield self.caption(image, **arguments)
            except ImageError as error:
                yield error

    def score(self, image: ImageSource, captions: Any) -> NoReturn:
        """ConfigError: scoring given captions needs torch."""
        raise ConfigError("Scoring a caption needs torch: use captioner.Captioner (--backend torch).")

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Preprocessed images (B, 3, S, S) → "vector" (B, D) and "grid" (B, P, D)."""
        return self._encoder.run({"images": images})

    def search(self, features: dict[str, np.ndarray], config: DecodeConfig, n_best: int = 1) -> list[list[Hypothesis]]:
        """The `n_best` hypotheses of each image, best first, of greedy or beam search."""
        images = len(features["vector"])
        state = self._init_state.run(features)
        if config.name == "greedy":  # which is a beam of one hypothesis
            config, n_best = replace(config, name="beam", beam_width=1, implausible_penalty=0.0), 1
        special, phrases = self.vocabulary.special, self.vocabulary.phrases
        rows = OnnxRows(self._step, state, images, config, special, phrases)
        return beam_search(rows, images, config, special, n_best, phrases)

    def _caption_batch(
        self, images: Sequence[ImageSource], names: Sequence[str], config: DecodeConfig, alternatives: int
    ) -> list[Caption]:
        features = self.encode(np.stack([self._read(*pair) for pair in zip(images, names, strict=True)]))
        found = self.search(features, config, alternatives + 1)
        captions = [self._to_caption(hypotheses, image) for hypotheses, image in zip(found, images, strict=True)]
        if self.calibration is None:
            return captions
        return with_confidence(captions, features["vector"], self.calibration, config)

    def _read(self, image: ImageSource, name: str) -> np.ndarray:
        """The preprocessed image. name: a prefix for the message where it cannot be read."""
        if isinstance(image, ImageViews):
            raise ConfigError("Several views of one sample need torch: use captioner.Captioner (--backend torch).")
        try:
            return image_to_array(load_image(image, self.transform.size, self.transform.stretch), self.transform)
        except ImageError as error:
            raise ImageError(f"{name}{error}") from error

    def _to_caption(self, hypotheses: Sequence[Hypothesis], image: ImageSource) -> Caption:
        best, *others = [self._from_hypothesis(hypothesis, image) for hypothesis in hypotheses]
        return replace(best, alternatives=tuple(others))

    def _from_hypothesis(self, hypothesis: Hypothesis, image: ImageSource) -> Caption:
        tokens, weights = tuple(self.vocabulary.decode(hypothesis.tokens)), hypothesis.attention
        return Caption(
            self._tokenizer.join(tokens),
            tokens,
            hypothesis.log_prob,
            hypothesis.score,
            hypothesis.finished,
            attention=None if weights is None else weights.reshape(len(weights), *self.description.grid_size),
            image=image,
            stretch=self.transform.stretch,
            resize=self.transform.resize,
        )
