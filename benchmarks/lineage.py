"""From the vanilla RNN to the transformer by one protocol: a table for equal parameters, and one for equal time.

    python benchmarks/lineage.py runs/lineage --data-root flickr8k/ --dry-run     cells, sizes, epochs and hours
    python benchmarks/lineage.py runs/lineage --data-root flickr8k/

A cell of the tables is a run: a captioner, a seed and a budget, first by cross-entropy (XE), then the same run with
self-critical training (RL). Each cell has a folder of its own, so the command can be stopped and started again with the
same arguments: finished cells are kept, the one that was stopped is resumed, and the tables are written anew after
each cell. Start it with OMP_NUM_THREADS=1 to count the processor time of one thread.

    equal parameters: the width at which the decoder has the number nearest to --parameters; --epochs, --reward-epochs
    equal time:       width --width; as many steps of XE as fit into --seconds of processor time, and then as many RL
                      steps as fit into --reward-seconds, by the time of some steps that are measured once and kept in
                      steps.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lineage_measure import check_boxes, measure, timed
from lineage_tables import write_tables

from captioner.checkpoint.index import read_index
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.train_job import train_in_folder
from captioner.config import TrainConfig
from captioner.errors import DataError
from captioner.files import write_json
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.training.run import Run
from captioner.training.setup import begin_epoch, prepare
from captioner.training.signals import Interrupted
from captioner.training.step import train_step, training_batches

CAPTIONERS = ("rnn", "lstm", "attention", "adaptive_attention", "att2in", "updown", "aoa", "transformer", "m2")
MULTIPLE = 8  # of the width: the number of heads
TIMED_STEPS, WARM_UP = 8, 2


@dataclass(frozen=True)
class Cell:
    """One run: `table` is "parameters" or "time"; `rl_steps`: optimizer steps of self-critical training.

    epochs: of cross-entropy training, also a part of one where the time is equal.
    """

    table: str
    captioner: str
    seed: int
    width: int
    parameters: int
    epochs: float
    rl_steps: int

    def folder(self, out: Path) -> Path:
        return out / self.table / f"{self.captioner}-{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of all runs and of the tables")
    parser.add_argument("--data", default="flickr8k", help="the data set, as in data=… (default: flickr8k)")
    parser.add_argument("--data-root", help="its folder")
    parser.add_argument("--captioners", default=",".join(CAPTIONERS), help="some of them, separated by commas")
    parser.add_argument("--tables", default="parameters,time", help="parameters, time or both (default: both)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--parameters", type=float, default=3e6, help="of each decoder, where they are equal")
    parser.add_argument("--epochs", type=int, default=8, help="of cross-entropy training, with equal parameters")
    parser.add_argument(
        "--reward-epochs", type=float, default=1, help="of self-critical training, with equal parameters; 0: none"
    )
    parser.add_argument("--width", type=int, default=256, help="E = H = A, with equal time (a multiple of 8)")
    parser.add_argument("--seconds", type=float, default=400, help="of processor time for XE, with equal time")
    parser.add_argument("--reward-seconds", type=float, default=400, help="and of processor time for RL; 0: none")
    parser.add_argument(
        "--warm-up", type=float, metavar="SHARE", help="of each phase's steps (default: optim.warmup_steps, for both)"
    )
    parser.add_argument("--coco", type=Path, help="a folder of COCO with boxes: CHAIR and grounding on its val images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs")
    parser.add_argument(
        "--reward-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of self-critical training only",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the cells and their hours, and train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        check_boxes(arguments)
    except DataError as error:
        parser.error(f"--coco: {error}")
    cells = plan(arguments)
    if arguments.dry_run:
        return
    try:
        for number, cell in enumerate(cells, start=1):
            train_cell(cell, arguments, f"[{number}/{len(cells)}]")
            write_tables(arguments.out, [c.folder(arguments.out) for c in cells], CAPTIONERS)
    except (Interrupted, KeyboardInterrupt):
        sys.exit("Stopped. The same command continues where it was.")
    print((arguments.out / "tables.md").read_text())


def settings(arguments: argparse.Namespace, captioner: str, seed: int, width: int, *more: str) -> TrainConfig:
    """Of the cross-entropy phase of a run; `more`: KEY=VALUE."""
    widths = {
        "attention": ["model.attention_dim", "model.grid_dim"],
        "adaptive_attention": ["model.attention_dim"],
        "att2in": ["model.attention_dim", "model.grid_dim"],
        "updown": ["model.attention_dim", "model.grid_dim"],
        "aoa": [],
        "transformer": [],
        "m2": [],
    }.get(captioner, [])
    options = ["experiment=lineage", f"model={captioner}", f"data={arguments.data}", f"seed={seed}", "device=cpu"]
    options += [f"data.root={arguments.data_root}"] if arguments.data_root else []
    options += [f"{key}={width}" for key in ("model.embedding_dim", "model.hidden_dim", *widths)]
    if captioner in ("transformer", "m2"):
        options.append(f"model.feed_forward_dim={4 * width}")
    if captioner == "aoa":
        options.append("model.encoder_layers=3")  # as many as the transformers have
    return compose_train_settings([*options, *arguments.set, *more])


def plan(arguments: argparse.Namespace) -> list[Cell]:
    """All cells, seed after seed, so that early tables have every captioner; prints what each is and costs."""
    out: Path = arguments.out
    costs: dict[str, dict[str, float]] = {}
    if (out / "steps.json").is_file():
        costs = json.loads((out / "steps.json").read_text())
    cells: list[Cell] = []
    hours = 0.0
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(f"{'table':10} {'captioner':18} width parameters epochs RL steps minutes a seed")
    of_seed: list[Cell] = []
    for table in arguments.tables.split(","):
        for captioner in arguments.captioners.split(","):
            width, sizes = choose_width(arguments, captioner, table)
            key = f"{captioner}-{width}"
            if key not in costs:
                costs[key] = step_costs(arguments, captioner, width)
                write_json(out / "steps.json", costs)
            cost = costs[key]
            per_epoch = int(cost["steps_per_epoch"])
            if table == "time":
                epochs: float = max(1, round(arguments.seconds / cost["xe"])) / per_epoch
                rl_steps = round(arguments.reward_seconds / cost["rl"])
            else:
                epochs, rl_steps = arguments.epochs, round(arguments.reward_epochs * per_epoch)
            cell = Cell(table, captioner, 0, width, sizes, epochs, rl_steps)
            minutes = (cost["xe"] * per_epoch * epochs + cost["rl"] * rl_steps) / 60
            hours += minutes * len(seeds) / 60
            print(
                f"{table:10} {captioner:18} {width:5} {sizes:10,} {epochs:6.4g} {rl_steps:8,} {minutes:14.1f}",
                flush=True,
            )
            of_seed.append(cell)
    for seed in seeds:
        cells += [replace(cell, seed=seed) for cell in of_seed]
    print(f"{len(cells)} cells, {hours:.1f} hours of processor time for training steps; validations come on top")
    return cells


def choose_width(arguments: argparse.Namespace, captioner: str, table: str) -> tuple[int, int]:
    """The width of a captioner, and its decoder's parameters at that width."""
    vocabulary, feature_dim = sizes_of_data(arguments)

    def parameters(width: int) -> int:
        with torch.device("meta"):
            decoder = build_decoder(settings(arguments, captioner, 0, width).model, vocabulary, feature_dim)
        return sum(parameter.numel() for parameter in decoder.parameters())

    if table == "time":
        return arguments.width, parameters(arguments.width)
    low, high = 1, 256  # in multiples; the number of parameters rises with the width
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if parameters(MULTIPLE * middle) < arguments.parameters else (low, middle)
    width = min((MULTIPLE * n for n in (low - 1, low) if n), key=lambda w: abs(parameters(w) - arguments.parameters))
    return width, parameters(width)


