"""Generated captions in a CSV file whose first line names the columns, such as `per_image_val.csv` of an evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from captioner.errors import DataError

ID_COLUMNS = ("image_id", "img_id", "image", "file_name", "filename", "id")
"""Names of the column of image ids, whatever their case; of several that a file has, the first of these."""

CAPTION_COLUMN = "caption"


def read_caption_table(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    """(image id as text, [caption]) of each row; other columns are ignored, and so are empty lines.

    path: for messages. DataError without these columns, for a column that is there twice, and for a row of another
    length than the header's.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        image = next((name for name in ID_COLUMNS if name in header), None)
        if image is None or CAPTION_COLUMN not in header:
            raise DataError(
                f"{path}: the first line of a CSV file of captions names its columns, image_id and caption; found "
                f"{', '.join(header)!r:.100}. Name them, or give COCO's results format: "
                '[{"image_id": 139, "caption": "a dog"}, …].'
            )
        for name in (image, CAPTION_COLUMN):
            if header.count(name) > 1:
                raise DataError(f"{path}: the column {name!r} is there twice. Rename one of the two.")
        places = header.index(image), header.index(CAPTION_COLUMN)
        for row in reader:
            if row and len(row) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}: expected {len(header)} fields as in the first line, found "
                    f"{len(row)}. A field with a comma has to be in double quotes."
                )
            if row:
                yield row[places[0]], [row[places[1]]]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: this is no CSV that can be read ({error}).") from error
