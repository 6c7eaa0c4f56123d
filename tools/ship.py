"""Make the default model that comes with lesionlab.

    python tools/ship.py RUN [--card FOLDS] [--views N] [--precision P]

Writes src/lesionlab/shipped/default.bundle (through its gates) and beside it the predictions
that its card's figures are computed from, so that a test, and anybody, can compute them again; of
a model that takes age, sex and site those from the picture alone, too.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import pandas as pd

from lesionlab.deployment.export import export
from lesionlab.prediction.bundle import DEFAULT
from lesionlab.prediction.run_predictor import predict_run, predict_without_metadata
from lesionlab.progress import Notice, Step
from lesionlab.run import open_run

SHIPPED = Path(__file__).resolve().parents[1] / "src" / "lesionlab" / "shipped"
PREDICTIONS = "predictions.csv.gz"
ALONE = "predictions_from_the_picture_alone.csv.gz"
MOST = 8_000_000
"""Bytes of the bundle at most."""


def _tell(event: Step | Notice) -> None:
    if isinstance(event, Notice):
        print(event.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="the run whose weights are shipped")
    parser.add_argument("--card", type=Path, help="folds of the same recipe, for the card")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp16")
    given = parser.parse_args()
    source = open_run(given.card or given.run)
    table = source.predictions
    if given.views > 1:
        table = predict_run(source, views=given.views, listen=_tell)
    bundle = export(
        given.run,
        SHIPPED / DEFAULT,
        precision=given.precision,
        views=given.views,
        card_of=source,
        predictions=table,
        answers=Path(__file__).with_name("ship.yaml"),
        name="lesionlab default",
        listen=_tell,
    )
    size = bundle.path.stat().st_size
    if size > MOST:
        raise SystemExit(f"{bundle.path} has {size:,} bytes, more than {MOST:,}.")
    _write(table, SHIPPED / PREDICTIONS)
    if bundle.fields:
        _write(predict_without_metadata(source, views=given.views, listen=_tell), SHIPPED / ALONE)
    print(f"{bundle.path}: {size / 1e6:.1f} MB.")


def _write(table: pd.DataFrame, path: Path) -> None:
    """What is needed to compute the figures again, of the test part, packed."""
    table = table[table["part"] == "test"]
    kept = ["image_id", "lesion_id", "target", "part", *table.filter(regex="^p_").columns]
    kept += [name for name in ("fold",) if name in table]  # whose network answered
    text = table[kept].to_csv(index=False, float_format="%.9g", lineterminator="\n")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed:
        packed.write(text.encode())
    print(f"{path}: {len(table):,} predictions.")


if __name__ == "__main__":
    main()
