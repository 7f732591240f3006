"""Class probabilities beside features: from pixels, and from the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captioner.config import CacheConfig, DecodeConfig, EncoderConfig, FolderConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.features.class_source import with_classes
from captioner.data.features.sources import open_features
from captioner.data.images.decode import load_image
from captioner.data.images.transforms import image_to_tensor
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.class_head import build_class_head

PHOTOS = [Path("docs/pretrained") / f"{name}.jpg" for name in ("cat", "coffee", "officer")]


@pytest.mark.parametrize("cached", [True, False])
def test_classes_are_those_of_the_class_head(cached: bool, tmp_path: Path) -> None:
    config = EncoderConfig(image_size=96, fine_tune_from="features.7")
    encoder = build_encoder(config).eval().requires_grad_(False)
    dataset = CaptionDataset("photos", "val", tuple(CaptionedImage(path.stem, path, ("a photo",)) for path in PHOTOS))
    data, cpu = FolderConfig(root=str(PHOTOS[0].parent), num_workers=0), torch.device("cpu")
    cache = CacheConfig(enabled=cached, directory=str(tmp_path))
    source = open_features(dataset, encoder, with_grid=True, data=data, cache=cache, device=cpu)
    options = {"data": data, "cache": cache, "device": cpu}
    off = with_classes(source, dataset, encoder, config, DecodeConfig(), **options)  # type: ignore[arg-type]
    assert off is source, "without a weight nothing is computed"
    found = with_classes(source, dataset, encoder, config, DecodeConfig(class_weight=1.0), **options)  # type: ignore[arg-type]
    head = build_class_head(config, encoder)
    assert head is not None
    pixels = torch.stack(
        [image_to_tensor(load_image(path, encoder.transform.size), encoder.transform) for path in PHOTOS]
    )
    with torch.inference_mode():
        expected = head(pixels, encoder.frozen_features(pixels)).probabilities
        batches = list(found.batches([[2, 0], [1]]))
    assert [indices for indices, _ in batches] == [[2, 0], [1]]
    for indices, features in batches:
        assert features.classes is not None
        assert features.grid is not None
        torch.testing.assert_close(features.classes, expected[indices], rtol=0.01, atol=1e-3)  # stored as float16
