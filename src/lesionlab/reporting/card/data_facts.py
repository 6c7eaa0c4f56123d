"""The facts of a card about its data: where they are from, who is in them, how they are divided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.collections.registry import SOURCES
from lesionlab.data.collections.source import Source
from lesionlab.data.splits import Split
from lesionlab.data.summary import ages
from lesionlab.display import percent
from lesionlab.errors import LesionlabError
from lesionlab.recipe.schema import Capped, NoFusion
from lesionlab.reporting import formatting
from lesionlab.reporting.card.outline import CardTable, Subject, Told
from lesionlab.reporting.page import wording
from lesionlab.run import SPLIT
from lesionlab.tables import classes_of, count
from lesionlab.taxonomy import GROUPINGS, MALIGNANT_RULE, full_name

# column `dataset` of HAM10000's metadata, version 2
_PARTS_OF = dict.fromkeys(("rosendahl", "vidir_molemax", "vidir_modern", "vienna_dias"), "ham10000")
_PARTS_OF |= {
    file.name.removesuffix(".npz"): key
    for key, source in SOURCES.items()
    for file in source.files
    if file.name.endswith(".npz")
}  # MedMNIST's catalogues name the file
_PUBLISHED = {
    "ham10000": {
        "data.kind": "dermatoscopic images of pigmented lesions",
        "data.centres": "Department of Dermatology of the Medical University of Vienna, Austria, "
        "and the practice of Cliff Rosendahl in Queensland, Australia",
        "data.period": "over a period of 20 years",
        "data.labelling": "more than half of the lesions by histopathology, the others by "
        "follow-up, expert consensus or in-vivo confocal microscopy",
    }
}  # Tschandl, Rosendahl and Kittler, Sci. Data 5:180161 (2018): abstract and methods
_COLUMNS = {"age": "age", "sex": "sex", "site": "site", "dx_type": "confirmation",
            "patient_id": "patient", "lesion_id": "lesion"}  # fmt: skip
_MOST = 6  # sites that are named


def of_data(subject: Subject) -> dict[str, Told]:
    """Facts about the collection, the people in it and the split, as far as they are known."""
    made = dict(_of_predictions(subject)) | dict(_of_split(subject))
    if subject.data is None:
        if subject.own_folder:
            made["data.collection"] = Told(
                f"the catalogue that was called {subject.own_folder}; it is not at hand, or was "
                "changed since"
            )
        return made | dict(published(list(subject.info.get("sources", ()))))
    return made | dict(_of_catalogue(subject, subject.data))


def tables(subject: Subject) -> Iterator[CardTable]:
    """Images and lesions per class and part; age, sex, site and confirmation per part."""
    parts = formatting.parts_of(subject.predictions)
    rows = formatting.part_table(subject.predictions)
    shown = pd.DataFrame(
        [(row.code, *(f"{n} / {of.split()[0]}" if of else n for n, of in row.cells))
         for row in rows],
        columns=["class", *parts, "all"],
    )  # fmt: skip
    reading = "Images / lesions."
    if (subject.predictions["lesion_id"] == "").all():
        reading = "Images; lesions are not named."
    counts = formatting.class_counts(subject.predictions).rename_axis("class").reset_index()
    yield CardTable("classes", "Images per class and part", reading, counts, shown)
    if subject.data is not None:
        people = _people(_joined(subject, subject.data))
        shown = people.assign(
            **{
                name: [
                    f"{n:,} ({percent(share)})" for n, share in zip(people[name], of, strict=True)
                ]
                for name, of in _shares(people).items()
            }
        )
        reading = "Counted by image: a lesion with three images counts three times."
        yield CardTable("people", "Who is in each part", reading, people, shown)


def _of_predictions(subject: Subject) -> Iterator[tuple[str, Told]]:
    counts = subject.predictions["target"].value_counts()
    listed = ", ".join(f"{name} {percent(n / counts.sum())}" for name, n in counts.items())
    most, least = counts.index[0], counts.index[-1]
    ratio = f"; {counts.iloc[0] / counts.iloc[-1]:.0f} images of {most} to one of {least}"
    yield "data.balance", Told(f"{listed}{ratio if len(counts) > 1 else ''}.")
    known = full_name
    names = ", ".join(
        label if known(label) == label else f"{label} ({known(label)})"
        for label in classes_of(subject.predictions)
    )
    yield "model.classes", Told(names)
    yield "use.classes", Told(f"{names}. It knows no other, and answers one of these always.")


def _of_split(subject: Subject) -> Iterator[tuple[str, Told]]:
    predictions = subject.predictions
    parts = formatting.parts_of(predictions)
    yield (
        "split.sizes",
        Told(
            "; ".join(f"{part} {_size(predictions[predictions['part'] == part])}" for part in parts)
            + ("; every image in the test part of one fold" if subject.folds else "")
        ),
    )
    proved, text = overlap(subject)
    if text:
        yield "split.disjoint", Told(text)
    if subject.run is None:
        return
    how = subject.info.get("split", {})
    told = dict(wording.facts(predictions, subject.result, subject.run))["Split"]
    if subject.folds is not None:
        told = told.partition(";")[0] + "; each fold is the test part once"
    yield "split.how", Told(told)
    if how.get("kind") in ("folds", "holdout"):
        yield (
            "split.same",
            Told("none: training and test are drawn at random from the same catalogue"),
        )
    if how.get("by") == "patient_id" and proved:
        yield "split.patients", Told("none: the split is by patient, and no group is in two parts")


def _size(rows: pd.DataFrame) -> str:
    images = count(len(rows), "image")
    if (rows["lesion_id"] == "").all():
        return f"{images} of unknown lesions"
    return f"{images} of {count(formatting.lesions(rows), 'lesion')}"


def overlap(subject: Subject) -> tuple[bool, str]:
    """Whether it is proved that no group is in two parts, and what to say; "" if nothing."""
    if subject.folds is None and len(formatting.parts_of(subject.predictions)) > 1:
        return wording.overlap(subject.predictions)
    return _overlap_of_split(subject)


def _overlap_of_split(subject: Subject) -> tuple[bool, str]:
    """What the split in the folder itself proves, in every fold."""
    home = subject.folds or subject.run
    if home is None:
        return False, ""
    try:
        split = Split.open(home.folder / SPLIT)
    except LesionlabError:
        return False, ""
    crossing = sum(
        int((split.table.groupby("group")[f"fold_{fold}"].nunique() > 1).sum())
        for fold in range(split.folds)
    )
    by = {"lesion_id": "lesion", "patient_id": "patient"}.get(split.by, "group")
    if crossing:
        return False, f"LEAK: {count(crossing, by)} in more than one part of a fold."
    groups = count(split.table["group"].nunique(), by)
    return True, f"Checked in {count(split.folds, 'fold')}: none of the {groups} is in two parts."


def _of_catalogue(subject: Subject, data: Catalogue) -> Iterator[tuple[str, Told]]:
    name = dict(wording.facts(subject.predictions, subject.result, subject.run, data))["Data"]
    yield "data.collection", Told(name)
    if not (data.table["source"] == "").any():
        yield from published(sorted(set(data.table["source"])))
    table = _joined(subject, data)
    sizes = data.table[["width", "height"]].dropna().drop_duplicates()
    if len(sizes):
        (width, height), others = sizes.iloc[0], len(sizes) - 1
        told = f"{width:.0f} × {height:.0f} pixels (width × height) as stored"
        yield "data.files", Told(f"{told}, and {others} other sizes" if others else told)
    if told := _demographics(table):
        yield "data.demographics", Told(told)
    yield (
        "data.missing",
        Told(
            f"of {count(len(table), 'image')}: "
            + ", ".join(
                f"{label} unknown for {int(_unknown(table[column]).sum()):,}"
                for column, label in _COLUMNS.items()
            )
        ),
    )
    if told := _confirmed(table):
        yield "data.confirmation", Told(told)
    if told := _confirmed(table[table["part"] == subject.result.part]):
        yield "data.confirmation_test", Told(told)
    if told := _histology(table):
        yield "data.histology", Told(told)
    if told := _shift(table, subject.result.part):
        yield "data.shift", Told(told)
    if _unknown(data.table["patient_id"]).any() and subject.run is not None:
        told = "patients are not named for all images, so this cannot be checked"
        if subject.info.get("split", {}).get("by") != "patient_id":
            yield "split.patients", Told(f"not excluded: {told}")
    elif not _unknown(data.table["patient_id"]).any():
        crossing = int((table.groupby("patient_id")["part"].nunique() > 1).sum())
        if len(formatting.parts_of(table)) > 1:
            yield "split.patients", Told(f"{count(crossing, 'patient')} in more than one part")
    yield "preprocessing.left_out", Told(_left_out(subject, data, table))


def published(names: Sequence[str]) -> Iterator[tuple[str, Told]]:
    """What the publishers of known collections say; nothing of a collection that is not known.

    Args:
        names: the sources that a catalogue names.
    """
    keys = [_PARTS_OF.get(name, name) for name in names]
    known = {key: SOURCES[key] for key in keys if key in SOURCES}
    others = [name for name, key in zip(names, keys, strict=True) if key not in SOURCES]
    if not known:
        return
    rest = f" Of {', '.join(others)} it is not known." if others else ""

    def told(value: str) -> Told:
        return Told(value + rest, "publication")

    def all_of(name: str) -> str:
        return "; ".join(dict.fromkeys(_said(source, name) for source in known.values()))

    yield "data.licence", told(all_of("licence"))
    yield "data.citation", told(all_of("citation"))
    yield "data.homepage", told(all_of("homepage"))
    for key in ("data.kind", "data.centres", "data.period", "data.labelling"):
        texts = [_PUBLISHED[each][key] for each in known if each in _PUBLISHED]
        if len(texts) == len(known):
            yield key, told("; ".join(dict.fromkeys(texts)))


def _said(source: Source, name: str) -> str:
    if name == "licence":
        return f"{source.licence.name} ({source.licence.key}). {source.licence.summary}"
    if name == "citation":
        return source.citation.partition("\n")[0]
    return source.homepage


def _joined(subject: Subject, data: Catalogue) -> pd.DataFrame:
    """The catalogue's rows of the images that are predicted, with the part of the predictions."""
    parts = subject.predictions.drop_duplicates("image_id").set_index("image_id")["part"]
    table = data.table[data.table["image_id"].isin(parts.index)]
    return table.assign(part=table["image_id"].map(parts))


