"""The words that name COCO's 80 object categories in captions, where they are more than the label and its plural.

Words that often mean something else are left out, such as "orange" (a color) and "computer": a word wrongly taken for
an object distorts the grounding score more than a word that is missed.
"""

from __future__ import annotations

from captioner.data.object_names import plural

_OTHER_NAMES: dict[str, str] = {
    "person": "man men woman women boy boys girl girls child children kid kids people guy guys lady ladies "
    "player players skier skiers surfer surfers skateboarder skateboarders snowboarder snowboarders",
    "bicycle": "bike bikes",
    "motorcycle": "motorbike motorbikes",
    "airplane": "plane planes jet jets",
    "boat": "ship ships sailboat sailboats",
    "traffic light": "stoplight stoplights",
    "fire hydrant": "hydrant hydrants",
    "cat": "kitten kittens",
    "dog": "puppy puppies",
    "sheep": "sheep lamb lambs",
    "cow": "cattle",
    "handbag": "purse purses",
    "suitcase": "luggage",
    "sports ball": "ball balls",
    "baseball bat": "bat bats",
    "baseball glove": "glove gloves mitt",
    "tennis racket": "racket rackets racquet racquets",
    "cup": "mug mugs",
    "knife": "knives",
    "hot dog": "hotdog hotdogs",
    "donut": "doughnut doughnuts",
    "couch": "sofa sofas",
    "potted plant": "plant plants",
    "dining table": "table tables",
    "tv": "television televisions",
    "mouse": "mice",
    "cell phone": "phone phones cellphone cellphones",
    "refrigerator": "fridge fridges",
    "teddy bear": "teddy",
}

LABEL_NAMES: dict[str, tuple[str, ...]] = {
    **{label: (label, plural(label), *names.split()) for label, names in _OTHER_NAMES.items()},
    "orange": ("oranges",),
}
"""Label → the words or phrases that name it in a caption. Other labels are named by themselves and their plural."""
