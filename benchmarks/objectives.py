"""What the additions to cross-entropy do to captions: short trainings from scratch, equal but for one setting.

    python benchmarks/objectives.py OUT flickr8k/ --steps 500 --seeds 0 1 2 [--only cross_entropy unlikelihood]

The LSTM captioner of `experiment=lineage` (width 256) on cached features, 16 images of two captions per step, rate 2e-3
with a cosine schedule, label smoothing 0.1, moving average 0.98. Scheduled sampling is linear, to --floor at the last
step. OUT gets the decoders; a line of JSON for each has the scores of the greedy captions of the split val, × 100:
`doubled` is Fluency's part for phrases said twice, `repeats` the share of words that stand in the caption before; then
the words per caption and the processor seconds of training. What ends there is read again, so the command can be
repeated after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rewards import train

from captioner.cli.hydra_config import compose_train_settings
from captioner.config import DecodeConfig, MetricConfig
from captioner.evaluation.evaluate import generate_captions
from captioner.evaluation.evaluation import score_captions
from captioner.training.run import Run
from captioner.training.setup import prepare

NAMES = {"Bleu_4": "Bleu_4", "METEOR": "METEOR", "CIDEr": "CIDEr", "Implausible": "implausible",
         "Implausible_doubled": "doubled"}  # fmt: skip


def settings(steps: int, floor: float) -> dict[str, list[str]]:
    """Name → the settings of a training."""
    sampling = [
        "objective.scheduled_sampling=linear",
        f"objective.sampling_c={(1 - floor) / steps:g}",
        f"objective.sampling_floor={floor}",
    ]
    return {
        "cross_entropy": [],
        "scheduled_sampling": sampling,
        "scheduled_sampling_argmax": [*sampling, "objective.own_words=argmax"],
        "unlikelihood": ["objective.unlikelihood=1"],
        "r_drop": ["objective.r_drop=1"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for the decoders")
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--floor", type=float, default=0.75, help="ε of scheduled sampling at the last step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=settings(1, 0.75))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(exist_ok=True)
    chosen = settings(arguments.steps, arguments.floor)
    for seed in arguments.seeds:
        for name in arguments.only or chosen:
            config = compose_train_settings([
                "experiment=lineage", "model=lstm", "data=flickr8k", f"data.root={arguments.flickr8k}",
                "data.num_workers=0", "device=cpu", "trainer.max_epochs=99", f"trainer.max_steps={arguments.steps}",
                "trainer.ema=0.98", "optim.learning_rate=2e-3", "optim.warmup_steps=50", f"seed={seed}",
                *chosen[name],
            ])  # fmt: skip
            run = prepare(config, arguments.out)
            file, start = arguments.out / f"{name}-{seed}.pt", time.process_time()
            if file.exists():
                run.model.decoder.load_state_dict(torch.load(file, weights_only=True))
            else:
                torch.save(train(run), file)
            seconds = round(time.process_time() - start, 1)
            line = json.dumps({"objective": name, "seed": seed, **scores(run), "seconds": seconds})
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
