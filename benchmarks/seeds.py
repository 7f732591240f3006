"""New decoders for the encoder of a trained captioner: from other seeds, by cross-entropy, rewards or distillation.

    python benchmarks/seeds.py views VIEWS flickr8k/ --checkpoint flickr8k --crops 4
    python benchmarks/seeds.py train runs/xe VIEWS flickr8k/ --checkpoint flickr8k --objective xe --epochs 8 --seed 1
    python benchmarks/seeds.py train runs/rl VIEWS flickr8k/ --checkpoint flickr8k --start runs/xe --objective rl
    python benchmarks/seeds.py train runs/student VIEWS flickr8k/ --checkpoint flickr8k --start flickr8k \
        --objective distill --teachers flickr8k runs/rl

`views` encodes the training photos as they are, mirrored, and once per random crop of 60 to 100 % of the area, half of
them mirrored, and stores the regions after the decoder's `grid` layer, which all decoders here share and none changes:
float16, 373 MB a view of 6,000 photos. In every epoch each photo is a random one of its views.

`xe` is cross-entropy training on all five captions. `rl` is self-critical training. `distill` learns the mean of the
teachers' probabilities, in nats per word, on references and on captions sampled from that mean (Hinton et al. 2015).
What is stored is a moving average of the weights, as a small export with the encoder and the settings of --checkpoint.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import report
from torch import Tensor, nn

from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.class_vocabulary import add_class_words
from captioner.checkpoint.export import write_export
from captioner.config import AugmentConfig, Flickr8kConfig, OptimConfig, RewardConfig, VocabularyConfig
from captioner.data.batches import choose_captions, epoch_batches, mix_seeds, tokenize_captions
from captioner.data.datasets.registry import load_dataset
from captioner.data.images.augment import Augmentation
from captioner.data.images.loader import full_view, load_image_batches
from captioner.data.images.transforms import View
from captioner.data.training_data import encode_training_captions
from captioner.decode.sampling import sample_captions
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.ensemble import EnsembleDecoder, Member
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from captioner.training.anchor import Anchor
from captioner.training.ema import ExponentialMovingAverage
from captioner.training.losses import captioning_losses
from captioner.training.optimizer import schedule_factor
from captioner.training.precision import float32_matmul_precision
from captioner.training.self_critical import caption_reward, meteor_reward, self_critical_losses

CROP, BATCH = 0.6, 16
RATES = {"xe": 2e-3, "rl": 2e-4, "distill": 5e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    views, train = commands.add_parser("views"), commands.add_parser("train")
    train.add_argument("out", type=Path, help="the folder to write; it must not exist")
    for command in (views, train):
        command.add_argument("views", type=Path, help="the folder of the stored views")
        command.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
        command.add_argument("--checkpoint", type=Path, required=True, help="whose encoder and `grid` layer are used")
        command.add_argument("--seed", type=int, default=0)
    views.add_argument("--crops", type=int, default=4)
    train.add_argument("--objective", choices=RATES, required=True)
    train.add_argument("--start", type=Path, help="the decoder to start from; without it, new weights")
    train.add_argument("--teachers", type=Path, nargs="+", default=[])
    train.add_argument("--epochs", type=int, default=1)
    train.add_argument("--max-steps", type=int)
    train.add_argument("--batch-size", type=int, default=BATCH, help="photos")
    train.add_argument("--learning-rate", type=float, help=f"default: {RATES}")
    train.add_argument("--ema", type=float, default=0.99)
    train.add_argument("--samples", type=int, default=5, help="sampled captions per photo")
    train.add_argument("--references", type=int, default=1, help="distill: references per photo and step")
    train.add_argument("--bleu", type=float, default=0.5, help="rl: BLEU-4 in the reward")
    train.add_argument("--meteor", type=float, default=0.0, help="rl: METEOR in the reward")
    train.add_argument("--fluency", type=float, default=0.0, help="rl: less this for an implausible phrase")
    train.add_argument("--kl", type=float, default=0.1, help="rl: the weight of the divergence from --start")
    arguments = parser.parse_args()
    start = time.perf_counter()
    if arguments.command == "views":
        arguments.views.mkdir(exist_ok=True)
        store_views(arguments)
        return
    arguments.out.mkdir(parents=True)
    with float32_matmul_precision("medium"):
        results = Training(arguments).run()
    report("seeds", {"objective": arguments.objective, **results, "seconds": round(time.perf_counter() - start)})


def store_views(arguments: argparse.Namespace) -> None:
    """Write view_0.npy, the photos, view_1.npy, mirrored, view_2.npy …, crops: (photos, regions, grid_dim), float16."""
    loaded = load_checkpoint(arguments.checkpoint)
    encoder, layer = loaded.model.encoder, grid_layer(loaded.model.decoder)
    encoder.freeze()
    train = load_dataset(Flickr8kConfig(root=str(arguments.flickr8k), num_workers=0), "train")
    crop = Augmentation(AugmentConfig(scale=(CROP, 1.0), ratio=(1.0, 1.0), flip=0.5), arguments.seed)
    mirrored = Augmentation(AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=1.0), arguments.seed)
    crops = [partial(crop.view, epoch) for epoch in range(arguments.crops)]
    views: list[Callable[[int], View]] = [full_view, partial(mirrored.view, 0), *crops]
    rows, columns = encoder.grid_size
    shape = (len(train), rows * columns, layer.out_features)
    batches = [list(range(first, min(first + BATCH, len(train)))) for first in range(0, len(train), BATCH)]
    config = Flickr8kConfig(root=str(arguments.flickr8k), num_workers=0)
    for view, view_of in enumerate(views):
        stored = np.lib.format.open_memmap(arguments.views / f"view_{view}.npy", "w+", np.float16, shape)
        for batch in load_image_batches(train.paths, batches, encoder.transform, config, view_of):
            with torch.inference_mode():
                grid = torch.relu(layer(encoder(batch.images).grid))
            stored[batch.indices] = grid.numpy()
        stored.flush()
        sys.stderr.write(f"view {view + 1} of {len(views)}\n")


def grid_layer(decoder: Decoder[Any]) -> nn.Linear:
    """The layer before the attention, of a decoder with `model.grid_dim`."""
    layer = decoder.grid
    if not isinstance(layer, nn.Linear):
        raise ConfigError("The decoder has no grid layer: train it with model.name=attention model.grid_dim=384.")
    return layer


class Training:
    """A decoder on stored views."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(arguments.seed)
        self.arguments = arguments
        self.loaded = loaded = load_checkpoint(arguments.checkpoint)
        train = load_dataset(Flickr8kConfig(root=str(arguments.flickr8k)), "train")
        tokenized = tokenize_captions(train, build_tokenizer(loaded.settings.tokenizer))
        encoded = encode_training_captions(train, tokenized, VocabularyConfig(), 30, loaded.vocabulary)
        _, self.captions, self.indices = encoded
        self.grid = grid_layer(loaded.model.decoder)
        self.views = [np.load(path, mmap_mode="r") for path in sorted(arguments.views.glob("view_*.npy"))]
        self.model = loaded.model
        self.model.decoder = self.decoder(arguments.start).train().requires_grad_()
        members = [Member(self.decoder(path).eval()) for path in arguments.teachers]
        self.teacher = EnsembleDecoder(members, "probabilities").eval() if members else None
        meteor = (arguments.meteor, meteor_reward(tokenized, loaded.vocabulary)) if arguments.meteor else None
        self.reward = caption_reward(self.captions, self.indices, arguments.bleu, arguments.fluency, meteor=meteor)
        self.config = RewardConfig(samples=arguments.samples, kl_weight=arguments.kl)
        self.anchor = Anchor(self.model.decoder) if arguments.kl else None

    def decoder(self, path: Path | None) -> Decoder[Any]:
        """The decoder of a checkpoint, or a new one, that reads regions after the `grid` layer."""
        if path is None:
            decoder = build_decoder(self.loaded.settings.model, len(self.loaded.vocabulary), self.grid.in_features)
        else:
            decoder = load_checkpoint(path).model.decoder
        decoder.grid = nn.Identity()  # they are positive, so the ReLU after it changes nothing
        return decoder

    def run(self) -> dict[str, Any]:
        """Train, and store the average; the last 100 steps' mean losses."""
        arguments = self.arguments
        parameters = list(self.model.decoder.parameters())
        rate = arguments.learning_rate or RATES[arguments.objective]
        optim = OptimConfig(learning_rate=rate, warmup_steps=100 if arguments.start is None else 20)
        optimizer = torch.optim.AdamW(parameters, rate, optim.betas, weight_decay=0.0, fused=True)
        average = ExponentialMovingAverage(parameters, arguments.ema)
        per_epoch = math.ceil(len(self.indices) / arguments.batch_size)
        total = min(arguments.epochs * per_epoch, arguments.max_steps or sys.maxsize)
        recent: dict[str, float] = {}
        started = time.perf_counter()
        for step, (epoch, batch, features) in enumerate(self.batches(total), 1):
            losses = self.losses(epoch, batch, features)
            optimizer.param_groups[0]["lr"] = rate * schedule_factor(optim, step - 1, total, per_epoch)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(losses["loss"])
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            average.update(step)
            for name, value in losses.items():
                recent[name] = recent.get(name, 0.0) + (value.item() - recent.get(name, 0.0)) / min(step, 100)
            if step % 50 == 0:
                shown = ", ".join(f"{name} {value:.4f}" for name, value in recent.items())
                sys.stderr.write(f"step {step} of {total}, {time.perf_counter() - started:.0f} s: {shown}\n")
        with average.in_place():
            self.store()
        return {"steps": total, **{name: round(value, 4) for name, value in recent.items()}}

    def batches(self, total: int) -> Iterator[tuple[int, list[int], ImageFeatures]]:
        """`total` batches: the epoch, the photos, and their regions in this epoch's views."""
        step = 0
        for epoch in range(self.arguments.epochs):
            for batch in epoch_batches(self.indices, self.arguments.batch_size, self.arguments.seed, epoch):
                if step == total:
                    return
                step += 1
                choices = [
                    random.Random(mix_seeds(self.arguments.seed, epoch, index, 2)).randrange(len(self.views))
                    for index in batch
                ]
                grids = [self.views[view][index] for view, index in zip(choices, batch, strict=True)]
                grid = torch.from_numpy(np.stack(grids).astype(np.float32))
                yield epoch, list(batch), ImageFeatures(grid.mean(1), grid)

    def losses(self, epoch: int, batch: list[int], features: ImageFeatures) -> dict[str, Tensor]:
        """Of a step, by name; "loss" is to be minimized."""
        objective, seed = self.arguments.objective, mix_seeds(self.arguments.seed, epoch)
        if objective == "rl":
            return self_critical_losses(
                self.model, features, batch, self.reward, config=self.config, max_length=20, seed=seed,
                images=len(batch), anchor=self.anchor,
            )  # fmt: skip
        if objective == "xe":
            packed = pack_captions([self.captions[index] for index in batch])
            return captioning_losses(self.model, features, packed, label_smoothing=0.1)
        return {"loss": self.distillation_loss(epoch, batch, features, seed)}

    def distillation_loss(self, epoch: int, batch: list[int], features: ImageFeatures, seed: int) -> Tensor:
        """The cross-entropy between the teachers' distribution and the student's, in nats per word."""
        assert self.teacher is not None, "--objective distill needs --teachers"
        arguments = self.arguments
        with torch.no_grad():
            sampled = sample_captions(
                self.teacher, features, SPECIAL_TOKENS, count=arguments.samples, max_length=20, seed=seed,
                image_ids=batch,
            )  # fmt: skip
            captions = pack_captions(
                [
                    [
                        *choose_captions(self.captions[index], arguments.references, arguments.seed, epoch, index),
                        *(caption.tokens for caption in of_image),
                    ]
                    for index, of_image in zip(batch, sampled, strict=True)
                ]
            )
            wanted = self.teacher(features, captions).logits.softmax(dim=1)
        log_probs = self.model.decoder(features, captions).logits.log_softmax(dim=1)
        loss: Tensor = -(wanted * log_probs).sum() / len(wanted)
        return loss

    def store(self) -> None:
        """Write the export, with the shared `grid` layer."""
        decoder = self.model.decoder.eval()
        decoder.grid = self.grid
        counts = np.bincount(self.captions.token_ids)
        known = 1 + int(np.flatnonzero(counts >= VocabularyConfig().min_count).max())
        write_export(with_class_words(replace(self.loaded, calibration=None), known), self.arguments.out)


def with_class_words(loaded: LoadedCheckpoint, known: int) -> LoadedCheckpoint:
    """With new rows for the words from token `known` on, which hardly any training caption has.

    They are the words of classes (docs/tags.md), and training only makes them improbable.
    """
    if known == len(loaded.vocabulary):
        return loaded
    vocabulary = Vocabulary(loaded.vocabulary.tokens[4:known])
    vocabulary.phrases = loaded.vocabulary.phrases
    decoder = build_decoder(loaded.settings.model, known, loaded.model.encoder.feature_dim)
    fitting = decoder.state_dict()
    cut = {name: weight[: len(fitting[name])] for name, weight in loaded.model.decoder.state_dict().items()}
    decoder.load_state_dict(cut)
    model = CaptioningModel(loaded.model.encoder, decoder)
    weight = loaded.settings.decode.class_weight
    renewed, _ = add_class_words(replace(loaded, model=model, vocabulary=vocabulary), weight=weight)
    assert renewed.vocabulary == loaded.vocabulary
    return renewed


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
