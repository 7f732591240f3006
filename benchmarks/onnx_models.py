"""Every model of conf/model as ONNX: the largest difference of logits and attention weights from torch's.

    python benchmarks/onnx_models.py [attention gru …]

The models are small and have random weights; `spread` is the standard deviation of their logits. Each is exported,
loaded by onnxruntime, and runs five steps beside torch, for other numbers of images and regions than those of the
export; `half` is the difference of logits where the weights are stored in half precision (--precision float16). 8 bits
are for the encoder, so they change no decoder. For a model that cannot be exported, its reason is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnxruntime
import torch
from measure import report

from captioner.checkpoint.onnx.graphs import DecoderGraphs, export_decoder
from captioner.checkpoint.onnx.stored_weights import store_in_half
from captioner.cli.hydra_config import compose_train_settings
from captioner.errors import CaptionerError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures

ROOT = Path(__file__).resolve().parent.parent
V, D, P = 200, 64, 9
SIZES = {"embedding_dim": 48, "hidden_dim": 48, "attention_dim": 24, "memory_slots": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
    parser.add_argument("models", nargs="*", metavar="MODEL", help="(default: all)")
    for name in parser.parse_args().models or names:
        try:
            report(name, differences(name))
        except CaptionerError as error:
            report(name, {"not exported": str(error)})
        sys.stdout.flush()


@torch.no_grad()
def differences(name: str) -> dict[str, float]:
    """The largest differences in both precisions, and the spread of the logits."""
    torch.manual_seed(0)
    config = compose_train_settings([f"model={name}"]).model
    known = {field.name for field in fields(config)}
    small: dict[str, Any] = {key: size for key, size in SIZES.items() if key in known}
    decoder = build_decoder(replace(config, **small), V, D).eval()
    with torch.enable_grad():
        graphs = export_decoder(decoder, D, P)
    logits, attention, spread = beside_torch(decoder, graphs)
    for graph in (graphs.init_state, graphs.step):
        store_in_half(graph, exactly=False)
    half, _, _ = beside_torch(decoder, graphs)
    found = {"logits": logits, "attention": attention, "half": half}
    return {name: float(f"{value:.1e}") for name, value in found.items()} | {"spread": round(spread, 2)}


@torch.no_grad()
def beside_torch(decoder: Decoder[Any], graphs: DecoderGraphs) -> tuple[float, float, float]:
    """The largest differences of logits and of attention weights, and the spread of the logits."""
    init_state, step = (
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in (graphs.init_state, graphs.step)
    )
    names = [*(f"image_{i}" for i in range(graphs.image)), *(f"row_{i}" for i in range(graphs.rows))]
    of_logits, of_attention, spread = 0.0, 0.0, 0.0
    for images, regions in ((1, P), (1, 5), (2, 7), (6, P)):
        grid = torch.randn(images, regions, D)
        features = ImageFeatures(grid.mean(1), grid if decoder.needs_grid else None)
        state = decoder.init_state(features)
        given = {"vector": features.vector.numpy(), "grid": grid.numpy()}
        parts = dict(zip(names, run(init_state, given).values(), strict=True))
        for _ in range(5):
            tokens = torch.randint(4, V, (images,))
            expected = decoder.step(tokens, state)
            state = expected.state
            found = run(step, {"tokens": tokens.numpy(), **parts})
            of_logits = max(of_logits, float(np.abs(found["logits"] - expected.logits.numpy()).max()))
            spread = max(spread, float(expected.logits.std()))
            if expected.attention is not None:
                of_attention = max(of_attention, float(np.abs(found["attention"] - expected.attention.numpy()).max()))
            parts |= {part: found[f"next_{part}"] for part in names if part.startswith("row_")}
    return of_logits, of_attention, spread


def run(session: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output name → array, from those inputs that the graph has."""
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {i.name: given[i.name] for i in session.get_inputs()}), strict=True))


if __name__ == "__main__":
    main()
