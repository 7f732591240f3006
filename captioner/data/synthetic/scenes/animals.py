"""Drawings of the animals, facing left; the brush flips them. Coordinates: see `world.KINDS`."""

from __future__ import annotations

from captioner.data.synthetic.scenes.brush import BEAK, INK, WHITE, Brush, mix


def cat(brush: Brush) -> None:
    """Sitting, seen from the front, the tail curled up beside it."""
    brush.stroke([(58, 92), (73, 86), (74, 68), (68, 58)], 7, smooth=True, edge=True)
    brush.blob([(40, 44), (54, 58), (62, 82), (58, 98), (40, 99), (22, 98), (18, 82), (26, 58)])
    brush.blob([(32, 60), (48, 60), (50, 80), (40, 92), (30, 80)], brush.light, edge=False)
    for x in (31, 49):
        brush.ellipse(x, 95, 8, 4.5)
    for side in (-1, 1):
        brush.polygon([(40 + 10 * side, 14), (40 + 27 * side, 1), (40 + 28 * side, 27)])
        brush.polygon([(40 + 15 * side, 14), (40 + 24 * side, 7), (40 + 25 * side, 20)], (240, 170, 170), edge=False)
    brush.ellipse(40, 30, 28, 22)
    for side in (-1, 1):
        brush.ellipse(40 + 12 * side, 27, 6, 6.5, (236, 230, 120))
        brush.ellipse(40 + 12 * side, 27, 2, 5.5, INK, edge=False)
        for rise in (-3, 0, 4):
            brush.stroke([(40 + 9 * side, 38 + rise * 0.3), (40 + 34 * side, 36 + rise)], 0.9, mix(INK, WHITE, 0.35))
    brush.ellipse(40, 39, 9, 6, brush.light, edge=False)
    brush.polygon([(36.5, 35), (43.5, 35), (40, 39)], (222, 110, 120), edge=False)
    brush.stroke([(34, 42), (37, 43.5), (40, 40), (43, 43.5), (46, 42)], 1.2, INK, smooth=True)


def dog(brush: Brush) -> None:
    """Standing, seen from the side, ears hanging, tongue out."""
    brush.stroke([(102, 41), (113, 31), (115, 15)], 7, smooth=True, edge=True)
    for x in (50, 94):
        brush.polygon([(x - 6, 57), (x + 6, 57), (x + 5, 88), (x - 6, 88)], brush.shade)
    brush.blob([(36, 37), (60, 34), (92, 33), (107, 43), (106, 59), (92, 66), (62, 64), (44, 67), (34, 53)])
    for x in (42, 101):
        brush.polygon([(x - 7, 53), (x + 7, 51), (x + 5, 85), (x - 6, 85)], edge=False)
        brush.stroke([(x - 7, 61), (x - 6, 83)], 1.3, brush.shade)
        brush.stroke([(x + 6, 63), (x + 5, 83)], 1.3, brush.shade)
        brush.ellipse(x - 3, 86, 9, 4.5)
    brush.ellipse(22, 40, 4.5, 7, (232, 96, 110), angle=10)
    brush.blob([(30, 3), (46, 5), (54, 19), (50, 37), (36, 41), (20, 37), (4, 35), (3, 25), (18, 19), (22, 9)])
    brush.ellipse(6, 26, 5.5, 4.5, INK, edge=False)
    brush.stroke([(8, 34), (18, 35), (26, 32)], 1.4, INK, smooth=True)
    brush.blob([(42, 3), (54, 7), (62, 25), (58, 41), (49, 39), (44, 23)], brush.shade)
    brush.ellipse(28, 15, 4.2, 4.6, WHITE)
    brush.dot(27, 15.5, 2.6)
    brush.stroke(
        [(40, 43), (50, 46), (58, 42)], 4, (200, 60, 50) if brush.color[0] < 190 else (50, 80, 170), smooth=True
    )


def flying_bird(brush: Brush) -> None:
    """Flying, wings up."""
    brush.blob([(60, 56), (66, 24), (90, 6), (98, 10), (92, 38), (80, 60)], brush.shade)
    brush.polygon([(84, 62), (114, 54), (110, 68), (115, 80), (84, 72)])
    brush.blob([(26, 48), (44, 46), (68, 52), (92, 64), (84, 76), (60, 84), (38, 78), (24, 64)])
    brush.blob([(30, 70), (50, 72), (70, 76), (56, 82), (40, 78)], brush.light, edge=False)
    brush.polygon([(12, 50), (1, 56), (13, 60)], BEAK)
    brush.ellipse(24, 53, 14, 13)
    brush.ellipse(20, 50, 4, 4.2, WHITE)
    brush.dot(19, 50, 2.4)
    brush.blob([(46, 58), (40, 28), (56, 8), (64, 7), (74, 30), (76, 56), (64, 66)])
    for x, y in ((56, 18), (63, 26), (68, 38)):
        brush.stroke([(x, y), (x - 4, y + 26)], 1.5, brush.shade)


