"""What the additions to cross-entropy do to captions: short continuations of one model, equal but for one setting.

    python benchmarks/objectives.py OUT flickr8k/ --checkpoint runs/rnn --steps 100 --seeds 0 1 2 [--only unlikelihood]

Each continuation trains the decoder on cached features: 16 images of two captions per step, rate 5e-4 with a cosine
schedule, label smoothing 0.1, moving average 0.95. Scheduled sampling has a constant ε of 0.75. OUT gets the decoders;
a line of JSON for each has the scores of the greedy captions of the split val, × 100: `doubled` is Fluency's part for
phrases said twice, `repeats` the share of words that stand in the caption before; then the words per caption and the
processor seconds of training. The first line is the model without a continuation. What ends there is read again, so
the command can be repeated after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rewards import train
from torch import Tensor

from captioner.config import (
    DecodeConfig,
    Flickr8kConfig,
    MetricConfig,
    ObjectiveConfig,
    OptimConfig,
    TrainConfig,
    TrainerConfig,
)
from captioner.evaluation.evaluate import generate_captions
from captioner.evaluation.evaluation import score_captions
from captioner.training.ema import ExponentialMovingAverage
from captioner.training.init_from import with_settings_of_checkpoint
from captioner.training.optimizer import build_optimizer
from captioner.training.progress import Progress
from captioner.training.run import Run
from captioner.training.setup import prepare

NAMES = {"Bleu_4": "Bleu_4", "METEOR": "METEOR", "CIDEr": "CIDEr", "Implausible": "implausible",
         "Implausible_doubled": "doubled"}  # fmt: skip


SAMPLED = ObjectiveConfig(scheduled_sampling="linear", sampling_k=0.75)
SETTINGS = {
    "cross_entropy": ObjectiveConfig(),
    "scheduled_sampling": SAMPLED,
    "scheduled_sampling_argmax": replace(SAMPLED, own_words="argmax"),
    "unlikelihood": ObjectiveConfig(unlikelihood=1.0),
    "r_drop": ObjectiveConfig(r_drop=1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for the decoders")
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model after cross-entropy training")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(exist_ok=True)
    before = prepare(continuation(arguments.checkpoint, arguments.flickr8k, arguments.steps), arguments.out)
    weights = {name: weight.clone() for name, weight in before.model.decoder.state_dict().items()}
    report("before", 0, before, 0.0)
    for seed in arguments.seeds:
        for name in arguments.only:
            run = started_again(before, weights, seed, SETTINGS[name])
            file, start = arguments.out / f"{name}-{seed}.pt", time.process_time()
            if file.exists():
                run.model.decoder.load_state_dict(torch.load(file, weights_only=True))
            else:
                torch.save(train(run), file)
            report(name, seed, run, time.process_time() - start)


def continuation(checkpoint: Path, root: Path, steps: int) -> TrainConfig:
    """The settings of `train.py init_from=…`."""
    config = TrainConfig(
        data=Flickr8kConfig(root=str(root), num_workers=0),
        optim=OptimConfig(learning_rate=5e-4, warmup_steps=10),
        trainer=TrainerConfig(max_epochs=99, max_steps=steps, captions_per_image=2, ema=0.95),
        device="cpu",
        init_from=str(checkpoint),
    )
    return with_settings_of_checkpoint(config)


def started_again(run: Run, weights: dict[str, Tensor], seed: int, objective: ObjectiveConfig) -> Run:
    """A run on the same data from the decoder's `weights`, with another seed and objective."""
    config = replace(run.config, seed=seed, objective=objective)
    run.model.decoder.load_state_dict(weights)
    optimizer = build_optimizer(run.model, config.optim, 0)
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    ema = ExponentialMovingAverage(trainable, config.trainer.ema or 0.0)
    return replace(run, config=config, optimizer=optimizer, ema=ema, progress=Progress())


def report(name: str, seed: int, run: Run, seconds: float) -> None:
    """Print a line of JSON."""
    line = json.dumps({"objective": name, "seed": seed, **scores(run), "seconds": round(seconds, 1)})
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def scores(run: Run) -> dict[str, float]:
    """The scores of greedy captions of the split val."""
    captions = generate_captions(
        run.model,
        run.vocabulary,
        run.tokenizer,
        run.val_set,
        run.val_features,
        DecodeConfig(name="greedy"),
        run.config.trainer.eval_batch_size,
    )
    corpus = score_captions(
        captions,
        run.val_set,
        MetricConfig(names=["Bleu", "METEOR", "CIDEr", "Fluency"]),
        run.config.tokenizer,
        run.train_set.all_captions,
        meteor=run.config.meteor,
    ).corpus
    words = [caption.split() for caption in captions.values()]
    references = run.tokenizer.tokenize_all([caption for image in run.val_set for caption in image.captions])
    return {
        **{name: round(100 * corpus[metric], 2) for metric, name in NAMES.items()},
        "repeats": round(100 * repeats(words), 2),
        "repeats_of_references": round(100 * repeats(references), 2),
        "words": round(sum(map(len, words)) / len(words), 2),
    }


def repeats(captions: Iterable[Sequence[str]]) -> float:
    """The share of words that stand in their caption before."""
    pairs = [(len(words) - len(set(words)), len(words)) for words in captions]
    return sum(again for again, _ in pairs) / sum(count for _, count in pairs)


if __name__ == "__main__":
    main()