def _unknown(values: pd.Series) -> pd.Series:
    return values.isna() | (values == "")


def _demographics(table: pd.DataFrame) -> str:
    told = []
    years = table["age"].dropna()
    if len(years):
        told.append(
            f"age {years.min():.0f} to {years.max():.0f} years, median {years.median():.0f}"
        )
    for column in ("sex", "site"):
        named = table[column][~_unknown(table[column])].value_counts(normalize=True)
        if len(named):
            listed = ", ".join(f"{name} {percent(x)}" for name, x in named.head(_MOST).items())
            more = f" and {len(named) - _MOST} more" if len(named) > _MOST else ""
            told.append(f"{column}: {listed}{more}")
    return "; ".join(told) + (". Shares are of images whose value is known." if told else "")


def _confirmed(table: pd.DataFrame) -> str:
    """How diagnoses were confirmed; "" if the catalogue does not say so of any image."""
    named = ~_unknown(table["dx_type"])
    if not named.any():
        return ""
    counts = table["dx_type"][named].value_counts()
    listed = [f"{name} {percent(n / len(table))}" for name, n in counts.items()]
    if not named.all():
        listed.append(f"not known {percent(1 - named.mean())}")
    return f"{', '.join(listed)} of {count(len(table), 'image')}"


def _histology(table: pd.DataFrame) -> str:
    kinds = GROUPINGS["malignant-benign"].groups
    named = set(table["target"])
    if not named <= set(kinds) or _unknown(table["dx_type"]).all():
        return ""
    bad = table[table["target"].map(dict(kinds)) == "malignant"]
    if bad.empty:
        return ""
    seen = int((bad["dx_type"] == "histo").sum())
    return f"histo for {seen:,} of {count(len(bad), 'malignant image')} ({MALIGNANT_RULE})"


