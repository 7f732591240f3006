"""Drawings of the other objects. Coordinates: see `world.KINDS`."""

from __future__ import annotations

import math

from captioner.data.synthetic.scenes.brush import INK, METAL, WHITE, WOOD, Brush, mix


def ball(brush: Brush) -> None:
    """With panels like a beach ball when plain."""
    brush.ellipse(50, 50, 48, 48)
    for bow in (-26, 26):
        brush.stroke([(50, 3), (50 + bow, 28), (50 + bow, 72), (50, 97)], 2.2, brush.shade, smooth=True)
    brush.ellipse(50, 5, 9, 3.4, brush.light, edge=False)
    brush.ellipse(31, 26, 9, 6, mix(brush.light, WHITE, 0.5), angle=-40, edge=False)


def tree(brush: Brush) -> None:
    """A broad crown on a trunk."""
    brush.polygon([(41, 70), (55, 70), (56, 110), (64, 128), (32, 128), (40, 110)], WOOD)
    brush.stroke([(48, 92), (64, 72)], 5, WOOD)
    crown = [(10, 62), (3, 46), (14, 30), (24, 14), (46, 3), (68, 8), (84, 24), (93, 44), (86, 64), (68, 76)]
    brush.blob([*crown, (48, 82), (26, 76)])
    for x, y, radius in ((30, 30, 11), (58, 22, 12), (72, 46, 11), (42, 54, 12)):
        brush.ellipse(x, y, radius, radius * 0.8, brush.light, edge=False)
        brush.ellipse(x + 2, y + 3, radius, radius * 0.8, edge=False)
    for x, y in ((22, 50), (60, 66), (78, 34)):
        brush.stroke([(x - 7, y), (x, y + 5), (x + 7, y)], 2, brush.shade, smooth=True)


def house(brush: Brush) -> None:
    """Walls of the color, a dark roof, a door and two windows."""
    roof = mix(brush.color, INK, 0.62) if sum(brush.color) > 260 else mix(brush.color, WHITE, 0.4)
    brush.polygon([(88, 10), (102, 10), (102, 40), (88, 28)], mix(roof, INK, 0.25))
    brush.polygon([(12, 50), (112, 50), (112, 118), (12, 118)])
    brush.polygon([(62, 3), (121, 54), (3, 54)], roof)
    for y in (24, 38):
        brush.stroke([(62 - (y - 8) * 1.1, y), (62 + (y - 8) * 1.1, y)], 1.2, mix(roof, WHITE, 0.2))
    brush.polygon([(52, 76), (74, 76), (74, 118), (52, 118)], mix(WOOD, INK, 0.15))
    brush.dot(69, 98, 2.2, (240, 210, 90))
    for left in (20, 82):
        brush.polygon([(left, 68), (left + 22, 68), (left + 22, 92), (left, 92)], (206, 234, 246))
        brush.stroke([(left + 11, 68), (left + 11, 92)], 1.8, WHITE)
        brush.stroke([(left, 80), (left + 22, 80)], 1.8, WHITE)
        brush.stroke([(left - 2, 93), (left + 24, 93)], 2.6, WHITE)


def umbrella(brush: Brush) -> None:
    """Open, its pole on the ground, the handle bent."""
    brush.stroke([(62, 6), (62, 106), (60, 115), (52, 115.5), (46, 109)], 4.4, WOOD, smooth=True, edge=True)
    brush.stroke([(62, 1), (62, 10)], 3, METAL)
    canopy = [(2, 58), (5, 40), (20, 20), (42, 8), (62, 6), (82, 8), (104, 20), (119, 40), (122, 58)]
    rim = [(x, 58 - 8 * abs(math.sin(math.pi * (x - 2) / 30))) for x in range(120, 2, -2)]
    brush.polygon([*canopy, *rim])
    for x in (32, 62, 92):
        brush.stroke([(62, 6), (62 + (x - 62) * 0.72, 28), (x, 56)], 1.7, brush.shade, smooth=True)


def balloon(brush: Brush) -> None:
    """A toy balloon on a string."""
    brush.stroke([(33, 82), (38, 96), (28, 110), (34, 128)], 1.5, mix(INK, WHITE, 0.35), smooth=True)
    brush.polygon([(33, 74), (40, 84), (26, 84)], brush.shade)
    brush.blob([(33, 2), (54, 10), (64, 34), (56, 60), (33, 79), (10, 60), (2, 34), (12, 10)])
    brush.ellipse(20, 24, 5, 11, mix(brush.light, WHITE, 0.45), angle=20, edge=False)


def cup(brush: Brush) -> None:
    """A mug with a handle and some steam."""
    for x in (34, 50):
        brush.stroke([(x, 16), (x + 5, 11), (x - 2, 6), (x + 3, 1)], 2.2, (226, 230, 234), smooth=True)
    brush.ring(80, 52, 16, 7.4, brush.shade)
    brush.blob(
        [(6, 24), (10, 24), (42, 26), (76, 24), (80, 24), (79, 54), (72, 84), (58, 88), (28, 88), (14, 84), (7, 54)]
    )
    brush.ellipse(43, 24, 37, 7.4, brush.light)
    brush.ellipse(43, 25.5, 31, 4.8, (92, 58, 36), edge=False)


