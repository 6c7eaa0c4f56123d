"""Files of the ISIC challenges: submissions and ground truth, in and out.

ISIC 2018 task 3 and ISIC 2019 have a column `image` and one per class (MEL, NV, ...); a submission
holds confidences of 0-1 that need not add up to 1, a ground truth 0.0 and 1.0, sometimes with
`score_weight` and `validation_weight`. ISIC 2020 has `image_name` and `target`, the confidence
that a lesion is malignant. MILK10k has `lesion_id` and eleven classes: a row per lesion
(https://challenge.isic-archive.com/landing/milk10k).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from lesionlab.data.collections.isic_challenges import MILK10K
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.predictions.load import Source, open_predictions, rows_of
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Finding, Part, check_predictions, classes_of, describe, findings_table
from lesionlab.tables import read_csv as read_table
from lesionlab.taxonomy import KNOWN, canonical

Year = Literal["2018", "2019", "2020", "milk10k"]

_2018 = {
    "MEL": "mel",
    "NV": "nv",
    "BCC": "bcc",
    "AKIEC": "akiec",
    "BKL": "bkl",
    "DF": "df",
    "VASC": "vasc",
}
LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "2018": _2018,
    "2019": {
        "MEL": "mel",
        "NV": "nv",
        "BCC": "bcc",
        "AK": "akiec",
        "BKL": "bkl",
        "DF": "df",
        "VASC": "vasc",
        "SCC": "scc",
        "UNK": "unk",
    },
    "2020": {"target": "malignant"},
    "milk10k": MILK10K,
}
"""The class of every column of a challenge's files, in their order.

