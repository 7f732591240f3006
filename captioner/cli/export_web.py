"""`python -m captioner export --web DIR`: a captioner as a folder of static files, which caption in the browser."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.onnx.description import DESCRIPTION_FILE
from captioner.checkpoint.pretrained import pretrained_names
from captioner.cli.export_onnx import checked_photos, write_checked
from captioner.errors import CheckpointError


def export_web(arguments: argparse.Namespace) -> None:
    """Write the page that the flags of `captioner export` ask for.

    ONNX files that the checkpoint has are used, which needs no torch; others are exported first.
    """
    photos = checked_photos(arguments)
    target: Path = arguments.web
    checkpoint = find_checkpoint(Path(arguments.checkpoint), "latest" if arguments.latest else "best")
    given = Path(arguments.checkpoint)
    name = arguments.name or (str(given) if str(given) in pretrained_names() else given.absolute().name)

    from captioner.demo.web.onnxruntime_web import find_runtime
    from captioner.demo.web.site import is_site, write_site
    from captioner.files import replacing_folder, restore_replaced

    restore_replaced(target)
    if not target.absolute().parent.is_dir():
        raise CheckpointError(f"{target} cannot be created: the folder {target.absolute().parent} does not exist.")
    if target.exists() and not arguments.replace:
        raise CheckpointError(f"{target} exists already: give another folder, or --replace for an older export.")
    if target.exists() and not is_site(target):
        raise CheckpointError(f"{target} is not a folder that --web wrote: not replaced.")
    runtime = find_runtime(arguments.onnxruntime_web)
    with ExitStack() as stack:
        source = checkpoint
        as_it_is = arguments.precision is None and arguments.average is None
        if not as_it_is or not (checkpoint / DESCRIPTION_FILE).is_file():
            source = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_checked(arguments, photos, source)
        written = write_site(source, stack.enter_context(replacing_folder(target)), name, runtime)
    for note in written.notes:
        sys.stderr.write(f"{note}\n")
    parts = ", ".join(f"{part} {size / 1e6:.2f} MB" for part, size in written.sizes.items())
    sys.stdout.write(f"Written: {target} ({parts})\nTo try it: python -m http.server --bind 127.0.0.1 -d {target}\n")