_sizes: list[tuple[int, int]] = []


def sizes_of_data(arguments: argparse.Namespace) -> tuple[int, int]:
    """The size of the vocabulary, and the channels of the encoder; computed once."""
    if not _sizes:
        with prepared(settings(arguments, "rnn", 0, MULTIPLE)) as run:
            _sizes.append((len(run.vocabulary), run.model.encoder.feature_dim))
    return _sizes[0]


@contextmanager
def prepared(config: TrainConfig) -> Iterator[Run]:
    """A run in a temporary folder, for what is measured before the cells."""
    with tempfile.TemporaryDirectory() as folder:
        yield prepare(config, Path(folder))


def step_costs(arguments: argparse.Namespace, captioner: str, width: int) -> dict[str, float]:
    """Seconds of processor time per optimizer step of XE and of RL, and the steps of an epoch."""
    costs: dict[str, float] = {}
    rl = ["reward=cider", "reward.after=1", "trainer.max_epochs=2", *arguments.reward_set]
    for kind, more in (("xe", []), ("rl", rl)):
        with prepared(settings(arguments, captioner, 0, width, *more)) as run:
            costs["steps_per_epoch"] = run.steps_per_epoch
            if kind == "rl":
                run.progress.epoch, run.progress.step = 1, run.steps_per_epoch
            begin_epoch(run)
            run.model.train()
            spent = [timed(lambda batch=batch, run=run: train_step(run, batch))  # type: ignore[misc]
                     for batch in islice(training_batches(run), WARM_UP + TIMED_STEPS)]  # fmt: skip
            measured = spent[WARM_UP:] or spent
            costs[kind] = sum(measured) / len(measured)
    return costs