ISIC 2019 counts squamous cell carcinoma by itself, HAM10000 among akiec: AK is a narrower class.
"""

IGNORED = "ISIC_0035068"
"""An image of the ISIC 2018 test set that the official scorer leaves out by name."""

WEIGHTS = ("score_weight", "validation_weight")


def read_truth(path: Path | str) -> pd.DataFrame:
    """Read and check the ground truth of a challenge.

    Args:
        path: a CSV with `image`, a column of 0 and 1 per class, and optionally the weights; or
            ISIC 2020's with `image_name` and `target`, whatever else it has; or MILK10k's, whose
            rows are lesions, with `lesion_id`.

    Returns:
        Columns image, the categories (float64, 0 or 1), score_weight and validation_weight (1
        where the file has none), in the order of the file.

    Raises:
        DataError: if it cannot be read.
        FindingsError: with every fault at once.
    """
    path = Path(path)
    table = read_table(path)
    faults: list[Finding] = []
    if {"image_name", "target"} <= set(table.columns):
        kept = [name for name in ("image_name", "target", *WEIGHTS) if name in table.columns]
        table = table[kept].rename(columns={"image_name": "image"})
    if "image" not in table.columns:
        table = table.rename(columns={"lesion_id": "image"})
    if "image" not in table.columns:
        faults.append(Finding("missing_column", "no column 'image'", column="image"))
    categories = [name for name in table.columns if name not in ("image", *WEIGHTS)]
    if not categories:
        faults.append(Finding("missing_column", "no column of a class", column="classes"))
    _raise(faults, path, "a ground truth")
    if table.empty:
        faults.append(Finding("no_rows", "there are no images", column="image"))
    _check_images(table, faults)
    for name in WEIGHTS:
        if name not in table.columns:
            table[name] = "1.0"
    _check_numbers(table, categories, faults, exact=(0.0, 1.0), what="0 or 1")
    _check_numbers(table, WEIGHTS, faults, what="0 or more", most=np.inf)
    _raise(faults, path, "a ground truth")
    return table[["image", *categories, *WEIGHTS]]


def read_submission(
    path: Path | str, categories: Sequence[str], *, quirks: bool = False
) -> pd.DataFrame:
    """Read and check a submission.

    Args:
        path: a CSV with `image` (or `image_name`, or `lesion_id`) and the categories, in any
            order; ".jpg" behind the name of an image is taken off.
        categories: the columns that it must have, those of the ground truth.
        quirks: refuse what the official scorer refuses and we would not, a column that is written
            in whole numbers from top to bottom; and read numbers of 16 digits and more as pandas 2
            does, under which it runs: 0.11100000000000002 is then equal to 0.111.

    Returns:
        Columns image and the categories (float64, 0-1), in the order of the file.

    Raises:
        DataError: if it cannot be read.
        FindingsError: with every fault at once.
    """
    path = Path(path)
    table = read_table(path)
    for name in ("image_name", "lesion_id"):
        if "image" not in table.columns:
            table = table.rename(columns={name: "image"})
    faults = [
        Finding("missing_column", f"no column {name!r}", column=name)
        for name in ("image", *categories)
        if name not in table.columns
    ]
    faults += [
        Finding("extra_column", f"{name!r} is no class of the ground truth", column=name)
        for name in table.columns
        if name not in ("image", *categories)
    ]
    _raise(faults, path, "a submission")
    table["image"] = table["image"].str.replace(r"\.jpg$", "", case=False, regex=True)
    _check_images(table, faults)
    if quirks:
        for name in categories:
            if len(table) and table[name].str.strip().str.fullmatch(r"[+-]?\d+").all():
                detail = "only whole numbers: the official scorer wants 1.0 and 0.0"
                faults.append(Finding("not_floating_point", detail, column=name))
    texts = table[list(categories)]
    _check_numbers(table, categories, faults, what="0-1")
    _raise(faults, path, "a submission")
    if quirks:
        for name in categories:
            table[name] = [
                as_pandas_2(text) if len(text) > 15 else value  # shorter ones are read exactly
                for text, value in zip(texts[name], table[name], strict=True)
            ]
    return table[["image", *categories]]


def same_images(truth: pd.DataFrame, submission: pd.DataFrame) -> None:
    """Check that a submission has the images of a ground truth, all and no other.

    Raises:
        FindingsError: naming every image that only one of the two has.
    """
    own, given = set(truth["image"]), set(submission["image"])
    faults = [
        Finding("missing_image", f"{name} is not in the submission", column="image", image_id=name)
        for name in sorted(own - given)
    ]
    faults += [
        Finding("extra_image", f"{name} is not in the truth", column="image", image_id=name)
        for name in sorted(given - own)
    ]
    if faults:
        found = findings_table(faults)
        raise FindingsError(
            f"Submission and ground truth are not of the same images:\n{describe(found)}\n"
            "Check that both are of the same part of the same challenge.",
            found,
        )


def read(
    truth: Path | str,
    submission: Path | str,
    *,
    part: Part = "test",
    quirks: bool = True,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Make a predictions table of a submission, for every other function and verb.

    Confidences that do not add up to 1 are divided by their sum, with a warning: the likeliest
    class stays the likeliest, but curves and areas are those of the shares.

    Args:
        truth: the ground truth's CSV.
        submission: the submission's CSV.
        part: train, val or test: what to call these images.
        quirks: leave out what the official scorer leaves out: images of score weight 0, and
            `IGNORED`. Otherwise only the former.
        listen: told of what was left out or divided.

    Raises:
        DataError: if a file cannot be read.
        FindingsError: with every fault of a file at once; among them images without a class or
            with several, and rows of zeros.
    """
    table = read_truth(truth)
    categories = categories_of(table)
    given = read_submission(submission, categories)
    same_images(table, given)
    left_out = table["score_weight"] == 0
    if quirks:
        left_out |= table["image"] == IGNORED
    if left_out.any():
        listen(Notice(f"{int(left_out.sum())} images are left out, as the challenge does."))
    table = table[~left_out]
    given = given.set_index("image").loc[table["image"]].reset_index()
    values = given[categories].to_numpy()
    if categories == ["target"]:
        names, yes = ["benign", "malignant"], table[categories].to_numpy()
        values, marks = np.hstack([1 - values, values]), np.hstack([1 - yes, yes])
    else:
        names, marks = [class_of(name) for name in categories], table[categories].to_numpy()
    faults = [
        Finding("no_one_class", f"{name} is of {count:.0f} classes", image_id=name, column="truth")
        for name, count in zip(table["image"], marks.sum(axis=1), strict=True)
        if count != 1
    ]
    sums = values.sum(axis=1)
    faults += [
        Finding("zeros", f"{name} has no confidence at all", image_id=name, column="submission")
        for name in table["image"][sums == 0]
    ]
    _raise(faults, Path(submission), "a table of one class per image")
    if (odd := np.abs(sums - 1) > 1e-3).any():
        listen(
            Notice(
                f"{int(odd.sum())} rows do not add up to 1 and were divided by their sum.",
                "warning",
            )
        )
        values = np.where(odd[:, None], values / sums[:, None], values)
    made = pd.DataFrame(
        {
            "image_id": table["image"].to_numpy(),
            "target": np.array(names, dtype=object)[marks.argmax(axis=1)],
            "part": part,
        }
    )
    for name in sorted(names):
        made[f"p_{name}"] = values[:, names.index(name)]
    return check_predictions(made, origin=str(submission))


