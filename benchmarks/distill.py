"""Distills an ensemble of captioners into one decoder (Hinton et al. 2015; on its captions as Kim & Rush 2016).

    python benchmarks/distill.py OUT flickr8k/ --checkpoint runs/a --teachers runs/a runs/b runs/c --epochs 2 --flips

The teachers and the checkpoint at whose decoder training starts share the encoder and the vocabulary, so the features
are computed once, and cached. For each training image, mirrored or not, the ensemble writes a caption by beam search;
beside it stands a reference. On the words of both the student learns the ensemble's distribution: the loss is the
cross-entropy Σ_v q(v) ln p(v) between them, q the mean of the teachers' probabilities, in nats per word, with dropout
in the student. What is stored is a moving average of the weights, as a small export. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measure import report
from torch import Tensor

from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.checkpoint.export import write_export
from captioner.checkpoint.load_ensemble import load_ensemble
from captioner.config import AugmentConfig, CacheConfig, DecodeConfig, Flickr8kConfig, OptimConfig, VocabularyConfig
from captioner.data.batches import choose_captions, epoch_batches, tokenize_captions
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_features
from captioner.data.images.augment import Augmentation
from captioner.data.training_data import encode_training_captions
from captioner.decode import search
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.ema import ExponentialMovingAverage
from captioner.training.optimizer import schedule_factor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the decoder at which the student starts")
    parser.add_argument("--teachers", type=Path, nargs="+", required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--beam-width", type=int, default=3, help="of the search that writes the ensemble's captions")
    parser.add_argument("--references", type=int, default=1, help="references per image and epoch")
    parser.add_argument("--flips", action="store_true", help="mirror half of the images")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir()
    torch.manual_seed(arguments.seed)
    start = time.perf_counter()
    student = load_checkpoint(arguments.checkpoint)
    loss, steps = distill(student, load_ensemble(arguments.teachers).model.decoder, arguments)
    seconds = round(time.perf_counter() - start)
    write_export(replace(student, calibration=None), arguments.out)
    report("distill", {"steps": steps, "seconds": seconds, "loss": loss})


def distill(student: LoadedCheckpoint, teacher: Decoder[Any], arguments: argparse.Namespace) -> tuple[float, int]:
    """Train the student's decoder, and leave the average of its weights in it; the mean loss, and the steps."""
    data = Flickr8kConfig(root=str(arguments.flickr8k))
    train = load_dataset(data, "train")
    tokenized = tokenize_captions(train, build_tokenizer(student.settings.tokenizer))
    _, captions, indices = encode_training_captions(train, tokenized, VocabularyConfig(), 30, student.vocabulary)
    student.model.encoder.freeze()
    features = open_features(
        train,
        student.model.encoder,
        with_grid=student.model.needs_grid,
        data=data,
        cache=CacheConfig(flips=arguments.flips),
        device=torch.device("cpu"),
        augmentation=Augmentation(AugmentConfig(), arguments.seed),
    )
    decoder = student.model.decoder
    decoder.train().requires_grad_()
    parameters = list(decoder.parameters())
    optim = OptimConfig(learning_rate=arguments.learning_rate, warmup_steps=20)
    optimizer = torch.optim.AdamW(parameters, optim.learning_rate, optim.betas, weight_decay=0.0)
    average = ExponentialMovingAverage(parameters, arguments.ema)
    per_epoch = math.ceil(len(indices) / arguments.batch_size)
    total = min(arguments.epochs * per_epoch, arguments.max_steps or math.inf)
    step, recent = 0, 0.0
    beam = DecodeConfig(name="beam", beam_width=arguments.beam_width, length_penalty=1.0)
    for epoch in range(arguments.epochs):
        batches = epoch_batches(indices, arguments.batch_size, arguments.seed, epoch)
        for batch, encoded in features.batches(batches, epoch):
            if step >= total:
                break
            references = [
                choose_captions(captions[index], arguments.references, arguments.seed, epoch, index) for index in batch
            ]
            loss = distillation_loss(decoder, teacher, encoded, references, beam)
            optimizer.param_groups[0]["lr"] = optim.learning_rate * schedule_factor(optim, step, int(total), per_epoch)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            step += 1
            average.update(step)
            recent += (loss.item() - recent) / min(step, 100)
            if step % 50 == 0:
                sys.stderr.write(f"step {step} of {total}: {recent:.4f}\n")
    with average.in_place():
        weights = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    decoder.load_state_dict(weights)
    decoder.eval()
    return recent, step


def distillation_loss(
    decoder: Decoder[Any], teacher: Decoder[Any], features: ImageFeatures, references: list[Any], beam: DecodeConfig
) -> Tensor:
    """The cross-entropy between the teacher's distribution and the student's, in nats per word."""
    with torch.no_grad():
        found = search(teacher, features, beam, SPECIAL_TOKENS)
        captions = pack_captions([[*own, best.tokens] for own, (best, *_) in zip(references, found, strict=True)])
        wanted = teacher(features, captions).logits.softmax(dim=1)
    log_probs = decoder(features, captions).logits.log_softmax(dim=1)
    loss: Tensor = -(wanted * log_probs).sum() / len(wanted)
    return loss


if __name__ == "__main__":
    main()
