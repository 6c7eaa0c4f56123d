"""Predictions of many images by a bundle, without torch: parallel, in bounded memory, resumable.

Each thread decodes a block of images and runs the networks on it. Pillow and onnxruntime both work
outside Python's lock, so as many threads as cores keep all of them busy, and none waits for
another. Which images make a block depends on their order alone: neither the number of threads nor
a stop in between changes a digit.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
from numpy.typing import NDArray

from lesionlab._version import __version__
from lesionlab.cluster.spread import check, spread
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images import dicom
from lesionlab.data.images.decode import PREPROCESSING
from lesionlab.data.images.reader import Reader
from lesionlab.data.sources.patient_metadata import tell_known
from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.files import fingerprint, locked
from lesionlab.prediction.bundle import Bundle
from lesionlab.prediction.chunked_table import (
    DEFAULT,
    Kept,
    Parts,
    check_name,
    free_name,
    read_rows,
)
from lesionlab.prediction.image_sources import Sources, open_sources
from lesionlab.prediction.predictor import (
    BLOCK,
    Block,
    Predictor,
    known,
    metadata_of,
    rows_of,
    unknown_metadata,
)
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import FEATURES
from lesionlab.tables import count

_TASK = 8  # parts that a machine of a cluster is given at a time
_AHEAD = 8  # blocks per thread that may be finished before the first of them is


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Result):
    """A table of answers, in memory or in a file; `evaluate` takes that of a catalogue.

    Attributes:
        images: how many rows it has.
        reasons: how many rows have each reason, a key of `REASONS`.
        path: of the table; None: it was not written.
        first: its first rows, or all of them.
    """

    images: int
    reasons: Mapping[str, int]
    path: Path | None
    first: pd.DataFrame

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """All rows, one per image."""
        if self.path is None or len(self.first) == self.images:
            return self.first
        return read_rows(self.path, tuple(map(str, self.first.columns)))

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """The first rows, as `Result.shown` says."""
        probabilities = self.first.filter(regex="^p_")
        likeliest = [str(name)[2:] for name in probabilities.fillna(0).idxmax(axis=1)]
        rows = self.first.assign(probability=probabilities.max(axis=1))
        rows["predicted"] = rows.get("predicted", likeliest)
        shown = ("image_id", "target", "part", "predicted", "probability", "set", "malignancy")
        columns = [name for name in (*shown, "refer", "reason", "error") if name in rows]
        where = f", in {self.path}" if self.path else ""
        return [(f"{count(self.images, 'image')}{where}", rows[columns])]

    @property
    def unreadable(self) -> int:
        """How many images could not be read."""
        return self.reasons.get("unreadable", 0)


@dataclass(frozen=True, eq=False)
class _Work:
    """What threads share.

    Attributes:
        ids: image_id of each image.
        metadata: age, sex and site of each image; None: the bundle takes none.
    """

    predictor: Predictor
    sources: Sources
    reader: Reader
    ids: list[str]
    metadata: pd.DataFrame | None
    top: int
    columns: tuple[str, ...]


def predict_files(
    predictor: Predictor,
    sources: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    metadata: pd.DataFrame | str | Path | Mapping[str, Any] | None = None,
    top: int = 3,
    chunk: int = 128,
    workers: int | None = None,
    on: str = "local",
    cpus: int | None = None,
    fresh: bool = False,
    listen: Listener = silent,
) -> Predictions:
    """Predict files, folders, patterns or a catalogue into a table.

    An image that cannot be read becomes a row with its error. The same call again goes on where one
    was stopped, and the table is that of a call that was not, byte for byte; see `Parts`.

    Args:
        predictor: of a bundle, best with one thread: calls run side by side.
        sources: see `open_sources`. Of DICOM files age, sex and site are taken, too.
        out: the table, .csv or .parquet (which needs pyarrow). None: predictions.csv here, or
            where that is of something else predictions-2.csv, and so on.
        metadata: a table, or a CSV, of image_id (a file's name without its suffix), age, sex and
            site; or what holds for all images, such as {"age": 55, "site": "back"}. What it lacks
            is unknown. None: a catalogue has its own.
        top: how many of the likeliest classes get columns of their own.
        chunk: rows of a part; stopping costs that many images at most, and those under way.
        workers: threads; by default one per core.
        on: "local", or a Ray cluster; see `cluster.spread.check`.
        cpus: on a cluster, processors and threads of each task, by default 1.
        fresh: discard what an earlier call has left.
        listen: told of the progress.

    Returns:
        The table's first rows and counts. Its columns are image_id, path, of a catalogue lesion_id,
        target and part ("test"), then predicted, p_<class>... (calibrated), top_1, top_1_p, ...,
        set (the conformal set, "mel nv", the likeliest first), malignancy (the probability of all
        malignant classes), refer, reason (a key of `predictor.REASONS`), novelty, error ("" =
        none), and of a catalogue logit_<class>... (not calibrated).

    Raises:
        DataError: if there is no image, or none that can be read; if the catalogue has classes that
            the bundle does not know.
        SettingsError: if an option is out of range, if a catalogue stands beside other sources, or
            if metadata are given to a bundle that takes none.
        RunError: if the table was begun with something else; every difference is named.
    """
    check(on, cpus)
    if on != "local" and workers is not None:
        raise SettingsError("On a cluster --cpus says how many threads a task has: no --workers.")
    if out is not None:
        check_name(Path(out))
    if top < 0 or chunk < 1 or (workers is not None and workers < 1):
        raise SettingsError("top is 0 or more, chunk and workers are 1 or more.")
    listen(Notice("Looking up the images."))
    found = open_sources(sources)
    if found.repeated:
        listen(Notice(f"{found.repeated} images were given more than once; they count once."))
    work = _prepare(predictor, found, metadata, top, listen)
    identity = _identity(work, chunk, metadata is not None)
    out = Path(out or (DEFAULT if fresh else free_name(identity)))
    parts = Parts(out, work.columns, len(found.paths), chunk)

    def waiting() -> None:
        listen(Notice(f"Another process writes {out}: waiting for it."))

    with locked(out.with_name(f".{out.name}.lock"), waiting):
        if parts.begin(identity, fresh=fresh):
            listen(Notice(f"{out} is complete: nothing to do. --fresh would predict it again."))
            reasons = parts.reasons()
        else:
            _tell(work, listen)
            if on == "local":
                threads = workers or os.cpu_count() or 1
                several = _fill(work, parts, parts.missing(), threads, listen)
            else:
                several = _spread(work, parts, on, cpus or 1, listen)
            _tell_frames(several, listen)
            reasons = parts.finish()
    return Predictions(parts.rows, reasons, out, parts.head())


def predict_in_memory(
    predictor: Predictor,
    sources: Sequence[str | Path],
    *,
    metadata: pd.DataFrame | str | Path | Mapping[str, Any] | None = None,
    top: int = 3,
    workers: int | None = None,
    listen: Listener = silent,
) -> Predictions:
    """Predict images as `predict_files` does, its arguments and errors, but write nothing."""
    if top < 0 or (workers is not None and workers < 1):
        raise SettingsError("top is 0 or more, workers are 1 or more.")
    work = _prepare(predictor, open_sources(sources), metadata, top, listen)
    kept = Kept(work.columns, len(work.ids))
    _tell(work, listen)
    threads = workers or os.cpu_count() or 1
    _tell_frames(_fill(work, kept, kept.missing(), threads, listen), listen)
    table = kept.table()
    if (table["error"] != "").all():
        raise DataError(
            f"None of the {len(table)} images can be read. The first: {table['error'].iloc[0]}."
        )
    return Predictions(len(table), Counter(map(str, table["reason"])), None, table)


def _prepare(
    predictor: Predictor,
    sources: Sources,
    metadata: pd.DataFrame | str | Path | Mapping[str, Any] | None,
    top: int,
    listen: Listener,
) -> _Work:
    bundle, data = predictor.bundle, sources.catalogue
    if data is not None and (unknown := sorted(set(data.table["target"]) - set(bundle.classes))):
        raise DataError(
            f"The model knows {', '.join(bundle.classes)}, but the catalogue has "
            f"{', '.join(unknown)} too. Make the catalogue again with --relabel LABEL=CLASS for "
            "each of them (LABEL= takes its images for undiagnosed, to be left out); or give the "
            "images without their catalogue, for answers that cannot be scored."
        )
    ids = [Path(each).stem for each in sources.paths]
    if data is not None:
        ids = [str(each) for each in data.table["image_id"]]
    told = None
    if metadata is not None:
        told = metadata_of(bundle, metadata, ids, sources.paths, listen=listen)
    elif bundle.fields and data is not None:
        told = data.table[list(FEATURES)].reset_index(drop=True)
        tell_known(told, bundle.fields, {"sex": bundle.sexes, "site": bundle.sites}, listen)
    elif bundle.fields:
        told = unknown_metadata(len(ids))
    top = min(top, len(bundle.classes))
    columns = _columns(bundle.classes, top, data is not None)
    reader = Reader(sources.root)
    return _Work(predictor, sources, reader, ids, told, top, columns)


def _columns(classes: Sequence[str], top: int, catalogued: bool) -> tuple[str, ...]:
    labelled = ("lesion_id", "target", "part", "learnt_from") if catalogued else ()
    likeliest = [name for rank in range(1, top + 1) for name in (f"top_{rank}", f"top_{rank}_p")]
    logits = [f"logit_{label}" for label in classes] if catalogued else []
    probabilities = [f"p_{label}" for label in classes]
    answer = ("set", "malignancy", "refer", "reason", "novelty", "error")
    return (
        "image_id",
        "path",
        *labelled,
        "predicted",
        *probabilities,
        *likeliest,
        *answer,
        *logits,
    )


def _identity(work: _Work, chunk: int, told: bool) -> dict[str, Any]:
    """Everything that decides what the table will be."""
    import onnxruntime

    bundle = work.predictor.bundle
    by_image = ""
    if told and work.metadata is not None:
        columns = [work.metadata[name].astype(str).tolist() for name in FEATURES]
        by_image = fingerprint(columns)
    catalogue = work.sources.catalogue
    versions = {
        "lesionlab": __version__,
        "preprocessing": PREPROCESSING,
        "onnxruntime": onnxruntime.__version__,
        "Pillow": PIL.__version__,
    }
    return {
        "model": f"{bundle.name} {bundle.version} {bundle.precision} ({bundle.fingerprint})",
        "images": f"{len(work.ids)} ({work.sources.fingerprint})",
        "catalogue": catalogue.fingerprint if catalogue else "",
        "metadata": by_image,
        "top": work.top,
        "format": "2",  # of the columns and of the words in reason: what began as 1 must not go on
        "chunk": chunk,
        "block": BLOCK,
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }


def _tell(work: _Work, listen: Listener) -> None:
    """Say what the answers will lack."""
    bundle = work.predictor.bundle
    if bundle.fields and work.metadata is not None:
        blank = [name for name in bundle.fields if not known(work.metadata[name]).any()]
        if blank:
            listen(
                Notice(
                    f"This model also takes {', '.join(blank)}; unknown here, unless a DICOM file "
                    "tells. --age, --sex and --site say it of all images, --metadata of each."
                )
            )
    if work.sources.catalogue is not None:
        listen(
            Notice(
                "All images of the catalogue count as test. Column learnt_from tells which ones "
                "the model has learnt from as far as its card knows; `evaluate` repeats it.",
                "warning",
            )
        )


def _tell_frames(several: int, listen: Listener) -> None:
    if several:
        listen(Notice(f"{several} DICOM files have several frames; the first one counts."))


def _spread(work: _Work, parts: Parts, on: str, cpus: int, listen: Listener) -> int:
    """Write the parts that are missing, on the machines of a cluster.

    Returns:
        How many images have several frames.
    """
    todo = parts.missing()
    tasks = [todo[start : start + _TASK] for start in range(0, len(todo), _TASK)]
    told = (work.ids, work.metadata, work.top, work.columns)
    shared = (work.predictor.bundle, work.sources, told, parts, cpus)
    done = parts.rows - sum(len(_range_of(parts, number)) for number in todo)
    several = 0
    for task, made in spread(_predict_parts, shared, tasks, on=on, cpus=cpus, listen=listen):
        several += made
        done += sum(len(_range_of(parts, number)) for number in tasks[task])
        listen(Step("predicting", done, parts.rows, "images"))
    return several


def _predict_parts(
    shared: tuple[Bundle, Sources, tuple[Any, ...], Parts, int], todo: list[int], listen: Listener
) -> int:
    """Write some parts on a machine of a cluster."""
    bundle, sources, told, parts, threads = shared
    work = _Work(Predictor(bundle), sources, Reader(sources.root), *told)
    return _fill(work, parts, todo, threads, listen)


def _fill(
    work: _Work, parts: Parts | Kept, todo: Sequence[int], workers: int, listen: Listener
) -> int:
    """Write some parts, in their order.

    Returns:
        How many images have several frames.
    """
    from threadpoolctl import threadpool_limits

    done = parts.rows - sum(len(_range_of(parts, number)) for number in todo)
    several = 0
    rows: list[list[Any]] = []
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        try:
            for number, block, made in _in_order(work, parts, todo, pool, workers):
                rows += made[0]
                several += made[1]
                listen(Step("predicting", done + len(rows), parts.rows, "images"))
                if block.stop == _range_of(parts, number).stop:
                    parts.write(number, rows)
                    done, rows = done + len(rows), []
        except BaseException:  # what was asked to stop must not predict on first
            pool.shutdown(cancel_futures=True)
            raise
    return several


def learnt_from(bundle: Bundle, data: Catalogue, image: int) -> str:
    """Whether a model has learnt from an image: "yes", or "unknown".

    Yes for all images of the catalogue that it was trained and chosen on, and for those of the
    collection that its card names: which of them were in its training part is not in a bundle.

    Args:
        bundle: the model.
        data: a catalogue.
        image: the row of its table.
    """
    trained = [each.get("identity", {}).get("catalogue") for each in bundle.info["members"]]
    told = ((bundle.card or {}).get("facts") or {}).get("data.collection") or {}
    collection = str(told.get("text", "")).partition(":")[0]
    source = str(data.table["source"].iloc[image])
    same = data.fingerprint in trained or (collection and source == collection)
    return "yes" if same else "unknown"


def _range_of(parts: Parts | Kept, number: int) -> range:
    """The images of a part."""
    return range(number * parts.chunk, min(parts.rows, (number + 1) * parts.chunk))


_Made = tuple[list[list[Any]], int]
"""Rows, and how many of them have several frames."""


def _in_order(
    work: _Work, parts: Parts | Kept, todo: Sequence[int], pool: ThreadPoolExecutor, workers: int
) -> Iterator[tuple[int, range, _Made]]:
    """Blocks as they come, in their order, a few ahead of the one that is waited for."""
    queue: deque[tuple[int, range, Future[_Made]]] = deque()
    for number in todo:
        images = _range_of(parts, number)
        for start in range(0, len(images), BLOCK):
            block = images[start : start + BLOCK]
            queue.append((number, block, pool.submit(_predict, work, block)))
            if len(queue) >= _AHEAD * workers:
                yield _result(queue)
    while queue:
        yield _result(queue)


def _result(queue: deque[tuple[int, range, Future[_Made]]]) -> tuple[int, range, _Made]:
    number, block, future = queue.popleft()
    return number, block, future.result()


def _predict(work: _Work, block: range) -> _Made:
    """Rows of a block."""
    paths = work.sources.paths[block.start : block.stop]
    told = None if work.metadata is None else work.metadata.iloc[block.start : block.stop]
    made = work.predictor.block(paths, told, lambda place: _read(work, block[place]))
    return _rows(work, block, made), made.several


def _read(work: _Work, image: int) -> tuple[NDArray[np.uint8], dicom.Facts]:
    """Pixels of an image, and what a DICOM file tells beside them."""
    path, data = work.sources.paths[image], work.sources.catalogue
    if data is None:
        return work.predictor.read_file(path, work.reader)
    sha256 = str(data.table["sha256"].iloc[image])
    return work.reader.pixels(path, work.predictor.bundle.images, sha256), dicom.Facts()


def _rows(work: _Work, block: range, found: Block) -> list[list[Any]]:
    classes, data, answers = work.predictor.bundle.classes, work.sources.catalogue, found.answers
    part = slice(block.start, block.stop)
    made = rows_of(classes, answers, work.ids[part], work.sources.paths[part], found.errors)
    for row in made:
        row |= {f"top_{rank}": "" for rank in range(1, work.top + 1)}
        row |= {f"top_{rank}_p": np.nan for rank in range(1, work.top + 1)}
    if data is not None:
        for row, image in zip(made, block, strict=True):
            row |= {name: data.table[name].iloc[image] for name in ("lesion_id", "target")}
            row["part"] = "test"
            row["learnt_from"] = learnt_from(work.predictor.bundle, data, image)
            row |= {f"logit_{label}": np.nan for label in classes}
    if answers is not None:
        likeliest = np.argsort(-answers.probabilities, axis=1, kind="stable")[:, : work.top]
        good = (place for place, error in enumerate(found.errors) if not error)
        for index, place in enumerate(good):
            probabilities = answers.probabilities[index].tolist()
            for rank, label in enumerate(likeliest[index].tolist(), 1):
                made[place][f"top_{rank}"] = classes[label]
                made[place][f"top_{rank}_p"] = probabilities[label]
            if data is not None:
                values = answers.logits[index].tolist()
                for label, value in zip(classes, values, strict=True):
                    made[place][f"logit_{label}"] = value
    return [[row[name] for name in work.columns] for row in made]