def perched_bird(brush: Brush) -> None:
    """Sitting or standing, wings folded."""
    for x in (56, 68):
        brush.stroke([(x, 72), (x, 87)], 3, BEAK)
        brush.stroke([(x - 7, 88), (x + 6, 88)], 3, BEAK)
    brush.polygon([(84, 54), (114, 66), (112, 78), (80, 70)], brush.shade)
    brush.blob([(40, 34), (64, 32), (88, 46), (92, 62), (74, 76), (52, 77), (36, 66), (32, 48)])
    brush.blob([(36, 52), (46, 60), (60, 74), (50, 75), (38, 66)], brush.light, edge=False)
    brush.polygon([(22, 18), (3, 26), (22, 32)], BEAK)
    brush.ellipse(38, 25, 21, 21)
    brush.ellipse(31, 21, 5.4, 5.6, WHITE)
    brush.dot(30, 21, 3.2)
    brush.blob([(54, 44), (74, 42), (94, 58), (98, 66), (76, 68), (58, 60)], brush.shade)


def fish(brush: Brush) -> None:
    """Swimming, with a forked tail."""
    brush.polygon([(52, 16), (66, 3), (84, 12), (82, 24)], brush.shade)
    brush.polygon([(58, 58), (64, 71), (78, 62), (74, 54)], brush.shade)
    brush.blob([(86, 37), (102, 18), (118, 10), (110, 37), (118, 64), (102, 56)], brush.shade)
    brush.blob([(3, 40), (14, 24), (38, 12), (64, 14), (88, 28), (97, 37), (88, 46), (64, 60), (38, 62), (14, 52)])
    brush.stroke([(34, 16), (40, 37), (34, 58)], 2, brush.shade, smooth=True)
    brush.blob([(48, 38), (66, 34), (68, 46), (56, 50)], brush.light)
    brush.ellipse(20, 31, 6.4, 6.4, WHITE)
    brush.dot(19, 31, 3.6)
    brush.stroke([(4, 42), (12, 46), (18, 45)], 1.6, INK, smooth=True)


def horse(brush: Brush) -> None:
    """Standing, seen from the side."""
    mane = mix(brush.color, INK, 0.62) if sum(brush.color) > 200 else mix(brush.color, WHITE, 0.45)
    brush.blob([(116, 50), (128, 56), (134, 78), (130, 100), (122, 92), (120, 72)], mane)
    for x in (60, 102):
        brush.polygon([(x - 7, 74), (x + 7, 74), (x + 4, 110), (x + 4, 118), (x - 5, 118), (x - 4, 108)], brush.shade)
    brush.blob([(40, 48), (66, 46), (94, 43), (116, 48), (122, 64), (112, 80), (84, 82), (58, 82), (42, 72)])
    brush.polygon([(34, 16), (56, 26), (70, 50), (50, 74), (40, 58), (30, 38)], edge=False)
    brush.stroke([(31, 40), (40, 58), (44, 70)], 1.6, mix(brush.shade, INK, 0.35))
    for x, knee in ((50, 2), (112, 3)):
        brush.polygon([(x - 8, 68), (x + 8, 68), (x + 4 + knee, 92), (x + 4, 112), (x - 5, 112), (x - 4, 90)])
    for x in (50, 60, 102, 112):
        brush.polygon([(x - 5, 112), (x + 4, 112), (x + 6, 119), (x - 6, 119)], INK, edge=False)
    brush.blob([(34, 8), (44, 14), (42, 28), (30, 40), (16, 52), (6, 52), (4, 42), (14, 28), (24, 14)])
    brush.polygon([(32, 14), (34, 1), (42, 12)])
    brush.blob([(36, 6), (50, 12), (64, 30), (74, 48), (62, 46), (52, 34), (42, 20)], mane)
    brush.blob([(34, 8), (26, 14), (24, 24), (31, 18)], mane, edge=False)
    brush.dot(27, 25, 2.8)
    brush.dot(9, 45, 1.8)
    brush.stroke([(7, 50), (15, 48)], 1.4, INK)


def elephant(brush: Brush) -> None:
    """Standing, seen from the side, the trunk hanging."""
    brush.stroke([(130, 44), (137, 58), (136, 70)], 3, brush.shade, smooth=True)
    for x in (66, 102):
        brush.polygon([(x - 10, 66), (x + 10, 66), (x + 9, 101), (x - 10, 101)], brush.shade)
    brush.blob([(46, 24), (66, 12), (96, 12), (122, 26), (132, 48), (128, 70), (106, 78), (72, 78), (50, 72), (40, 48)])
    for x in (56, 117):
        brush.polygon([(x - 12, 60), (x + 11, 60), (x + 10, 100), (x - 11, 100)], edge=False)
        brush.stroke([(x - 12, 72), (x - 11, 100), (x + 10, 100), (x + 11, 72)], 1.6, mix(brush.shade, INK, 0.3))
        for toe in (-7, 0, 7):
            brush.ellipse(x + toe, 99, 3, 2.4, WHITE, edge=False)
    brush.blob(
        [
            *((36, 6), (54, 14), (58, 36), (46, 52), (28, 54), (21, 70), (19, 86)),
            *((22, 97), (12, 98), (7, 84), (9, 62), (11, 40), (16, 16)),
        ]
    )
    brush.blob([(22, 54), (16, 60), (8, 72), (2, 72), (8, 58), (18, 48)], WHITE)
    brush.blob([(44, 8), (64, 10), (76, 30), (70, 54), (58, 58), (46, 44), (40, 26)], brush.light)
    brush.dot(26, 28, 3)
    for y in (64, 73, 82):
        brush.stroke([(10, y), (19, y - 1)], 1.2, brush.shade)


