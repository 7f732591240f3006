"""SPICE, if its programs are installed; otherwise an error that names the missing ones.

SPICE compares scene graphs that the Stanford parser makes of the captions (Anderson et al. 2016).
pycocoevalcap contains the scorer, but not the parser and its models (half a gigabyte), which have to
be downloaded once into its folder.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from captioner.metrics.java import MetricUnavailable, find_in_pycocoevalcap, find_java
from captioner.metrics.metric import Metric, MetricResult
from captioner.metrics.ngrams import Floats

JAR = "spice/spice-1.0.jar"
PARSER_JARS = ("spice/lib/stanford-corenlp-3.6.0.jar", "spice/lib/stanford-corenlp-3.6.0-models.jar")
MEMORY = "8G"


def spice(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(I,): SPICE's F-score of each image; the corpus value is the mean. Captions are tokens joined by spaces.

    Raises MetricUnavailable if a program is missing or fails.
    """
    java, jar = _find_programs()
    with tempfile.TemporaryDirectory() as folder:
        captions, results = Path(folder, "captions.json"), Path(folder, "results.json")
        captions.write_text(
            json.dumps(
                [
                    {"image_id": index, "test": hypothesis, "refs": list(of_image)}
                    for index, (hypothesis, of_image) in enumerate(zip(hypotheses, references, strict=True))
                ]
            ),
            encoding="utf-8",
        )
        command = [java, f"-Xmx{MEMORY}", "-Dfile.encoding=UTF-8", "-jar", str(jar), str(captions)]
        command += ["-out", str(results), "-silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        if done.returncode != 0 or not results.is_file():
            output = done.stderr.decode("utf-8", "replace").strip()
            raise MetricUnavailable(f"SPICE's Java program failed: {output[-300:] or 'without output'}")
        of_images = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(results.read_text("utf-8"))}
    # The program gives null for a caption without a scene graph; the official evaluation reads it as NaN.
    return np.array([of_images[index] for index in range(len(hypotheses))], dtype=np.float64)


def _find_programs() -> tuple[str, Path]:
    """The Java program and SPICE's jar. Raises MetricUnavailable if either, or the parser, is missing."""
    java, jar = find_java("SPICE"), find_in_pycocoevalcap("SPICE", JAR)
    missing = [name for name in PARSER_JARS if not (jar.parents[1] / name).is_file()]
    if missing:
        names = " and ".join(Path(name).name for name in missing)
        raise MetricUnavailable(
            f"SPICE needs Stanford CoreNLP 3.6.0; {jar.parent / 'lib'} lacks {names}. "
            "To download them (half a gigabyte): python -m pycocoevalcap.spice.get_stanford_models. "
            "captioner has not been tested with them."
        )
    return java, jar


METRIC = Metric(
    lambda captions: MetricResult(
        {"SPICE": spice(captions.hypothesis_texts, captions.reference_texts)},
        signature={"program": Path(JAR).name, "adapter": "untested with the real program"},
    ),
    scores=("SPICE",),
    check=_find_programs,
)
