"""Draw the six lesions that the server's page offers to whoever has no image at hand.

    python tools/page_samples.py

They come from `lesionlab.data.synthetic` with a fixed seed: the first lesion of each of six
classes, in an order that does not give the classes away. Written are
src/lesionlab/web/static/sample-1.jpg to sample-6.jpg.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from PIL import Image

from lesionlab.data.synthetic.dataset import synthetic

STATIC = Path(__file__).resolve().parents[1] / "src" / "lesionlab" / "web" / "static"
CLASSES = ("nv", "mel", "bkl", "bcc", "vasc", "df")
SEED = 3
SIZE = (300, 400)  # height and width, pixels
MOST = 150_000  # bytes of all six: the page comes from a server that may be far away


def main() -> None:
    """Draw, shrink and count."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = synthetic(Path(folder) / "drawn", lesions=60, size=SIZE, seed=SEED)
        with (drawn / "HAM10000_metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        total = 0
        for number, dx in enumerate(CLASSES, 1):
            row = next(each for each in rows if each["dx"] == dx)
            [source] = drawn.glob(f"*part*/{row['image_id']}.jpg")
            target = STATIC / f"sample-{number}.jpg"
            Image.open(source).save(target, quality=82, optimize=True)
            total += target.stat().st_size
            print(f"{target.name}: {dx}, {target.stat().st_size:,} bytes")
    print(f"{total:,} bytes in all")
    if total > MOST:
        raise SystemExit(f"Above {MOST:,} bytes: lower the quality or the size.")


if __name__ == "__main__":
    main()
