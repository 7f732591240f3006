"""The official Java tokenizer, an alternative to its Python version in `captioner.text.ptb`.

The jar is part of pycocoevalcap. Its own wrapper writes into site-packages, and assigns tokens to the wrong captions if
one contains a character that Java reads as a line break. Therefore this module calls the jar.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.text.ptb import LINE_BREAKS, PUNCTUATION

JAR_VERSION = "3.4.1"


def find_jar() -> Path:
    """CoreNLP's jar inside the installed pycocoevalcap. CaptionerError, with what to install, where there is none."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        jar = Path(folder) / "tokenizer" / f"stanford-corenlp-{JAR_VERSION}.jar"
        if jar.is_file():
            return jar
    raise CaptionerError(
        "tokenizer.backend=java needs the jar that comes with pycocoevalcap, which is not installed. "
        "Install it: pip install 'captioner[meteor]'. Or use tokenizer.backend=python, which gives the same tokens."
    )


def find_java() -> str:
    """The `java` program. CaptionerError, with what to install, where there is none."""
    java = shutil.which("java")
    if java is None:
        raise CaptionerError(
            "tokenizer.backend=java needs a Java runtime, and there is no `java` on the PATH. Install one (for example "
            "apt install default-jre, or conda install openjdk), or use tokenizer.backend=python, which gives the same "
            "tokens."
        )
    return java


def java_ptb_tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    """The tokens of each caption, in lower case, without COCO's punctuation.

    Java runs once, with one caption per line, as in pycocoevalcap. Nothing is written to disk. CaptionerError where
    Java fails.
    """
    if not captions:
        return []
    command = [find_java(), "-cp", str(find_jar()), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "utf-8"]
    text = "".join(LINE_BREAKS.sub(" ", caption) + "\n" for caption in captions)
    done = subprocess.run(command, input=text.encode("utf-8", "surrogatepass"), capture_output=True, check=False)
    if done.returncode != 0:
        raise CaptionerError(f"The Java tokenizer failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    lines = done.stdout.decode("utf-8").replace("\r\n", "\n").split("\n")[:-1]
    if len(lines) != len(captions):
        raise CaptionerError(f"The Java tokenizer gave {len(lines)} lines for {len(captions)} captions.")
    return [[token for token in line.split(" ") if token and token not in PUNCTUATION] for line in lines]
