"""Example images for the page: photos, then synthetic scenes, which are rendered when they are requested."""

from __future__ import annotations

import io
import random
from functools import cache
from pathlib import Path

from captioner.data.synthetic.scenes.drawing import draw_scene
from captioner.data.synthetic.scenes.generate_scenes import generate_scene

_INSIDE = Path(__file__).parent / "photos"
PHOTOS = _INSIDE if _INSIDE.is_dir() else Path(__file__).parents[2] / "docs" / "pretrained"
"""The folder of photos: inside the package when it was installed from a wheel, in the documentation in a checkout."""

EXAMPLE_PHOTOS = ("officer.jpg", "photographer.jpg", "cat.jpg")  # sources and terms: docs/pretrained.md
EXAMPLE_SCENES = (7, 20)  # indices in the test split of the scenes: no model was trained on these layouts
EXAMPLES = (*EXAMPLE_PHOTOS, *EXAMPLE_SCENES)
_SEED = 0  # the default of data=scenes


@cache
def example_image(index: int) -> tuple[bytes, str]:
    """Example `index` of EXAMPLES as the content of an image file, and its media type."""
    example = EXAMPLES[index]
    if isinstance(example, str):
        return (PHOTOS / example).read_bytes(), "image/jpeg"
    scene = generate_scene(_SEED, "test", example).scene
    file = io.BytesIO()
    draw_scene(scene, random.Random(example)).save(file, "PNG")
    return file.getvalue(), "image/png"
