"""The sections of a page on a collection: every table and figure of its metadata."""

from __future__ import annotations

import pandas as pd

from lesionlab import taxonomy
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.summary import leakage, metadata_tables
from lesionlab.data.summary.metadata_tables import has
from lesionlab.display import percent
from lesionlab.reporting.explore import clinical_sections
from lesionlab.reporting.figures import distributions
from lesionlab.reporting.figures.style import TEXT
from lesionlab.reporting.page import findings
from lesionlab.reporting.page.section import (
    PARTS,
    SEXES,
    Exhibit,
    Section,
    ages_by,
    flat,
    known,
    palette,
    within,
)

CAP = 50
"""Images per class of the small balanced subset whose size is told."""
_TEST = 0.2  # share of images in the test part whose leak is told
_KINDS = {"benign": "#2E86B5", "malignant": "#C9702B"}


def sections(data: Catalogue, frame: pd.DataFrame) -> list[Section]:
    """Everything that there is to show of a collection, in the order of the page.

    Args:
        data: the catalogue.
        frame: from `metadata_tables.prepare`, with the parts to compare, if any.
    """
    made = [
        _classes(frame),
        clinical_sections.patients(frame),
        clinical_sections.sites(frame),
        clinical_sections.confirmation(frame),
        _lesions(frame),
        _files(frame),
    ]
    if has(frame, "part"):
        made.append(_parts(frame))
    return [*made, _columns(data, frame)]


def _classes(frame: pd.DataFrame) -> Section:
    table = metadata_tables.classes(frame)
    index = table.set_index("class")
    images = table["images"][table["images"] > 0]
    named = has(frame, "lesion_id")
    title = f"Images per class, n = {len(frame):,} images"
    title += f" of {frame['lesion'].nunique():,} lesions" if named else ""
    inner = index["lesions"] if named else None
    shown = [
        Exhibit(
            "classes",
            title,
            f"The largest class has {images.max() / images.min():.1f} times the images of the "
            "smallest: the imbalance ratio. A model that always answers the largest class is right "
            f"for {percent(table['share'].max())} of the images and useless.",
            table,
            distributions.bars(
                index["images"], title, "images", inner=inner, colours=palette(frame)
            ),
        )
    ]
    absent = []
    if (kinds := metadata_tables.malignancy(frame)) is not None:
        title = f"Benign and malignant, n = {len(frame):,} images"
        index = kinds.set_index("kind")
        inner = index["lesions"] if named else None
        shown.append(
            Exhibit(
                "malignancy",
                title,
                findings.of_counts(index["images"], len(frame))
                + f"The rule: {taxonomy.MALIGNANT_RULE}. It is a convention: the ISIC Archive "
                "calls actinic keratosis indeterminate.",
                kinds,
                distributions.bars(index["images"], title, "images", inner=inner, colours=_KINDS),
            )
        )
    else:
        absent.append("Benign and malignant are not counted: the rule knows other classes.")
    shown.append(
        Exhibit(
            "class_weights",
            "Class weights",
            "What an image of each class would weigh in training under every scheme, scaled to "
            "mean 1 over the classes: the rarer, the more. Inverse and median-frequency weights "
            "are then the same. Training computes them from its own part. A balanced subset of at "
            f"most {CAP} images per class would keep {images.clip(upper=CAP).sum():,} of "
            f"{len(frame):,} images.",
            metadata_tables.weights(frame),
            more={"class_weights_unscaled": metadata_tables.weights(frame, scaled=False)},
        )
    )
    return Section("classes", "The diagnoses", tuple(shown), tuple(absent))


def _lesions(frame: pd.DataFrame) -> Section:
    heading = "Lesions, and the leak"
    if not has(frame, "lesion_id"):
        text = "No image names its lesion: what a split by image leaks cannot be computed."
        return Section("lesions", heading, (), (text,))
    sizes = leakage.sharing(frame)
    leak = leakage.by_image(frame, _TEST)
    shared, leaked = float(leak["shared"].iloc[0]), float(leak["leaked"].iloc[0])
    drawn = f"{100 * _TEST:.0f} %"
    first = f"Images per lesion, n = {frame['lesion'].nunique():,} lesions"
    second = f"Test images with a sibling in training, if {drawn} are drawn by image"
    second += f", n = {len(frame):,} images"
    shown = (
        Exhibit(
            "images_per_lesion",
            first,
            f"{percent(shared)} of the images share their lesion with another image.",
            sizes,
            distributions.spikes(
                sizes.set_index("images_per_lesion")["lesions"],
                first,
                "images of one lesion",
                "lesions",
                told=len(sizes) <= 10,
            ),
        ),
        Exhibit(
            "leak",
            second,
            f"If {drawn} of the images were drawn for testing without regard to lesions, "
            f"{percent(leaked)} of them would have a sibling of the same lesion in training (the "
            "mean over all such draws, exact). Split by lesion and it is none.",
            leak,
            distributions.bars(
                100 * leak.set_index("class")["leaked"].fillna(0),
                second,
                "expected share of the test images (%)",
                colours={**palette(frame), "all": TEXT},
                of=0,
                form="{:.1f} %",
            ),
        ),
    )
    blank = int((frame["lesion_id"] == "").sum())
    absent = (f"{blank:,} images name no lesion and count as one each.",) if blank else ()
    return Section("lesions", heading, shown, absent)


