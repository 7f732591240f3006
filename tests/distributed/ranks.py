"""Real processes connected by gloo, for tests: each runs a function of this module and writes its result to a file.

run_ranks("collectives_and_run", 2, folder)  →  what each rank's `collectives_and_run(folder)` returned, in their order
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import TCPStore
from torch.nn.parallel import DistributedDataParallel

from captioner.cli.choices import CONF
from captioner.cli.hydra_config import compose_train_settings
from captioner.config import CacheConfig, DecodeConfig, FolderConfig, TrainConfig
from captioner.data.datasets.registry import load_dataset
from captioner.distributed.all_reduce import summed_gradients
from captioner.distributed.ranks import (
    all_gather,
    all_gather_union,
    all_reduce,
    broadcast_from_rank0,
    first_value_in_job,
    join_job,
    may_report_error,
    process_group,
    rank_info,
    share,
)
from captioner.errors import CaptionerError, DataError
from captioner.evaluation.evaluate import generate_captions
from captioner.training import loop as training
from captioner.training.loop import train
from captioner.training.run import Run
from captioner.training.setup import features_of, prepare
from captioner.training.signals import Interrupted
from captioner.training.step import train_step, training_batches
from tests.tiny import tiny_config, with_trainer, write_tiny_data

ROOT = Path(__file__).resolve().parents[2]


def run_ranks(work: str, size: int, folder: Path) -> list[Any]:
    """The results of `work(folder)` of this module in `size` processes; fails with the errors of those that fail."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    processes = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "OMP_NUM_THREADS": 1}
        environment = os.environ | {key: str(value) for key, value in (job | place).items()}
        command = [sys.executable, "-m", "tests.distributed.ranks", work, str(folder)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=500)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    return [json.loads((folder / f"{work}.{rank}.json").read_text()) for rank in range(size)]


def write_data(folder: Path) -> None:
    """Write sixteen training images, and three validation images, which ranks cannot share evenly."""
    write_tiny_data(folder / "data")
    table = folder / "data" / "captions.csv"
    lines = table.read_text().splitlines()
    validation = [line for line in lines if line.endswith("val")]
    table.write_text("\n".join(line for line in lines if line not in validation[6:]) + "\n")


def settings(folder: Path, dropout: float = 0.0) -> TrainConfig:
    """Settings of a run on the data of `write_data`: four steps per epoch, the last with one image."""
    config = with_trainer(
        tiny_config(FolderConfig(root=str(folder / "data"), captions="captions.csv", num_workers=0)), batch_size=5
    )
    return replace(
        config, model=replace(config.model, dropout=dropout), cache=CacheConfig(directory=str(folder / "cache"))
    )


def collectives_and_run(folder: Path) -> dict[str, Any]:
    """One result of every collective operation, and a run in `folder/ranks`."""
    rank = rank_info().rank

    def fail() -> None:
        raise DataError("no such file")

    bad = {rank: f"image {rank}"}
    all_gather_union(bad)
    try:
        broadcast_from_rank0(fail)
        message = ""
    except CaptionerError as error:
        message = str(error)
    return {
        "first_value": first_value_in_job("word", f"rank {rank}"),
        "share": share(list(range(7))),
        "all_gather": all_gather(rank),
        "all_reduce": all_reduce({"both": 1.5} if rank else {"both": 2.0, "first": 1.0}),
        "broadcast": broadcast_from_rank0(lambda: f"of {rank}"),
        "union": sorted(bad.values()),
        "error": message,
        "reports_errors": may_report_error(),
        "gradients": [gradients_of(overlap) for overlap in (True, False)],
        **train_in(folder, "ranks"),
    }


def resumed_runs(folder: Path) -> None:
    """Runs that are stopped or resumed in a job of this size."""
    train_in(folder, "whole", dropout=0.3)
    train_in(folder, "halves", dropout=0.3, stop_after=3)
    train_in(folder, "halves", dropout=0.3, resume=True)
    train_in(folder, "started_by_ranks", stop_after=3)
    train_in(folder, "started_by_one", resume=True)


