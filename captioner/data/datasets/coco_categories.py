"""The words that name COCO's 80 object categories in captions, where they are more than the label and its plural.

Words that often mean something else are left out, such as "orange" (a color) and "computer": a word wrongly taken for
an object distorts the grounding score more than a word that is missed.
"""

from __future__ import annotations

from captioner.text.coco_objects import EVERYDAY_NAMES
from captioner.text.object_words import plural

LABEL_NAMES: dict[str, tuple[str, ...]] = {
    **{label: (label, plural(label), *names.split()) for label, names in EVERYDAY_NAMES.items()},
    "orange": ("oranges",),
}
"""Label → the words or phrases that name it in a caption. Other labels are named by themselves and their plural."""