def _files(frame: pd.DataFrame) -> Section:
    table = metadata_tables.shapes(frame)
    if table.empty:
        return Section("files", "The image files", (), ("No image's size is known.",))
    aspects = table.groupby(table["aspect"].round(2))["images"].sum().sort_index()
    low, high = aspects.index.min(), aspects.index.max()
    span = f"{low:.2f} everywhere" if low == high else f"from {low:.2f} to {high:.2f}"
    title = f"Aspect ratio (height / width), {known(frame, 'aspect')}"
    exhibit = Exhibit(
        "aspect_ratios",
        title,
        f"Height / width of every image, not of a sample: {span}. Image sizes that go with a class "
        "would be a hint that has nothing to do with the lesion.",
        table,
        distributions.spikes(aspects, title, "height / width", "images", told=len(aspects) <= 6),
    )
    return Section("files", "The image files", (exhibit,))


def _parts(frame: pd.DataFrame) -> Section:
    counts = metadata_tables.cross(frame, "target", "part")
    of_part = metadata_tables.row_shares(counts.T).T
    sizes = ", ".join(f"{part} {images:,}" for part, images in counts.sum().items())
    title = f"Classes in each part, n = {sizes} images"
    colours = distributions.shades(list(of_part.columns), PARTS)
    shown = [
        Exhibit(
            "parts_by_class",
            title,
            findings.of_shares(counts.T)
            + "Of the images of each part, the share of each class: like bars mean like parts.",
            flat(counts),
            distributions.grouped(of_part, title, "share of the part's images", colours),
            {"parts_by_class_shares": flat(of_part)},
        )
    ]
    if has(frame, "age"):
        reading = "Box: the middle half of the ages, with the median."
        shown.append(ages_by(frame, "part", "parts_by_age", "Age in each part", reading))
    if has(frame, "sex"):
        shown.append(
            within(
                frame,
                "part",
                "sex",
                "parts_by_sex",
                "Sex in each part",
                "part",
                "Of the images of each part, the share from each sex.",
                distributions.shades([str(each) for each in frame["sex"].cat.categories], SEXES),
            )
        )
    absent: tuple[str, ...] = ()
    if has(frame, "lesion_id"):
        shown.append(
            Exhibit(
                "parts_leak",
                "Lesions across the parts",
                "Images whose lesion has an image in training. It must be none.",
                leakage.across(frame),
            )
        )
    else:
        absent = ("No image names its lesion: whether lesions cross parts cannot be checked.",)
    return Section("parts", "The parts side by side", tuple(shown), absent)


def _columns(data: Catalogue, frame: pd.DataFrame) -> Section:
    table = metadata_tables.columns(data)
    missing = table[table["unknown"] > 0]
    shown = []
    if len(missing):
        title = f"Missing values per column, n = {len(frame):,} images"
        drawn = missing.set_index("column")["unknown"]
        shown.append(
            Exhibit(
                "missing",
                title,
                findings.of_counts(drawn, len(frame), "images without a value")
                + "Columns not shown are complete.",
                table[["column", "known", "unknown", "unknown_share"]],
                distributions.bars(drawn, title, "images without a value", of=len(frame)),
            )
        )
    shown += [
        Exhibit(
            "columns",
            "Every column: what it means, holds and lacks",
            "Unknown means an empty cell. Age 0 is known. Distinct: how many different values.",
            table,
        ),
        Exhibit(
            "numbers",
            "Columns of numbers",
            "Age in years, width and height in pixels, aspect is height / width, bytes per file.",
            metadata_tables.numbers(frame),
        ),
        Exhibit(
            "unknown_by_class",
            "Unknown values by class",
            "Of the images of each class, the share whose value is not known.",
            metadata_tables.unknown_by_class(frame),
        ),
    ]
    absent = () if len(missing) else ("No value is missing in any column.",)
    return Section("columns", "What is known, and what is missing", tuple(shown), absent)
