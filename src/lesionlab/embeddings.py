"""Embeddings: a folder of what a frozen network made of images, opened again without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.advice import command
from lesionlab.errors import RunError
from lesionlab.run import Folder
from lesionlab.tables import read_csv

VECTORS = "embeddings.npy"
LOGITS = "logits.npy"
TABLE = "embeddings.csv"
INFO = "embeddings.json"


@dataclass(frozen=True)
class Embeddings(Folder):
    """A folder of embeddings.

    Files: embeddings.npy (float32, shape (n, features)), embeddings.csv (one row per row of it:
    image_id, target, lesion_id, patient_id, part) and embeddings.json (what they were made of:
    identity, classes, model and size). A run's also have logits.npy (float32, shape (n, classes)),
    which it gave without metadata.
    """

    marker = INFO
    kind = "folder of embeddings"
    hint = f"Make them first: {command('embed', 'RUN', data='DATA', out='NEW_FOLDER')}"

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The embeddings, memory-mapped read-only, shape (n, features)."""
        return np.load(self.folder / VECTORS, mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """The logits of a run, memory-mapped read-only, shape (n, classes).

        Raises:
            RunError: if they are not of a run, or were made before logits were kept.
        """
        path = self.folder / LOGITS
        if not path.is_file():
            again = command("embed", "RUN", data="DATA", out=self.folder, fresh=True)
            raise RunError(
                f"{self.folder} has no {LOGITS}: only a run has logits. Make it of a run: {again}"
            )
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per embedding: image_id, target, lesion_id, patient_id, part ("": not known)."""
        return read_csv(self.folder / TABLE)
