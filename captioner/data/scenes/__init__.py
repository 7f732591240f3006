"""The embedded data set: pictures of small scenes drawn from a seed, each with five sentences and its boxes.

world         what exists: colours, places, kinds of object         → the table everything else reads
compositions  which combinations are kept out of training
layout        what is in a scene, and where
brush, animals, vehicles, things, backdrops, drawing                → its picture
words, sentences                                                    → what five people say of it
generate      all of it as files in COCO's layout
"""

from captioner.data.scenes.generate import load_scenes

__all__ = ["load_scenes"]
