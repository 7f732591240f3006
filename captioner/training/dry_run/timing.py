"""Times the parts of a training on this machine, in seconds per image, with untrained weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.config import TrainConfig
from captioner.data.images.decode import load_image
from captioner.data.images.transforms import image_to_tensor
from captioner.decode import search
from captioner.errors import ImageError
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.anchor import Anchor
from captioner.training.dry_run.inputs import TrainingInputs
from captioner.training.losses import captioning_losses
from captioner.training.phases import SELF_CRITICAL, Phase
from captioner.training.precision import autocast
from captioner.training.scheduled_sampling import with_own_words
from captioner.training.self_critical import caption_reward, self_critical_losses

TIMED_IMAGES = 8  # on a CPU, where time is in proportion to images; a GPU is timed with whole batches
DECODED_FILES = 8


@dataclass(frozen=True)
class StepCost:
    """seconds per image of an optimizer step; bytes that its graph keeps for the backward pass, per image."""

    seconds: float
    activation_bytes: float


class Timer:
    """Times steps and searches of a model on random images of the right shape."""

    def __init__(self, config: TrainConfig, inputs: TrainingInputs, model: CaptioningModel) -> None:
        self.config, self.inputs, self.model = config, inputs, model
        self.device = next(model.parameters()).device
        wanted = config.trainer.batch_size if self.device.type != "cpu" else TIMED_IMAGES
        self.count = min(wanted, len(inputs.captions))
        size = model.encoder.transform.size
        self.images = torch.rand(self.count, 3, size, size, device=self.device)
        with torch.inference_mode():
            encoded = model.encode(self.images)
        self.features = ImageFeatures(encoded.vector.clone(), None if encoded.grid is None else encoded.grid.clone())
        lengths = inputs.captions.caption_offsets
        self.words = max(1, round(float(lengths[-1]) / max(1, len(lengths) - 1)))

    def decoding_files(self) -> float | None:
        """Seconds in which one process turns an image file into a tensor; None where there is no file to read."""
        transform = self.model.encoder.transform
        readable = []
        for path in self.inputs.images[:DECODED_FILES]:
            try:
                load_image(path)
            except ImageError:  # `data check` lists such images; here they only cannot be timed
                continue
            readable.append(path)
        if not readable:
            return None
        start = time.perf_counter()
        for path in readable:
            image_to_tensor(load_image(path, at_least=transform.size), transform)
        return (time.perf_counter() - start) / len(readable)

    def encoding(self) -> float:
        """Seconds per image of the frozen encoder."""

        def encode() -> None:
            with torch.inference_mode(), autocast(self.config.trainer.precision, self.device):
                self.model.encode(self.images)

        return self._seconds(encode)

    def captioning(self) -> float:
        """Seconds per image of the search of validations, with captions of the references' mean length."""
        decode = replace(self.config.decode, max_length=self.words + 1)
        phrases = self._phrase_statistics() if decode.needs_phrases else None

        def caption() -> None:
            with torch.inference_mode():
                search(self.model.decoder, self.features, decode, SPECIAL_TOKENS, phrases=phrases)

        self.model.eval()
        return self._seconds(caption)

    def _phrase_statistics(self) -> PhraseStatistics:
        """Those that the guards of the search need."""
        return PhraseStatistics.from_flat(
            self.inputs.captions.token_ids, self.inputs.captions.caption_offsets, SPECIAL_TOKENS.end
        )

    def step(self, phase: Phase, *, cached: bool) -> StepCost:
        """The losses and gradients of one phase.

        With trainable blocks, the encoder is included: all of it, or, if `cached`, the trainable blocks.
        """
        self.model.train()
        if phase.fine_tune_from is None:
            self.model.encoder.freeze()
        else:
            self.model.encoder.unfreeze()
        losses = self._losses_of(phase, self._features_of(phase, cached))

        def step() -> None:
            self.model.zero_grad(set_to_none=True)
            with autocast(self.config.trainer.precision, self.device):
                loss = losses()
            loss.backward()  # type: ignore[no-untyped-call]

        seconds = self._seconds(step)
        with saved_bytes(self.model) as saved:
            step()
        self.model.zero_grad(set_to_none=True)
        return StepCost(seconds, saved[0] / self.count)

    def _features_of(self, phase: Phase, cached: bool) -> Callable[[], ImageFeatures]:
        encoder = self.model.encoder
        if phase.fine_tune_from is None:
            return lambda: self.features
        part = encoder.frozen_part() if cached else None
        if part is None:
            return lambda: self.model.encode(self.images)
        grid = part.to(self.device)(self.images).grid
        assert grid is not None
        return lambda: encoder.forward_trainable_part(grid, part.grid_size[0])

    def _losses_of(self, phase: Phase, features: Callable[[], ImageFeatures]) -> Callable[[], Tensor]:
        references = [self.inputs.captions[index] for index in range(self.count)]
        if phase.objective == SELF_CRITICAL:
            indices = range(self.count)
            settings = self.config.reward
            reward = caption_reward(
                self.inputs.captions, indices, settings.bleu, settings.fluency, length=settings.length
            )
            anchor = Anchor(self.model.decoder) if settings.kl_weight else None
            return lambda: self_critical_losses(
                self.model,
                features(),
                list(indices),
                reward,
                config=settings,
                max_length=self.words + 1,  # an untrained model would go on to the limit
                seed=0,
                images=self.count,
                anchor=anchor,
            )["loss"]
        per_image = self.config.trainer.captions_per_image
        captions = pack_captions([of_image[:per_image] for of_image in references]).to(self.device)
        objective = self.config.objective
        steps = phase.schedule_end_epoch * -(-len(self.inputs.captions) // self.config.trainer.batch_size)

        def losses() -> Tensor:
            given = features()
            mixed = with_own_words(
                self.model,
                given,
                captions,
                reference_share=objective.reference_share(steps // 2),  # half way
                own_words=objective.own_words,
                seed=0,
                image_ids=range(self.count),
            )
            smoothing = self.config.trainer.label_smoothing
            return captioning_losses(self.model, given, mixed, label_smoothing=smoothing, objective=objective)["loss"]

        return losses

    def _seconds(self, work: Callable[[], None]) -> float:
        """Seconds per image of `work`, after a call that warms up."""
        work()
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return (time.perf_counter() - start) / self.count

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextmanager
def saved_bytes(model: CaptioningModel) -> Iterator[list[int]]:
    """A context that counts the bytes of tensors which autograd saves inside, each storage once, without parameters."""
    total, seen = [0], {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept.append(tensor)
            total[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total
