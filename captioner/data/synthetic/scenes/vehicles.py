"""Drawings of the vehicles, facing left; the brush flips them. Coordinates: see `world.KINDS`."""

from __future__ import annotations

from captioner.data.synthetic.scenes.brush import GLASS, INK, METAL, TYRE, WHITE, WOOD, Brush, mix


def _wheel(brush: Brush, x: float, y: float, radius: float) -> None:
    brush.ellipse(x, y, radius, radius, TYRE, edge=False)
    brush.ellipse(x, y, radius * 0.56, radius * 0.56, METAL, edge=False)
    brush.dot(x, y, radius * 0.18)


def car(brush: Brush) -> None:
    """A saloon, seen from the side."""
    brush.blob([(36, 30), (50, 6), (70, 2), (98, 3), (112, 10), (130, 32), (120, 40), (44, 40)])
    brush.polygon([(47, 28), (57, 10), (78, 8), (78, 28)], GLASS)
    brush.polygon([(84, 8), (100, 9), (110, 16), (118, 28), (84, 28)], GLASS)
    brush.blob([(4, 34), (30, 28), (76, 27), (128, 28), (146, 34), (149, 48), (142, 56), (76, 57), (8, 56), (1, 48)])
    brush.stroke([(81, 28), (81, 54)], 1.5, brush.shade)
    brush.stroke([(88, 35), (96, 35)], 2.4, METAL)
    brush.stroke([(5, 48), (145, 48)], 2, brush.shade)
    brush.ellipse(8, 39, 6, 4.4, (255, 244, 180))
    brush.ellipse(145, 39, 3.4, 4.4, (210, 50, 50))
    for x in (34, 116):
        brush.ellipse(x, 51, 17, 15, mix(brush.shade, INK, 0.55), edge=False)
        _wheel(brush, x, 52, 13.5)


def bus(brush: Brush) -> None:
    """A city bus with a row of windows."""
    brush.blob(
        [
            *((2, 20), (6, 4), (30, 1), (80, 1), (130, 1), (154, 4), (158, 20)),
            *((159, 50), (157, 72), (130, 75), (80, 75), (30, 75), (4, 73), (1, 50)),
        ]
    )
    brush.polygon([(4, 14), (20, 12), (20, 44), (3, 44)], GLASS)
    for index in range(4):
        left = 52 + index * 26
        brush.polygon([(left, 12), (left + 21, 12), (left + 21, 36), (left, 36)], GLASS)
        brush.stroke([(left + 4, 32), (left + 13, 15)], 1.6, WHITE)
    brush.polygon([(26, 12), (46, 12), (46, 70), (26, 70)], mix(GLASS, METAL, 0.4))
    brush.stroke([(36, 12), (36, 70)], 1.6, INK)
    brush.stroke([(50, 46), (156, 46)], 3.2, brush.light)
    brush.ellipse(7, 62, 4, 4.6, (255, 244, 180))
    brush.ellipse(155, 60, 2.4, 5, (210, 50, 50))
    for x in (38, 122):
        brush.ellipse(x, 70, 16, 14, mix(brush.shade, INK, 0.55), edge=False)
        _wheel(brush, x, 72, 13)


def boat(brush: Brush) -> None:
    """A sailing boat: the hull has the color, and a stripe of it on the sail."""
    brush.stroke([(58, 4), (58, 90)], 4, WOOD)
    brush.polygon([(53, 8), (53, 82), (8, 82)], WHITE)
    brush.polygon([(53, 44), (53, 58), (23, 58), (31, 44)], brush.color, edge=False)
    brush.polygon([(64, 16), (64, 82), (106, 82)], mix(WHITE, brush.color, 0.22))
    brush.polygon([(58, 2), (58, 14), (82, 8)], brush.color)
    brush.blob(
        [(2, 90), (30, 92), (60, 93), (90, 92), (118, 88), (108, 108), (92, 121), (60, 123), (30, 121), (12, 108)]
    )
    brush.stroke([(8, 97), (112, 96)], 3, WHITE)
    for x in (38, 60, 82):
        brush.ellipse(x, 108, 4.4, 4.4, GLASS)


