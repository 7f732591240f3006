"""TensorBoard event files, one per session of the run, in `tensorboard/` of the run folder.

They are written here rather than by torch's SummaryWriter for two reasons. SummaryWriter names files by the clock, and
TensorBoard reads them in the order of their names; here the name counts the sessions, so a clock that was set back has
no effect. And SummaryWriter writes from a thread; here every value is in the file when the call returns, so that the
size of the file at a checkpoint covers all that was logged before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from captioner.errors import ConfigError

FOLDER = "tensorboard"


class TensorBoardLog:
    """Writes scalars, texts and images by step.

    step: the step of a resumed run; an open TensorBoard then discards later steps, which are trained again.
    """

    def __init__(self, run_folder: Path, step: int | None = None) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ConfigError(
                "trainer.tensorboard=true needs TensorBoard: pip install 'captioner[tensorboard]', or leave it false."
            ) from error
        self._event = Event
        folder = run_folder / FOLDER
        folder.mkdir(exist_ok=True)
        numbers = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
        session = 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)
        path = folder / f"events.out.tfevents.{session:06d}"
        self._writer = RecordWriter(path.open("xb"))
        self._write(file_version="brain.Event:2")
        if step is not None:
            self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Every number among `values` as the scalar kind/name."""
        from torch.utils.tensorboard.summary import scalar

        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._write(step=step, summary=scalar(f"{kind}/{name}", value))  # type: ignore[no-untyped-call]

    def text(self, tag: str, step: int, markdown: str) -> None:
        """A text, formatted as Markdown."""
        from torch.utils.tensorboard.summary import text

        self._write(step=step, summary=text(tag, markdown))  # type: ignore[no-untyped-call]

    def image(self, tag: str, step: int, pixels: Tensor) -> None:
        """An image (H, W, 3), uint8."""
        from torch.utils.tensorboard.summary import image

        self._write(step=step, summary=image(tag, pixels.numpy(), dataformats="HWC"))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the session's file."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._writer.flush()
