"""METEOR 1.5, computed by its official program: the jar that comes with pycocoevalcap.

Words are aligned with a reference exactly, by stem, by synonym and by paraphrase; the score is an
F-mean of weighted precision P and recall R, lowered by how scattered the alignment is (Denkowski and
Lavie 2014, section 2):

    METEOR = (1 - gamma (chunks / matches)^beta) · P R / (alpha P + (1 - alpha) R)

The jar reports 23 sums for each image, and the corpus value is this formula on their totals, not the
mean of the images' values. `nltk.meteor` is another algorithm with other values.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from captioner.metrics.java import MetricUnavailable, find_in_pycocoevalcap, find_java
from captioner.metrics.meteor.normalizer import clean
from captioner.metrics.meteor.resources import JAR
from captioner.metrics.meteor.statistics import addable
from captioner.metrics.ngrams import Floats

MEMORY = "2G"  # limit for Java, which uses about 1 GiB for the paraphrase table
SECONDS_TO_EXIT = 5.0


class MeteorJar:
    """A running METEOR process. It takes seconds to start, so reuse it; call `close`, or use it in a `with`.

    Raises MetricUnavailable if Java or the jar is missing, or if the process fails. Calls from several threads
    are serialized.
    """

    def __init__(self) -> None:
        command = [find_java("METEOR"), f"-Xmx{MEMORY}", "-Dfile.encoding=UTF-8"]
        command += ["-jar", str(find_in_pycocoevalcap("METEOR", JAR)), "-", "-", "-stdio", "-l", "en", "-norm"]
        self._lock = threading.Lock()
        # An anonymous file: a pipe that is not read would block Java once it is full.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._process = subprocess.Popen(
            command,
            cwd=tempfile.gettempdir(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            errors="replace",
        )
        assert self._process.stdin is not None  # it is a pipe, as asked for above
        assert self._process.stdout is not None
        self._to_java, self._from_java = self._process.stdin, self._process.stdout

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """(I, 23): the statistics of each image. Captions are tokens joined by spaces; references: (I,) lists."""
        with self._lock:
            lines = [
                self._ask(" ||| ".join(["SCORE", *map(clean, captions), clean(hypothesis)]), answers=1)[0]
                for hypothesis, captions in zip(hypotheses, references, strict=True)
            ]
        return np.array([line.split() for line in lines], dtype=np.float64)

    def evaluate(self, statistics: Floats) -> tuple[Floats, float]:
        """(I,) the scores of the rows of `statistics`, and the corpus score of all of them."""
        rows = [" ".join(map(repr, row)) for row in statistics.tolist()]
        with self._lock:
            *scores, corpus = map(float, self._ask(" ||| ".join(["EVAL", *rows]), answers=len(rows) + 1))
        return np.array(scores), corpus

    def evaluate_totals(self, statistics: Floats, weights: Floats) -> Floats:
        """(S,) corpus scores of S bootstrap samples; weights: (S, I) how often each sample contains each image."""
        return self.evaluate(weights @ addable(statistics))[0]

    @property
    def process_id(self) -> int:
        """The number that the operating system gave the Java process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process: it exits when its input is closed, and is killed if it does not."""
        with contextlib.suppress(BrokenPipeError):
            self._to_java.close()
        try:
            self._process.wait(timeout=SECONDS_TO_EXIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from_java.close()
        self._errors.close()

    def __enter__(self) -> MeteorJar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, line: str, answers: int) -> list[str]:
        try:
            self._to_java.write(line + "\n")
            self._to_java.flush()
            replies = [self._from_java.readline() for _ in range(answers)]
        except BrokenPipeError:
            replies = [""]
        except BaseException:  # interrupted between request and reply: the next reply would be the wrong one
            self._process.kill()
            raise
        if not all(replies):
            self._errors.seek(0)
            output = self._errors.read().decode("utf-8", "replace").strip()
            raise MetricUnavailable(f"METEOR's Java process ended unexpectedly: {output[-300:] or 'without output'}")
        return replies


_shared: tuple[int, MeteorJar] | None = None


def shared_jar() -> MeteorJar:
    """The METEOR process shared by all scoring in this Python process: started on first use, closed at exit."""
    global _shared
    # A forked child must not use its parent's pipes.
    if _shared is None or _shared[0] != os.getpid() or not _shared[1].is_running:
        meteor = MeteorJar()
        atexit.register(meteor.close)
        _shared = os.getpid(), meteor
    return _shared[1]