def butterfly(brush: Brush) -> None:
    """Wings spread, seen from above."""
    for side in (-1, 1):
        brush.blob([(55 + x * side, y) for x, y in ((3, 44), (14, 16), (36, 3), (52, 8), (50, 30), (36, 46), (16, 50))])
        brush.blob([(55 + x * side, y) for x, y in ((3, 50), (22, 50), (40, 58), (40, 76), (26, 87), (12, 74))])
        brush.ellipse(55 + 36 * side, 22, 8, 9, brush.light)
        brush.ellipse(55 + 26 * side, 68, 7, 7, brush.light)
        brush.stroke([(55 + 2 * side, 28), (55 + 8 * side, 12), (55 + 14 * side, 6)], 1.6, INK, smooth=True)
    brush.ellipse(55, 52, 4.2, 25, INK, edge=False)
    brush.ellipse(55, 26, 5.2, 5.2, INK, edge=False)


def duck(brush: Brush) -> None:
    """Sitting on the ground or the water."""
    brush.blob([(40, 50), (64, 54), (92, 54), (110, 42), (108, 66), (94, 88), (66, 95), (40, 93), (26, 78), (28, 60)])
    brush.blob([(36, 28), (50, 30), (54, 54), (44, 70), (30, 66), (26, 48)], edge=False)
    brush.ellipse(36, 24, 21, 20)
    brush.blob([(18, 24), (6, 25), (1, 31), (8, 36), (20, 34)], BEAK)
    brush.blob([(52, 62), (74, 58), (96, 62), (88, 78), (68, 84), (54, 76)], brush.shade)
    brush.ellipse(30, 18, 5, 5.4, WHITE)
    brush.dot(29, 18.5, 3)


def rabbit(brush: Brush) -> None:
    """Sitting, seen from the side, ears up."""
    brush.ellipse(93, 86, 11, 11, WHITE)
    brush.blob([(44, 60), (60, 50), (82, 54), (96, 72), (96, 94), (84, 105), (50, 106), (38, 98), (36, 76)])
    brush.blob([(66, 76), (82, 72), (92, 84), (88, 102), (70, 106), (60, 96)], brush.shade)
    brush.ellipse(72, 104, 15, 5)
    brush.stroke([(42, 80), (40, 103)], 9, edge=True)
    brush.ellipse(35, 104, 9, 4.6)
    for x, lean in ((44, 14), (32, 2)):
        brush.ellipse(x + lean / 2, 23, 7.5, 21, angle=lean)
        brush.ellipse(x + lean / 2, 24, 3.6, 15, (240, 172, 176), angle=lean, edge=False)
    brush.ellipse(32, 52, 24, 20)
    brush.ellipse(16, 58, 9, 7, brush.light, edge=False)
    brush.ellipse(9, 53, 3.6, 3, (226, 108, 122), edge=False)
    brush.ellipse(26, 47, 4.6, 5.2, WHITE)
    brush.dot(25.4, 47.4, 3)
    for y in (56, 60, 64):
        brush.stroke([(14, 58), (0, y)], 0.9, mix(INK, WHITE, 0.35))
    brush.stroke([(12, 61), (18, 65), (24, 63)], 1.3, INK, smooth=True)


def turtle(brush: Brush) -> None:
    """Walking, seen from the side: a domed shell of the color on a greenish body."""
    skin = (150, 178, 96) if brush.color[1] > 120 or brush.color[0] > 120 else (206, 196, 120)
    brush.polygon([(112, 66), (127, 72), (110, 74)], skin)
    for x in (46, 100):
        brush.blob([(x - 11, 62), (x + 9, 60), (x + 11, 82), (x + 4, 88), (x - 9, 88), (x - 13, 80)], skin)
    brush.blob([(40, 56), (28, 50), (24, 40), (12, 34), (3, 42), (5, 54), (16, 60), (26, 70), (42, 74)], skin)
    brush.blob([(30, 66), (36, 36), (56, 12), (76, 5), (98, 14), (114, 38), (119, 66), (96, 73), (56, 73)])
    brush.stroke([(31, 65), (56, 71), (96, 71), (118, 65)], 5, brush.shade, smooth=True)
    plates = [(62, 26), (78, 18), (92, 28), (92, 48), (76, 56), (60, 48)]
    brush.polygon(plates, brush.light)
    for start, end in zip(plates, [(46, 30), (77, 6), (108, 30), (112, 58), (76, 70), (40, 58)], strict=True):
        brush.stroke([start, end], 2, brush.shade)
    brush.ellipse(13, 43, 3.6, 3.8, WHITE)
    brush.dot(12.6, 43, 2.2)
    brush.stroke([(5, 52), (11, 53), (16, 51)], 1.3, INK, smooth=True)