def bicycle(brush: Brush) -> None:
    """Seen from the side: two wheels, a colored frame."""
    for x in (30, 114):
        brush.ring(x, 62, 27, 5, TYRE)
        brush.ring(x, 62, 23.5, 1.6, METAL)
        for dx, dy in ((23, 0), (16, 16), (0, 23), (-16, 16)):
            brush.stroke([(x - dx, 62 - dy), (x + dx, 62 + dy)], 0.9, METAL)
    rear, crank, front, saddle, head = (114, 62), (76, 66), (30, 62), (86, 24), (44, 22)
    for path in ((rear, crank, saddle, rear), (crank, head, saddle), (head, front)):
        brush.stroke(path, 5.6, edge=True)
    for path in ((rear, crank, saddle, rear), (crank, head, saddle), (head, front)):
        brush.stroke(path, 5.6)
    brush.stroke([(86, 24), (89, 12)], 4, METAL)
    brush.blob([(76, 8), (92, 6), (104, 8), (98, 14), (82, 13)], INK)
    brush.stroke([(44, 22), (41, 8)], 4, METAL)
    brush.stroke([(52, 6), (40, 7), (30, 13)], 4.4, INK, smooth=True)
    brush.ring(76, 66, 9, 2.6, METAL)
    brush.stroke([(76, 66), (69, 82)], 2.6, METAL)
    brush.stroke([(64, 83), (75, 83)], 3.4, INK)


def plane(brush: Brush) -> None:
    """An airliner, seen from the side."""
    brush.polygon([(126, 32), (142, 3), (156, 3), (152, 34)])
    brush.polygon([(74, 34), (96, 8), (106, 8), (96, 36)], brush.shade)
    brush.blob(
        [
            *((2, 40), (12, 30), (36, 25), (80, 24), (124, 26), (150, 30)),
            *((158, 34), (140, 44), (110, 51), (60, 54), (24, 52), (6, 47)),
        ]
    )
    brush.blob([(10, 46), (60, 48), (112, 45), (104, 52), (60, 54), (24, 52)], WHITE, edge=False)
    brush.polygon([(10, 36), (20, 31), (28, 31), (27, 37)], GLASS)
    for x in range(40, 124, 11):
        brush.ellipse(x, 36, 2.9, 3.4, GLASS)
    brush.polygon([(136, 36), (152, 38), (157, 46), (148, 46)], brush.shade)
    brush.polygon([(62, 44), (90, 44), (124, 71), (110, 72)], brush.shade)
    brush.ellipse(76, 62, 10, 5, METAL)


def train(brush: Brush) -> None:
    """A steam locomotive with a cab."""
    for x, y, radius in ((52, 9, 8), (68, 7, 7), (82, 8, 5)):
        brush.ellipse(x, y, radius, radius * 0.8, (232, 234, 238), edge=False)
    brush.polygon([(28, 20), (44, 20), (40, 26), (40, 44), (32, 44), (32, 26)], mix(brush.shade, INK, 0.5))
    brush.polygon([(100, 20), (156, 20), (156, 82), (100, 82)])
    brush.polygon([(95, 14), (160, 14), (160, 22), (95, 22)], brush.shade)
    brush.polygon([(108, 30), (126, 30), (126, 50), (108, 50)], GLASS)
    brush.polygon([(132, 30), (149, 30), (149, 50), (132, 50)], GLASS)
    brush.blob([(60, 42), (68, 30), (80, 42), (80, 48), (60, 48)], (222, 184, 72))
    brush.polygon([(16, 42), (102, 42), (102, 78), (16, 78)])
    brush.ellipse(17, 60, 6, 18, mix(brush.shade, INK, 0.4))
    for x in (40, 66, 92):
        brush.stroke([(x, 43), (x, 77)], 2.4, (222, 184, 72))
    brush.polygon([(8, 76), (158, 76), (158, 84), (8, 84)], mix(brush.shade, INK, 0.55))
    brush.polygon([(10, 80), (24, 80), (18, 98), (1, 98)], (190, 60, 50) if brush.color[0] < 190 else METAL)
    for x, radius in ((38, 11), (64, 11), (94, 16), (134, 16)):
        _wheel(brush, x, 99 - radius, radius)
    brush.stroke([(38, 88), (94, 84), (134, 84)], 3, METAL)
