"""Example images for the page: synthetic scenes, rendered when they are requested."""

from __future__ import annotations

import io
import random
from functools import cache

from captioner.data.synthetic.scenes.drawing import draw_scene
from captioner.data.synthetic.scenes.generate_scenes import generate_scene

EXAMPLES = (7, 14, 20, 32)  # indices in the test split of the scenes: no model was trained on these layouts
_SEED = 0  # the default of data=scenes


@cache
def example_image(index: int) -> bytes:
    """Example `index` of EXAMPLES as a PNG file."""
    scene = generate_scene(_SEED, "test", EXAMPLES[index]).scene
    file = io.BytesIO()
    draw_scene(scene, random.Random(EXAMPLES[index])).save(file, "PNG")
    return file.getvalue()
