"""The exported graphs, run by onnxruntime, beside the decoders themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioner.checkpoint.onnx.graphs import export_decoder
from captioner.cli.hydra_config import compose_train_settings
from captioner.config import AttentionConfig, ModelConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

V, D, P = 40, 32, 9
ROOT = Path(__file__).parents[3]
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


def small(config: ModelConfig) -> Decoder[Any]:
    """The decoder of these settings with few units, no more than two layers of a kind, and random weights."""
    sizes = {"embedding_dim": 24, "hidden_dim": 24, "attention_dim": 12, "memory_slots": 3}
    most = {"layers": 2, "encoder_layers": 2}
    known = {field.name for field in fields(config)}
    torch.manual_seed(0)
    changed = {name: size for name, size in sizes.items() if name in known}
    changed |= {name: min(size, getattr(config, name)) for name, size in most.items() if name in known}
    small_config = replace(config, **changed)  # type: ignore[arg-type]
    return build_decoder(small_config, V, D).eval()


def check_graphs(decoder: Decoder[Any]) -> None:
    """Logits and attention of five steps equal the decoder's, for other numbers of images and regions."""
    graphs = export_decoder(decoder, D, P)
    init_state, step = (
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in (graphs.init_state, graphs.step)
    )
    names = [*(f"image_{i}" for i in range(graphs.image)), *(f"row_{i}" for i in range(graphs.rows))]
    for images, regions in ((1, P), (1, 5), (2, 7), (6, P)):
        grid = torch.randn(images, regions, D)
        features = ImageFeatures(grid.mean(1), grid if decoder.needs_grid else None)
        state = decoder.init_state(features)
        given = {"vector": features.vector.numpy(), "grid": grid.numpy()}
        parts = dict(
            zip(names, init_state.run(None, {i.name: given[i.name] for i in init_state.get_inputs()}), strict=True)
        )
        for _ in range(5):
            tokens = torch.randint(4, V, (images,))
            with torch.no_grad():
                expected = decoder.step(tokens, state)
            state = expected.state
            inputs = {"tokens": tokens.numpy(), **parts}
            found = dict(
                zip(
                    (output.name for output in step.get_outputs()),
                    step.run(None, {i.name: inputs[i.name] for i in step.get_inputs()}),
                    strict=True,
                )
            )
            np.testing.assert_allclose(found["logits"], expected.logits.numpy(), rtol=0, atol=1e-4)
            if decoder.attends:
                assert expected.attention is not None
                np.testing.assert_allclose(found["attention"], expected.attention.numpy(), rtol=0, atol=1e-4)
            parts |= {name: found[f"next_{name}"] for name in names if name.startswith("row_")}


def check(name: str) -> None:
    """`check_model` where shape annotations are not enforced in the export, whose lengths are symbols."""
    if hasattr(torch.compiler, "is_exporting"):  # from torch 2.6 on, tests.shapes knows it
        check_model(name)
        return
    code = f"from {__name__} import check_model; check_model({name!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def check_model(name: str) -> None:
    """`check_graphs` for the settings of conf/model/NAME.yaml."""
    check_graphs(small(compose_train_settings([f"model={name}"]).model))


def test_a_recurrent_decoder_and_its_graphs_predict_the_same() -> None:
    check("gru")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_and_its_graphs_predict_the_same(name: str) -> None:
    check(name)


def test_a_decoder_that_cannot_be_exported_says_why() -> None:
    decoder = small(AttentionConfig(attention="hard", hard_at_test="sample"))
    with pytest.raises(ConfigError, match=r"samples where to attend.*model\.hard_at_test=expected"):
        export_decoder(decoder, D, P)