def write(
    predictions: Source,
    out: Path | str,
    *,
    part: Part = "test",
    year: Year | None = None,
    truth: Path | str | None = None,
    listen: Listener = silent,
) -> Path:
    """Write the predictions of one part as a submission to a challenge.

    Args:
        predictions: a run, folds, a blend, a table, or its file or folder.
        out: the CSV to write; every number with its decimal point, as the official scorer wants.
        part: train, val or test.
        year: whose columns; by default those of the first challenge that has all classes. A
            challenge's class that the predictions lack gets 0.0 everywhere. MILK10k's rows are
            lesions: the mean of each lesion's images.
        truth: write the ground truth of the same images beside it, so that anybody can score it.
        listen: told of classes that get 0.0.

    Returns:
        The path of the submission.

    Raises:
        DataError: if the challenge has no column for a class, MILK10k's lesions are not named or
            have two classes, or a file cannot be written.
        SettingsError: if there is no such challenge.
    """
    table = open_predictions(predictions)
    classes = classes_of(table)
    rows = rows_of(table, part)
    if year is not None and year not in LAYOUTS:
        raise SettingsError(f"There is no challenge {year!r}. Choose one of {', '.join(LAYOUTS)}.")
    chosen: str = year or next((name for name in LAYOUTS if not _homeless(classes, name)), "2018")
    if homeless := _homeless(classes, chosen):
        raise DataError(
            f"{_name(chosen)} has no column for {', '.join(homeless)}. Choose another year, or "
            f"predict its classes: {', '.join(LAYOUTS[chosen].values())}."
        )
    image = _ID.get(chosen, "image")
    if image == "lesion_id":
        rows = _lesions(rows)
    columns = LAYOUTS[chosen]
    missing = [column for column, name in columns.items() if name not in classes]
    if missing:
        listen(Notice(f"No class for {', '.join(missing)}: 0.0 in every row.", "warning"))
    ids = rows["lesion_id" if image == "lesion_id" else "image_id"]
    made, marks = pd.DataFrame({image: ids}), pd.DataFrame({image: ids})
    for column, name in columns.items():
        made[column] = rows[f"p_{name}"].astype(np.float64) if name in classes else 0.0
        marks[column] = (rows["target"] == name).astype(np.float64)
    write_csv(Path(out), made)
    if truth is not None:
        write_csv(Path(truth), marks)
    return Path(out)


def categories_of(truth: pd.DataFrame) -> list[str]:
    """The columns of a ground truth that are classes."""
    return [str(name) for name in truth.columns if name not in ("image", *WEIGHTS)]


def class_of(column: str) -> str:
    """The class that a column of a challenge means: MEL is mel, AK is akiec, SCC is scc."""
    known = canonical(column)
    return known if known in KNOWN else column.lower()


def as_pandas_2(text: str) -> float:
    """Read a number as pandas 2 reads it in a CSV: to a unit in the last place or so.

    Seventeen digits at most, leading zeros among them, are added up as floats and scaled once.

    Args:
        text: a decimal number, such as "0.25" or "1e-05".
    """
    digits, _, power = text.strip().lower().partition("e")
    before, _, after = digits.lstrip("+-").partition(".")
    number = 0.0
    for digit in (before + after)[:_DIGITS]:
        number = number * 10.0 + int(digit)
    scale = int(power or 0) + max(len(before) - _DIGITS, 0)
    scale -= min(len(after), max(_DIGITS - len(before), 0))
    if scale >= 0:
        return number * float(f"1e{scale}")
    if scale < -_POWERS:
        return number / float(f"1e{-scale - _POWERS}") / float(f"1e{_POWERS}")
    return number / float(f"1e{-scale}")


_DIGITS = 17
_POWERS = 308


_ID = {"2020": "image_name", "milk10k": "lesion_id"}
"""The column that names the rows, where it is not `image`."""


def _name(year: str) -> str:
    return "MILK10k" if year == "milk10k" else f"ISIC {year}"


def _lesions(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per lesion, in the order of their first images: the mean of its probabilities.

    Raises:
        DataError: if an image is of no lesion, or a lesion is of two classes.
    """
    nameless = rows["lesion_id"] == "" if "lesion_id" in rows else pd.Series([True] * len(rows))
    if nameless.any():
        raise DataError(
            f"MILK10k's rows are lesions, and {int(nameless.sum())} of {len(rows)} predictions "
            "name none. Give them a column lesion_id."
        )
    groups = rows.groupby("lesion_id", sort=False)
    if (several := groups["target"].nunique() > 1).any():
        raise DataError(f"Lesion {several.idxmax()} has two classes. `lesionlab audit` lists all.")
    numbers = groups[[name for name in rows if str(name).startswith("p_")]].mean()
    return numbers.assign(target=groups["target"].first()).reset_index()


def _homeless(classes: Sequence[str], year: str) -> list[str]:
    names = [*LAYOUTS[year].values(), *(["benign"] if year == "2020" else [])]
    return [name for name in classes if name not in names]


def _check_images(table: pd.DataFrame, faults: list[Finding]) -> None:
    if nameless := int((table["image"].str.strip() == "").sum()):
        faults.append(Finding("no_image", f"{nameless} rows have none", column="image"))
    named = table["image"][table["image"] != ""]
    faults += [
        Finding("duplicate", f"{name} stands twice", column="image", image_id=name)
        for name in named[named.duplicated()].unique()
    ]


def _check_numbers(
    table: pd.DataFrame,
    columns: Sequence[str],
    faults: list[Finding],
    *,
    what: str,
    exact: tuple[float, ...] = (),
    most: float = 1.0,
) -> None:
    """Turn columns of text into numbers, in place; a fault for each that holds others."""
    for name in columns:
        values = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
        good = values.isin(exact) if exact else (values >= 0) & (values <= most) & (values < np.inf)
        if not good.all():
            first = table["image"][~good].iloc[0]
            detail = f"{int((~good).sum())} rows are not {what}, first {first}"
            faults.append(Finding("not_a_number_of_it", detail, column=name))
        table[name] = values


def _raise(faults: list[Finding], path: Path, what: str) -> None:
    if faults:
        found = findings_table(faults)
        raise FindingsError(f"{path} is not {what}:\n{describe(found)}", found)
