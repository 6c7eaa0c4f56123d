"""The clinical sections of a page on a collection: patients, sites, how diagnoses were made."""

from __future__ import annotations

import pandas as pd

from lesionlab.data.summary import ages, metadata_tables
from lesionlab.data.summary.metadata_tables import UNKNOWN, has
from lesionlab.reporting.figures import distributions
from lesionlab.reporting.page import findings
from lesionlab.reporting.page.section import (
    MOST_ROWS,
    SEXES,
    Exhibit,
    Section,
    ages_by,
    counted,
    cut,
    flat,
    known,
    numbers,
    palette,
    shares,
    within,
)

_MOST_AGES = 40  # that are drawn one by one


def patients(frame: pd.DataFrame) -> Section:
    """Ages and sexes, and what they have to do with the classes."""
    shown, absent = [], []
    if has(frame, "age"):
        shown += _ages(frame)
    else:
        absent.append("No image has an age: no histogram, no ages by class.")
    if has(frame, "sex"):
        colours = distributions.shades([str(each) for each in frame["sex"].cat.categories], SEXES)
        shown += [
            counted(
                frame,
                "sex",
                "Sex",
                "Counted by image; a lesion with three images counts three times. The table counts "
                "lesions too.",
                colours,
            ),
            within(
                frame,
                "target",
                "sex",
                "class_by_sex",
                "Sex within each class",
                "class",
                "Of the images of each class, the share from each sex.",
                colours,
            ),
            numbers(
                frame,
                "sex",
                "target",
                "sex_by_class_counts",
                "Images of each sex by class",
                palette(frame),
            ),
        ]
    else:
        absent.append("No image has a sex: no classes by sex.")
    mixed = metadata_tables.malignancy_by_sex_and_age(frame) if has(frame, "age") else None
    if mixed is not None:
        shown.append(
            Exhibit(
                "malignant_by_sex_and_age",
                "Malignant share by sex, within age groups",
                "A difference between the sexes over all ages may be one of their ages: compare "
                "within a row. Small groups say little.",
                mixed,
            )
        )
    return Section("patients", "The patients", tuple(shown), tuple(absent))


def _ages(frame: pd.DataFrame) -> list[Exhibit]:
    table = ages.describe(frame)
    whole = table.iloc[0]
    bins, curves, counts = ages.histogram(frame), ages.curves(frame), ages.values(frame)
    title = f"Age in {ages.BINS} bins, {known(frame, 'age')}"
    marks = {"mean": whole["mean"], "median": whole["median"]}
    made = [
        Exhibit(
            "age",
            title,
            f"Mean {whole['mean']:.2f}, standard deviation {whole['sd']:.2f}, median "
            f"{whole['median']:g}, from {whole['min']:g} to {whole['max']:g} years. Unknown: "
            f"{whole['unknown']:,} images, left out. Age 0: {whole['at_zero']:,} images, counted. "
            "The smooth line is a Gaussian kernel density estimate (Scott's bandwidth), the dashed "
            "one a normal distribution with the same mean and deviation.",
            table.head(1),
            distributions.histogram(bins, curves, title, "age (years)", marks),
            {"age_histogram": bins, "age_curves": curves},
        )
    ]
    if len(counts) <= _MOST_AGES:
        title = f"Age as recorded, {known(frame, 'age')}"
        drawn = distributions.spikes(
            counts.set_index("age")["images"], title, "age (years)", "images"
        )
        by_age = counts.set_index("age")["images"]
        reading = findings.of_values(by_age, "years") + "One bar per age that occurs in the table."
        made.append(Exhibit("age_values", title, reading, counts, drawn))
    return [
        *made,
        ages_by(
            frame,
            "target",
            "age_by_class",
            "Age by class",
            "Box: the middle half of the ages, with the median; whiskers: up to 1.5 box lengths "
            "beyond it; dots: ages further out. Counted by image.",
        ),
        within(
            frame,
            "age_group",
            "target",
            "class_by_age_group",
            "Classes within each age group",
            "age group (years)",
            "Of the images of each age group, the share of each class.",
            palette(frame),
        ),
        numbers(
            frame,
            "age_group",
            "target",
            "age_group_by_class_counts",
            "Images of each age group by class",
            palette(frame),
        ),
    ]


def sites(frame: pd.DataFrame) -> Section:
    """Where on the body, and what that has to do with the classes."""
    if not has(frame, "site"):
        return Section("sites", "Where on the body", (), ("No image has a site.",))
    named = int((frame["site"] != UNKNOWN).sum())
    counts = metadata_tables.cross(frame, "site", "target")
    title = f"Classes at each site, n = {len(frame):,} images"
    shown = (
        counted(
            frame,
            "site",
            "Site on the body",
            f"In the source's words; known for {named:,} of {len(frame):,} images.",
        ),
        Exhibit(
            "site_by_class",
            title,
            findings.of_shares(counts)
            + "Each row is a site and adds up to 100 %: of the images from there, the share of "
            f"each class, with the number of images below it.{cut(len(counts))}",
            flat(counts),
            distributions.heat(counts.head(MOST_ROWS), title, "site", "class"),
            shares(counts, "site_by_class"),
        ),
    )
    return Section("sites", "Where on the body", shown)


def confirmation(frame: pd.DataFrame) -> Section:
    """How the diagnoses were made sure, and where the images come from."""
    shown, absent = [], []
    if has(frame, "dx_type"):
        colours = distributions.shades([str(each) for each in frame["dx_type"].cat.categories])
        shown += [
            counted(
                frame,
                "dx_type",
                "Confirmation of the diagnosis",
                "How the diagnosis was made sure: histo (under the microscope), follow_up (no "
                "change over time), consensus (of experts), confocal (confocal microscopy).",
                colours,
            ),
            within(
                frame,
                "target",
                "dx_type",
                "class_by_dx_type",
                "Confirmation within each class",
                "class",
                "Of the images of each class, the share confirmed in each way. Where one colour "
                "fills a row, the way of confirming gives the diagnosis away.",
                colours,
            ),
        ]
    else:
        absent.append("No image says how its diagnosis was confirmed (dx_type).")
    if len(frame["source"].cat.categories) > 1:
        shown.append(
            within(
                frame,
                "source",
                "target",
                "class_by_source",
                "Classes within each source",
                "source",
                "Of the images of each source, the share of each class. Unlike rows mean that a "
                "model can learn the camera instead of the lesion.",
                palette(frame),
            )
        )
    return Section("confirmation", "How it was established", tuple(shown), tuple(absent))
