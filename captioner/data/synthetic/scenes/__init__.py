"""The embedded data set: images of small scenes drawn from a seed, each with five sentences and its boxes.

world         what exists: colors, places, kinds of object         → the table everything else reads
compositions  which combinations are kept out of training
layout        what is in a scene, and where
brush, animals, vehicles, things, backdrops, drawing                → its image
words, sentences                                                    → what five people say of it
generate      all of it as files in COCO's layout
"""

from captioner.data.synthetic.scenes.generate_scenes import available_splits, has_boxes, load_scenes, read_split

__all__ = ["available_splits", "has_boxes", "load_scenes", "read_split"]
