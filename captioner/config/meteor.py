"""How METEOR is computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import check_choices


@dataclass
class MeteorConfig:
    """Which program computes the metric METEOR. Both give the same scores."""

    choices: ClassVar[dict[str, Iterable[str]]] = {"backend": ("auto", "python", "java")}

    backend: str = "auto"  # auto or python: captioner's own code; java: the official jar, in a Java process

    def __post_init__(self) -> None:
        check_choices("meteor", self)