def flower(brush: Brush) -> None:
    """Eight petals on a stem with two leaves."""
    leaf = (62, 146, 64)
    brush.stroke([(38, 44), (37, 84), (38, 120)], 4.4, leaf, smooth=True, edge=True)
    brush.blob([(38, 104), (24, 100), (8, 82), (26, 84), (36, 94)], leaf)
    brush.blob([(38, 98), (52, 94), (68, 76), (50, 78), (40, 88)], leaf)
    for petal in range(8):
        turn = math.pi * petal / 4
        brush.ellipse(38 + 22 * math.cos(turn), 38 + 22 * math.sin(turn), 14.5, 9.5, angle=45 * petal)
    center = (250, 206, 60) if brush.color[1] < 190 or brush.color[2] > 120 else (150, 92, 40)
    brush.ellipse(38, 38, 12, 12, center)


def chair(brush: Brush) -> None:
    """A wooden chair, seen from the front and a little from the side."""
    for x in (28, 68):
        brush.stroke([(x, 62), (x, 104)], 5, brush.shade, edge=True)
    for x in (22, 66):
        brush.stroke([(x, 5), (x, 58)], 5.4, edge=True)
    for y in (8, 23, 38):
        brush.polygon([(22, y), (66, y), (66, y + 9), (22, y + 9)])
    brush.polygon([(22, 56), (70, 56), (64, 74), (4, 74)])
    brush.polygon([(4, 74), (64, 74), (64, 81), (4, 81)], brush.shade)
    brush.polygon([(64, 74), (70, 56), (70, 63), (64, 81)], brush.shade)
    for x in (9, 59):
        brush.stroke([(x, 82), (x, 112)], 6, edge=True)


def table(brush: Brush) -> None:
    """A wooden table with four legs."""
    for x in (28, 116):
        brush.polygon([(x - 4, 18), (x + 4, 18), (x + 3, 70), (x - 3, 70)], brush.shade)
    for x in (12, 132):
        brush.polygon([(x - 6, 18), (x + 6, 18), (x + 4, 83), (x - 4, 83)])
    brush.polygon([(8, 18), (136, 18), (134, 27), (10, 27)], brush.shade)
    brush.polygon([(16, 2), (128, 2), (143, 13), (1, 13)])
    brush.polygon([(1, 13), (143, 13), (143, 20), (1, 20)], brush.light)


def kite(brush: Brush) -> None:
    """A diamond with a tail of bows."""
    brush.stroke([(42, 88), (34, 104), (48, 118), (40, 138)], 2, mix(INK, WHITE, 0.3), smooth=True)
    for x, y in ((37, 100), (44, 115), (42, 130)):
        brush.polygon([(x - 8, y - 4), (x - 8, y + 4), (x, y), (x + 8, y + 4), (x + 8, y - 4), (x, y)], brush.light)
    brush.polygon([(42, 2), (82, 38), (42, 90), (2, 38)])
    brush.polygon([(42, 2), (82, 38), (42, 38)], brush.light)
    brush.polygon([(42, 90), (2, 38), (42, 38)], brush.shade)
    brush.stroke([(42, 3), (42, 89)], 2.2, WOOD)
    brush.stroke([(3, 38), (81, 38)], 2.2, WOOD)


def apple(brush: Brush) -> None:
    """With a stalk and a leaf."""
    brush.stroke([(48, 24), (50, 13), (55, 6)], 4, WOOD, smooth=True, edge=True)
    brush.blob([(54, 15), (64, 6), (80, 6), (74, 17), (62, 21)], (88, 166, 70))
    brush.blob(
        [
            *((48, 24), (62, 18), (82, 24), (93, 44), (88, 72), (70, 96)),
            *((48, 93), (26, 96), (8, 72), (3, 44), (14, 24), (34, 18)),
        ]
    )
    brush.blob([(36, 25), (48, 29), (60, 25), (48, 24)], brush.shade, edge=False)
    brush.ellipse(24, 44, 6.5, 13, mix(brush.light, WHITE, 0.45), angle=18, edge=False)


def mushroom(brush: Brush) -> None:
    """A cap of the color on a pale stem."""
    pale = (244, 234, 214)
    brush.blob([(38, 52), (64, 52), (66, 76), (72, 98), (52, 103), (30, 98), (36, 76)], pale)
    brush.ellipse(51, 55, 40, 9, mix(pale, WOOD, 0.3))
    brush.blob([(2, 52), (8, 28), (28, 8), (51, 2), (74, 8), (94, 28), (100, 52), (80, 58), (51, 55), (22, 58)])
    brush.ellipse(32, 22, 12, 6, mix(brush.light, WHITE, 0.3), angle=-30, edge=False)