def _shift(table: pd.DataFrame, part: str) -> str:
    learnt, scored = table[table["part"] == "train"], table[table["part"] == part]
    if part == "train" or learnt.empty or scored.empty:
        return ""
    told = []
    shares = [each["target"].value_counts(normalize=True) for each in (learnt, scored)]
    gap = shares[0].sub(shares[1], fill_value=0).abs()
    told.append(
        f"the share of no class differs by more than {100 * gap.max():.1f} points ({gap.idxmax()})"
    )
    middle = [each["age"].median() for each in (learnt, scored)]
    if not any(map(pd.isna, middle)):
        told.append(f"median age {middle[0]:.0f} and {middle[1]:.0f} years")
    sexes = [each["sex"][~_unknown(each["sex"])].eq("female") for each in (learnt, scored)]
    if all(map(len, sexes)):
        told.append(f"female {percent(sexes[0].mean())} and {percent(sexes[1].mean())}")
    return f"Part train and part {part}: {', '.join(told)}."


def _left_out(subject: Subject, data: Catalogue, table: pd.DataFrame) -> str:
    told = [note for note in data.notes if "left out" in note]
    if not told:
        told.append("No note of the catalogue says that an image was left out.")
    if lacking := len(data) - len(table):
        told.append(f"{count(lacking, 'image')} of the catalogue are not in these predictions.")
    if subject.run is not None and isinstance(subject.run.recipe.sampling, Capped):
        told.append(f"Training saw at most {subject.run.recipe.sampling.images} images per class.")
    return " ".join(told)


