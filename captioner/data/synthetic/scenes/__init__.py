"""The built-in data set `data=scenes`: synthetic images generated from a seed, with five captions and boxes each.

world            colors, places and kinds of object, and what goes together; the table that all other modules read
compositions     the combinations that are held out of training
layout           what is in a scene, and where
drawing          a scene → its image (with brush, animals, vehicles, things and backdrops)
words, sentences a scene → its five captions
generate_scenes  all of it as files in COCO's format
draw_share       a process that draws a part of many images
sheet            an overview image of some scenes
"""

from captioner.data.synthetic.scenes.generate_scenes import (
    available_splits,
    has_boxes,
    load_scenes,
    read_references,
    read_split,
)

__all__ = ["available_splits", "has_boxes", "load_scenes", "read_references", "read_split"]
