"""What each reward does to captions: short continuations from one checkpoint, equal but for one setting.

    python benchmarks/rewards.py OUT flickr8k/ --checkpoint runs/xe --steps 60 --seeds 0 1 2 [--only reference kl]

Each continuation starts with self-critical training at once (`reward.after=0`), with a frozen encoder and cached
features, 16 images per step, rate 2e-4, moving average 0.95. OUT gets the decoders; a line of JSON for each has the
scores of the greedy captions of the split val, × 100, words per caption, and the seconds of training. What ends there
is read again, so the command can be repeated after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.config import (
    CacheConfig,
    DecodeConfig,
    Flickr8kConfig,
    MetricConfig,
    OptimConfig,
    RewardConfig,
    TrainConfig,
    TrainerConfig,
)
from captioner.evaluation.evaluate import generate_captions
from captioner.evaluation.evaluation import score_captions
from captioner.training.init_from import with_settings_of_checkpoint
from captioner.training.precision import float32_matmul_precision
from captioner.training.run import Run
from captioner.training.setup import begin_epoch, prepare
from captioner.training.step import train_step, training_batches

SETTINGS: dict[str, dict[str, Any]] = {
    "reference": {},
    "no_bleu": {"bleu": 0.0},
    "greedy_baseline": {"baseline": "greedy"},
    "cross_entropy": {"cross_entropy_weight": 0.5},
    "kl": {"kl_weight": 0.1},
    "fluency": {"fluency": 1.0},
    "length": {"length": 0.1},
    "minimum_risk": {"method": "minimum_risk"},
    "minimum_risk_0.005": {"method": "minimum_risk", "sharpness": 0.005},
    "max_margin": {"method": "max_margin"},
    "best_of_n": {"method": "best_of_n"},
}
NAMES = ("Bleu_4", "METEOR", "CIDEr", "Implausible")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for the decoders")
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model after cross-entropy training")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    for seed in arguments.seeds:
        for name in arguments.only:
            config = continuation(arguments.checkpoint, arguments.flickr8k, arguments.steps, seed, SETTINGS[name])
            run = prepare(config, arguments.out)
            file, start = arguments.out / f"{name}-{seed}.pt", time.perf_counter()
            if file.exists():
                run.model.decoder.load_state_dict(torch.load(file, weights_only=True))
            else:
                torch.save(train(run), file)
            seconds = round(time.perf_counter() - start, 1)
            line = json.dumps({"reward": name, "seed": seed, **scores(run), "seconds": seconds})
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def continuation(checkpoint: Path, root: Path, steps: int, seed: int, settings: dict[str, Any]) -> TrainConfig:
    """The settings of `train.py init_from=… reward.after=0 …`."""
    config = TrainConfig(
        data=Flickr8kConfig(root=str(root), num_workers=0),
        cache=CacheConfig(),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=5),
        trainer=TrainerConfig(
            max_epochs=99,
            max_steps=steps,
            captions_per_image=1,
            ema=0.95,
            float32_matmul_precision="medium",
        ),
        reward=RewardConfig(**{"after": 0, "learning_rate": 2e-4, "bleu": 0.5} | settings),
        seed=seed,
        init_from=str(checkpoint),
    )
    return with_settings_of_checkpoint(config)


def train(run: Run) -> dict[str, Tensor]:
    """Train to the end; returns, and leaves in the model, the moving average of the decoder's weights."""
    torch.manual_seed(run.config.seed)
    with float32_matmul_precision(run.config.trainer.float32_matmul_precision):
        while not run.is_over:
            begin_epoch(run)
            run.model.train()
            for batch in training_batches(run):
                train_step(run, batch)
            run.progress.end_epoch(run.steps_per_epoch)
    assert run.ema is not None
    with run.ema.in_place():
        averages = {name: weight.clone() for name, weight in run.model.decoder.state_dict().items()}
    run.model.decoder.load_state_dict(averages)
    return averages


def scores(run: Run) -> dict[str, float]:
    """The scores of greedy captions of the split val."""
    captions = generate_captions(
        run.model,
        run.vocabulary,
        run.tokenizer,
        run.val_set,
        run.val_features,
        replace(DecodeConfig(), name="greedy"),
        run.config.trainer.eval_batch_size,
    )
    metrics = MetricConfig(names=["Bleu", "METEOR", "CIDEr", "Fluency"])
    train_captions = run.train_set.all_captions
    corpus = score_captions(
        captions, run.val_set, metrics, run.config.tokenizer, train_captions, meteor=run.config.meteor
    ).corpus
    words = sum(len(caption.split()) for caption in captions.values()) / len(captions)
    return {name: round(100 * corpus[name], 2) for name in NAMES} | {"words": round(words, 2)}


if __name__ == "__main__":
    main()
