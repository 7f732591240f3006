"""Images to try the page with: drawn when they are asked for, so that none has to be shipped or fetched."""

from __future__ import annotations

import io
import random
from functools import cache

from captioner.data.synthetic.scenes.drawing import draw_scene
from captioner.data.synthetic.scenes.generate_scenes import generate_scene

EXAMPLES = (7, 14, 20, 32)  # places in the scenes' test split: no model trained on scenes has seen these layouts
_SEED = 0  # of the scenes: the default of data=scenes


@cache
def draw_example(number: int) -> bytes:
    """Example `number` (its place in EXAMPLES) as a PNG file."""
    scene = generate_scene(_SEED, "test", EXAMPLES[number]).scene
    file = io.BytesIO()
    draw_scene(scene, random.Random(EXAMPLES[number])).save(file, "PNG")
    return file.getvalue()
