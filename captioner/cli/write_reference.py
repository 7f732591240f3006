"""`make reference`: write what is generated from the settings' dataclasses: the comments of conf/."""

from __future__ import annotations

import sys

from captioner.cli.yaml_comments import write_comments


def main() -> None:
    """Bring all generated text up to date, and print the files that changed."""
    for path in write_comments():
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