def gradients_of(overlap: bool) -> list[list[float]]:
    """Summed gradients of a network, to which each rank gives its own input rows; no rank uses the last layer."""
    rank, size = rank_info().rank, rank_info().world_size
    network, inputs = three_layers()
    with summed_gradients(network.parameters(), overlap=overlap):
        if rank < size - 1 or size == 1:  # the last rank has no image
            rows = inputs[rank :: max(1, size - 1)]
            network[:2](rows).square().sum().backward()
    return [parameter.grad.flatten().tolist() for parameter in network.parameters() if parameter.grad is not None]


def data_parallel(folder: Path) -> dict[str, Any]:
    """Why ADR 4 keeps its own sums: DistributedDataParallel in three situations, and ours in the first."""
    rank = rank_info().rank
    return {
        "unfrozen": unfrozen_gradients(lambda network: DistributedDataParallel(network)),
        "unfrozen, ours": unfrozen_gradients(None),
        "unused": raised(unused_parameters),
        "no image": raised(lambda: no_image(rank)),
    }


def unfrozen_gradients(wrap: Callable[[nn.Module], nn.Module] | None) -> list[list[float]]:
    """The gradients of each layer where the first one was frozen at first, times the ranks where they are averaged."""
    rank, size = rank_info().rank, rank_info().world_size
    network, inputs = three_layers()
    network[0].requires_grad_(False)
    wrapped = network if wrap is None else wrap(network)
    network[0].requires_grad_(True)
    if wrap is None:
        with summed_gradients(network.parameters(), overlap=True):
            wrapped(inputs[rank::size]).square().sum().backward()
    else:
        (wrapped(inputs[rank::size]).square().sum() * size).backward()
    return [parameter.grad.flatten().tolist() for parameter in network.parameters() if parameter.grad is not None]


class FirstLayers(nn.Module):
    """A network that does not use its last layer."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network[:2](inputs)
        return found


def unused_parameters() -> None:
    """Two steps of a network of which a layer is not used."""
    network, inputs = three_layers()
    wrapped = DistributedDataParallel(FirstLayers(network))
    for _ in range(2):
        wrapped(inputs).square().sum().backward()


def no_image(rank: int) -> None:
    """A step in which the last rank has no image, so it runs no backward pass."""
    network, inputs = three_layers()
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=5))
    wrapped = DistributedDataParallel(network, process_group=group)
    if rank == 0:
        wrapped(inputs).square().sum().backward()


def raised(work: Callable[[], None]) -> str:
    """The first line of the error of `work`; "" without one."""
    try:
        work()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        all_gather(None)
    return ""


def three_layers() -> tuple[nn.Sequential, torch.Tensor]:
    """A network and its inputs, equal on every rank."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 1)), torch.randn(6, 4)


def train_in(
    folder: Path, name: str, *, dropout: float = 0.0, resume: bool = False, stop_after: int | None = None
) -> dict[str, Any]:
    """The results of a run in `folder/name`. stop_after: the step after which the last rank gets SIGINT."""
    step_before = training.train_step

    def step_and_interrupt(run: Run, *arguments: Any) -> dict[str, float]:
        losses = step_before(run, *arguments)
        if run.progress.step == stop_after and rank_info().rank == rank_info().world_size - 1:
            signal.raise_signal(signal.SIGINT)
        return losses

    (folder / name).mkdir(exist_ok=True)
    training.train_step = step_and_interrupt
    try:
        run = prepare(settings(folder, dropout), folder / name, resume=resume)
        evaluation = train(run).evaluations["val"]
    except Interrupted:
        assert stop_after is not None
        return {"step": run.progress.step}
    finally:
        training.train_step = step_before
    return {
        "scores": evaluation.scores.corpus,
        "captions": evaluation.captions,
        "random_values": torch.rand(3).tolist(),
        "few": [captions_of(run, limit) for limit in (1, 3)],
    }


