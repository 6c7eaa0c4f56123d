"""What can be wrong with a table of images and with its files: all of it is found, none mended."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lesionlab.data.images.decode import to_rgb
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader, in_array
from lesionlab.data.sources.patient_metadata import read_ages
from lesionlab.progress import Listener, Step, silent
from lesionlab.tables import OLDEST, Finding, Severity, known_words

DX_TYPES = ("histo", "follow_up", "consensus", "confocal")


def check_table(table: pd.DataFrame, classes: Sequence[str]) -> list[Finding]:
    """Find every fault that the table shows without its images.

    Args:
        table: text columns of `tables.CATALOGUE`, with at least image_id and target.
        classes: labels that may occur; empty allows any.

    Returns:
        Findings in the order of the checks.
    """
    return [
        *_duplicate_ids(table),
        *_unknown_diagnoses(table, classes),
        *_lesions_with_two(table, "target", "error"),
        *_ages(table),
        *_words(table),
        *_lesions_with_two(table, "age", "note"),
        *_lesions_with_two(table, "sex", "note"),
        *_patients(table),
    ]


def _duplicate_ids(table: pd.DataFrame) -> Iterator[Finding]:
    for image, count in table["image_id"].value_counts(sort=False).items():
        if not str(image):
            yield Finding(
                "no_image_id", f"{count} rows have no image_id", column="image_id", exclude=True
            )
        elif count > 1:
            labels = list(table["target"][table["image_id"] == image].unique())
            clash = f", with {len(labels)} diagnoses ({', '.join(labels)})" if labels[1:] else ""
            yield Finding(
                "duplicate_image_id",
                f"{image} stands in {count} rows{clash}",
                column="image_id",
                image_id=str(image),
                exclude=True,
            )


def _unknown_diagnoses(table: pd.DataFrame, classes: Sequence[str]) -> Iterator[Finding]:
    known = set(classes) or set(table["target"]) - {""}
    for row in table[~table["target"].isin(known)].itertuples():
        label = repr(row.target) if row.target else "no diagnosis"
        expected = f"; known: {', '.join(classes)}" if classes and row.target else ""
        yield Finding(
            "unknown_diagnosis",
            f"{label}{expected}",
            column="target",
            image_id=str(row.image_id),
            exclude=True,
        )


def _lesions_with_two(table: pd.DataFrame, column: str, severity: Severity) -> Iterator[Finding]:
    """Lesions whose images disagree in a column, unknown values apart."""
    if not {"lesion_id", column} <= set(table.columns):
        return
    known = table[(table["lesion_id"] != "") & (table[column].astype(str) != "")]
    distinct = known.groupby("lesion_id")[column].nunique()
    for lesion in distinct.index[distinct > 1]:
        rows = known[known["lesion_id"] == lesion]
        values = ", ".join(map(str, sorted(rows[column].unique())))
        word = _PLURAL[column]
        for image in rows["image_id"] if severity == "error" else rows["image_id"][:1]:
            yield Finding(
                f"lesion_with_two_{word}",
                f"lesion {lesion} has {len(rows[column].unique())} {word}: {values}",
                severity=severity,
                column=column if column != "target" else "lesion_id",
                image_id=str(image),
                exclude=severity == "error",
            )


_PLURAL = {"target": "diagnoses", "age": "ages", "sex": "sexes", "patient_id": "patients"}


def _ages(table: pd.DataFrame) -> Iterator[Finding]:
    if "age" not in table.columns:
        return
    numbers, _ = read_ages(table["age"])
    text = known_words(table["age"].astype(object).where(table["age"].notna(), "").astype(str))
    for row, value, number in zip(table.itertuples(), text, numbers, strict=True):
        if value and not np.isfinite(number):
            yield Finding(
                "age_not_known",
                f"{value!r} is no age in years from 0 to {OLDEST}",
                severity="warning",
                column="age",
                image_id=str(row.image_id),
            )
    if zero := int((numbers == 0).sum()):
        yield Finding("age_zero", f"{zero} images of age 0: infants, not missing", "note", "age")
    if unknown := int(numbers.isna().sum()):
        yield Finding("age_unknown", f"{unknown} images", "note", "age")


def _words(table: pd.DataFrame) -> Iterator[Finding]:
    for column, allowed in (("sex", ("male", "female")), ("dx_type", DX_TYPES), ("site", None)):
        if column not in table.columns:
            continue
        values = table[column]
        if allowed:
            for row, value in zip(table.itertuples(), values, strict=True):
                if value and value not in allowed:
                    yield Finding(
                        f"odd_{column}",
                        f"{value!r} is not {' or '.join(allowed)}",
                        severity="warning",
                        column=column,
                        image_id=str(row.image_id),
                    )
        if unknown := int((values == "").sum()):
            yield Finding(f"{column}_unknown", f"{unknown} images", "note", column)


def _patients(table: pd.DataFrame) -> Iterator[Finding]:
    """A lesion belongs to one patient."""
    if "patient_id" in table.columns:
        yield from _lesions_with_two(table, "patient_id", "error")


@dataclass
class FileFacts:
    """What one image's file says of itself.

    Attributes:
        width, height: in pixels; NaN where the file cannot be read.
        bytes: size of the file.
        sha256: of the file's bytes.
        mode: Pillow's name of the pixel format.
        pixel_hash: SHA-256 of the decoded pixels, where they were decoded.
        findings: kind and text of each fault, with its severity.
    """

    width: float = float("nan")
    height: float = float("nan")
    bytes: int = 0
    sha256: str = ""
    mode: str = ""
    pixel_hash: str = ""
    findings: list[Finding] = field(default_factory=list)


def scan_files(
    table: pd.DataFrame,
    root: Path,
    *,
    decode: bool,
    workers: int | None = None,
    listen: Listener = silent,
) -> list[FileFacts]:
    """Look at every image's file.

    Args:
        table: needs image_id and path.
        root: folder that `path` is relative to.
        decode: whether to decode every pixel, too; without it, truncation shows only where a JPEG
            lacks its end marker.
        workers: threads; by default one per core.
        listen: told of the progress.

    Returns:
        One entry per row of the table.
    """
    reader = Reader(root)
    facts: list[FileFacts] = []
    rows = list(table[["image_id", "path"]].itertuples(index=False))
    task = "decoding every image" if decode else "reading files"
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            for fact in pool.map(lambda row: _look(reader, row.image_id, row.path, decode), rows):
                facts.append(fact)
                if len(facts) % 64 == 0 or len(facts) == len(rows):
                    listen(Step(task, len(facts), len(rows), "images"))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return facts


def _look(reader: Reader, image_id: str, path: str, decode: bool) -> FileFacts:
    facts = FileFacts()

    def say(kind: str, text: str, severity: Severity = "error") -> None:
        facts.findings.append(
            Finding(
                kind,
                text,
                severity=severity,
                column="path",
                image_id=image_id,
                path=path,
                exclude=severity == "error",
            )
        )

    try:
        content = reader.bytes_of(path)
        facts.bytes, facts.sha256 = len(content), hashlib.sha256(content).hexdigest()
        image = reader.open(path, content)
        facts.width, facts.height = image.size
        facts.mode = image.mode
        if image.format == "JPEG" and b"\xff\xd9" not in content[-64:]:
            raise ImageFault("truncated", f"{path} is a JPEG without its end: the file is cut off")
        if min(image.size) < 16 and not in_array(path):
            say("tiny", f"{path} is {image.width} x {image.height} pixels", "warning")
        if getattr(image, "n_frames", 1) > 1:
            say(
                "animated",
                f"{path} has {getattr(image, 'n_frames', 1)} frames; the first one counts",
                "warning",
            )
        if image.mode not in ("RGB", "L"):
            say(
                "odd_mode", f"{path} is stored as {image.mode}; it will be converted to RGB", "note"
            )
        if image.getexif().get(0x0112, 1) != 1:
            say("rotated", f"{path} says that it is rotated; it will be turned upright", "note")
        if decode:
            image.load()
            pixels = np.asarray(to_rgb(image, path))
            facts.pixel_hash = hashlib.sha256(
                pixels.tobytes() + str(pixels.shape).encode()
            ).hexdigest()
            if pixels.std() < 2:
                say("blank", f"{path} is one colour all over", "warning")
    except ImageFault as fault:
        say(fault.kind, str(fault))
    except Exception as error:  # decoders of broken files fail in many ways
        kind = "truncated" if "truncated" in str(error) else "unreadable"
        say(kind, f"{path} cannot be decoded: {error}")
    return facts


def check_files(table: pd.DataFrame) -> list[Finding]:
    """Find files that are the same image twice, and images of a shape unlike the others.

    Args:
        table: a catalogue's table with its file facts, and `pixel_hash` where images were decoded.

    Returns:
        Findings; of identical images the first in the table is kept, the others are to be excluded.
    """
    found: list[Finding] = []
    readable = table[table["sha256"] != ""]
    seen: set[str] = set()
    for path, rows in readable[readable.duplicated("path", keep=False)].groupby("path", sort=False):
        found += _copies(rows, "same_file", f"{path} stands under", seen)
    for _, rows in readable[readable.duplicated("sha256", keep=False)].groupby(
        "sha256", sort=False
    ):
        found += _copies(rows, "identical_files", "byte for byte one image under", seen)
    if "pixel_hash" in table.columns:
        decoded = table[table["pixel_hash"] != ""]
        twins = decoded[decoded.duplicated("pixel_hash", keep=False)]
        for _, rows in twins.groupby("pixel_hash", sort=False):
            found += _copies(rows, "identical_pixels", "pixel for pixel one image under", seen)
    ratio = (readable["width"] / readable["height"]).round(2)
    common = ratio.mode()
    if len(common) and (ratio == common[0]).mean() > 0.9:
        odd = readable[ratio != common[0]]
        for row in odd.itertuples():
            found.append(
                Finding(
                    "odd_shape",
                    f"{row.path} is {row.width:g} x {row.height:g}, "
                    f"most images are {common[0]:g} times as wide as high",
                    severity="warning",
                    column="path",
                    image_id=str(row.image_id),
                    path=str(row.path),
                )
            )
    return found


def _copies(rows: pd.DataFrame, kind: str, text: str, seen: set[str]) -> Iterator[Finding]:
    ids = list(rows["image_id"].unique())
    if len(ids) < 2 or set(ids) <= seen:
        return
    seen.update(ids)
    labels = list(rows["target"].unique())
    clash = f", with {len(labels)} diagnoses ({', '.join(labels)})" if len(labels) > 1 else ""
    lesions = list(rows["lesion_id"].unique()) if "lesion_id" in rows.columns else []
    apart = f", in {len(lesions)} lesions" if len(lesions) > 1 else ""
    for number, row in enumerate(rows.drop_duplicates("image_id").itertuples()):
        yield Finding(
            kind,
            f"{text} {len(ids)} ids{apart}{clash}: {', '.join(ids)}",
            severity="error" if clash else "warning",
            column="path",
            image_id=str(row.image_id),
            path=str(row.path),
            exclude=bool(clash) or number > 0,
        )