def _people(table: pd.DataFrame) -> pd.DataFrame:
    """Images by age group, sex, site and confirmation in each part."""
    grouped, _ = ages.groups(table["age"])
    table = table.assign(age=grouped)
    parts = formatting.parts_of(table)
    rows = []
    for column in ("age", "sex", "site", "dx_type"):
        values = table[column].where(~_unknown(table[column]), "not known")
        counts = pd.crosstab(values, table["part"]).reindex(columns=list(parts), fill_value=0)
        order = sorted(counts.index, key=lambda name: (name == "not known", _order(name, counts)))
        for name in order:
            rows.append((_COLUMNS[column], name, *map(int, counts.loc[name])))
    return pd.DataFrame(rows, columns=["characteristic", "value", *parts])


def _order(name: str, counts: pd.DataFrame) -> tuple[int, str]:
    number = name.partition("–")[0]
    first = int(number) if number.isdigit() else 1000 if name.startswith("over") else -1
    return (first, name) if first >= 0 else (-int(counts.loc[[name]].to_numpy().sum()), name)


def _shares(people: pd.DataFrame) -> dict[str, list[float]]:
    """Each part's counts as shares of that part, by column."""
    totals = people.groupby("characteristic")[list(people.columns[2:])].transform("sum")
    return {name: (people[name] / totals[name]).tolist() for name in totals.columns}


def metadata_fields(subject: Subject) -> tuple[str, ...]:
    """The metadata that the network looks at; empty if it looks at none."""
    if subject.run is None or isinstance(subject.run.recipe.model.fusion, NoFusion):
        return ()
    return subject.run.recipe.model.fusion.fields