def every_model(folder: Path) -> dict[str, list[float]]:
    """The losses of an epoch of every model of conf/ except hard attention, and of a fine-tuned encoder."""
    options = [[f"model={path.stem}"] for path in sorted(CONF.glob("model/*.yaml")) if path.stem != "hard_attention"]
    options.append(["model=attention", "encoder.fine_tune_from=features.12", "trainer.gradient_accumulation_steps=2"])
    return {" ".join(chosen): losses_with(folder, chosen) for chosen in options}


def own_words(folder: Path) -> dict[str, list[float]]:
    """The losses of an epoch in which half of the words read are the model's own, step by step and in two passes.

    With a small rate, because unlikelihood makes the transformer's losses grow at 0.1, and rounding errors with them.
    """
    sampled = ["objective=scheduled_sampling", "objective.sampling_k=0.5", "objective.sampling_floor=0"]
    models = ("model=attention", "model=transformer")
    return {model: losses_with(folder, [model, *sampled, "objective.unlikelihood=1"], 0.002) for model in models}


def losses_with(folder: Path, options: list[str], learning_rate: float = 0.1) -> list[float]:
    """The losses of an epoch with these settings of train.py, on the data of `write_data`.

    SGD, because Adam divides a gradient near 0 by its own size, and so turns rounding errors into steps.
    """
    plain = settings(folder)
    chosen = composed(folder, [*options, "model.dropout=0"])
    sizes = {"embedding_dim": 24, "hidden_dim": 24, "attention_dim": 12, "feed_forward_dim": 48, "memory_slots": 3}
    model = replace(chosen.model, **{name: size for name, size in sizes.items() if hasattr(chosen.model, name)})
    encoder = plain.encoder
    if chosen.model.name == "semantic_attention":  # it reads the classes of the published classifier
        encoder = replace(chosen.encoder, name="efficientnet_lite0", image_size=64)
    encoder = replace(encoder, fine_tune_from=chosen.encoder.fine_tune_from)
    trainer = replace(plain.trainer, gradient_accumulation_steps=chosen.trainer.gradient_accumulation_steps)
    optim = replace(plain.optim, name="sgd", learning_rate=learning_rate)
    parts = {"model": model, "encoder": encoder, "objective": chosen.objective}
    changed = replace(plain, **parts, trainer=trainer, optim=optim)
    run = prepare(changed, folder / "none")
    run.model.train()
    return [train_step(run, step)["loss"] for step in training_batches(run)]


def composed(folder: Path, options: list[str]) -> TrainConfig:
    """The settings of train.py with these options, which the first process that asks for them composes for all."""
    path = folder / f"{','.join(options)}.composed"
    if not path.exists():
        path.write_bytes(pickle.dumps(compose_train_settings(options)))
    settings: TrainConfig = pickle.loads(path.read_bytes())
    return settings


def captions_of(run: Run, limit: int) -> dict[str, str]:
    """Captions of the first images of the test split."""
    dataset = load_dataset(replace(run.config.data, limit=limit), "test")
    features = features_of(run.config, dataset, run.model, run.device)
    decode = DecodeConfig(max_length=8)
    found = generate_captions(run.model, run.vocabulary, run.tokenizer, dataset, features, decode, 2)
    return {str(image_id): caption for image_id, caption in found.items()}


WORK: dict[str, Callable[[Path], Any]] = {
    "collectives_and_run": collectives_and_run,
    "resumed_runs": resumed_runs,
    "every_model": every_model,
    "data_parallel": data_parallel,
    "own_words": own_words,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    work, folder = sys.argv[1], Path(sys.argv[2])
    rank = join_job().rank
    with process_group(torch.device("cpu"), 1.0):
        answer = WORK[work](folder)
    (folder / f"{work}.{rank}.json").write_text(json.dumps(answer))