def train_cell(cell: Cell, arguments: argparse.Namespace, label: str) -> None:
    """Train, or resume, both phases of a cell, and measure what its tables need."""
    folder = cell.folder(arguments.out)
    given = {"settings": arguments.set, "reward_settings": arguments.reward_set, "warm_up": arguments.warm_up}
    write_cell(folder, {**asdict(cell), **given})
    costs = json.loads((arguments.out / "steps.json").read_text())
    per_epoch = int(costs[f"{cell.captioner}-{cell.width}"]["steps_per_epoch"])
    steps = round(cell.epochs * per_epoch)
    whole = steps % per_epoch == 0
    xe_epochs, rl_epochs = -(-steps // per_epoch), -(-cell.rl_steps // per_epoch)
    options = [f"trainer.max_epochs={xe_epochs}", *([] if whole else [f"trainer.max_steps={steps}"])]
    options += warm_up(arguments, steps)
    config = settings(arguments, cell.captioner, cell.seed, cell.width, *options)
    train_phase(config, folder / "xe", f"{label} {folder} XE")
    measure(folder / "xe", arguments)
    if not cell.rl_steps:
        return
    if cell.table == "time":  # a new run from the weights: XE may have ended within an epoch
        options = [f"init_from={folder / 'xe'}", "reward=cider", "reward.after=0", f"trainer.max_epochs={rl_epochs}"]
        options += [f"trainer.max_steps={cell.rl_steps}", *warm_up(arguments, cell.rl_steps)]
    else:
        options = ["reward=cider", f"reward.after={xe_epochs}", f"trainer.max_epochs={xe_epochs + rl_epochs}"]
        options += [f"trainer.max_steps={steps + cell.rl_steps}", *warm_up(arguments, cell.rl_steps)]
        copy_run(folder / "xe", folder / "rl")
    config = settings(arguments, cell.captioner, cell.seed, cell.width, *options, *arguments.reward_set)
    train_phase(config, folder / "rl", f"{label} {folder} RL")
    measure(folder / "rl", arguments)


def warm_up(arguments: argparse.Namespace, steps: int) -> list[str]:
    """The setting of the warm-up of a phase, where it is a share of the phase's steps."""
    return [] if arguments.warm_up is None else [f"optim.warmup_steps={round(arguments.warm_up * steps)}"]


def copy_run(run: Path, to: Path) -> None:
    """Copy a finished run, which is to be continued, unless that has begun."""
    if not to.exists():
        temporary = to.with_name(f"{to.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(run, temporary)
        (temporary / "metrics.json").unlink()
        (temporary / "lineage.json").unlink(missing_ok=True)
        temporary.rename(to)


def train_phase(config: TrainConfig, folder: Path, label: str) -> None:
    """Train to the end, from the start or from the latest checkpoint; nothing where it is finished."""
    if (folder / "metrics.json").is_file():
        return
    resume = read_index(folder) is not None
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{label}: {'resumed' if resume else 'begun'}", flush=True)
    begun = time.process_time()
    train_in_folder(config, folder, resume=resume)
    print(f"{label}: {(time.process_time() - begun) / 60:.1f} minutes of processor time", flush=True)


def write_cell(folder: Path, values: dict[str, Any]) -> None:
    """cell.json; another budget or setting for a cell that has begun is an error (older files have no settings)."""
    path = folder / "cell.json"
    begun = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in values.items():
        if begun.get(key, value) != value:
            sys.exit(
                f"{folder} was begun with {key} {json.dumps(begun[key])}, not {json.dumps(value)} ({path}): "
                "give the same, choose another folder, or remove this one."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, values)


if __name__ == "__main__":
    main()
