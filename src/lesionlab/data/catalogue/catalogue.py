"""Catalogue: a table of images and its sidecar, made from a raw folder in any known layout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

import lesionlab
from lesionlab._methods import PublicFunction
from lesionlab.advice import command
from lesionlab.data.catalogue.account import account_of
from lesionlab.data.catalogue.layouts import Reading, read_layout
from lesionlab.data.catalogue.merge_lesions import clashes, merge_lesions, read_verdicts
from lesionlab.data.catalogue.validation import check_files, check_table, scan_files
from lesionlab.data.images.reader import file_of
from lesionlab.data.sources.draft import Draft
from lesionlab.data.sources.patient_metadata import odd_ages, odd_sexes, read_ages, read_sexes
from lesionlab.display import Result
from lesionlab.errors import DataError, FindingsError
from lesionlab.files import fingerprint, read_json, write_csv, write_json
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import CATALOGUE, Finding, describe, findings_table, lesions_of, read_csv
from lesionlab.taxonomy import order

FILE_NAME = "catalogue.csv"
JOINED = "joined"
"""The layout of a catalogue that `joining.join` made: no reader can make it again."""
_NUMBERS = ("age", "width", "height", "bytes")


@dataclass(frozen=True, repr=False)
class Catalogue(Result):
    """A table of images that has passed its checks.

    Attributes:
        table: one row per image, columns `tables.CATALOGUE`, sorted by image_id. Unknown text
            is "", unknown numbers are NaN.
        classes: the classes in order; every later table follows it.
        root: folder that the paths are relative to.
        layout: which reader made it.
        notes: what a reader of reports has to know about this source.
        home: folder that it was saved to or opened from; None while it is only in memory.
        account: what became of every file and row, as `account.Account.to_dict` gives it.
        reading: how the folder was read, as `layouts.Reading.to_dict` gives it, and `excluded`:
            image_id and kind of the findings that were left out.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    root: Path
    layout: str = ""
    notes: tuple[str, ...] = ()
    home: Path | None = field(default=None, compare=False)
    account: Mapping[str, Any] = field(default_factory=dict, compare=False)
    reading: Mapping[str, Any] = field(default_factory=dict, compare=False)

    audit = PublicFunction(lambda: lesionlab.audit)
    clean = PublicFunction(lambda: lesionlab.clean)
    explore = PublicFunction(lambda: lesionlab.explore)
    measure_artefacts = PublicFunction(lambda: lesionlab.measure_artefacts)
    split = PublicFunction(lambda: lesionlab.split)

    _tables: ClassVar[tuple[str, ...]] = ("counts",)

    def __repr__(self) -> str:
        return f"<Catalogue of {self.size}>"

    @classmethod
    def open(cls, path: Catalogue | str | Path) -> Catalogue:
        """Open a catalogue that `save` wrote.

        Args:
            path: its folder or its catalogue.csv. A catalogue is returned as it is, so that what
                takes a catalogue takes its folder as well.

        Raises:
            DataError: if there is none.
        """
        if isinstance(path, Catalogue):
            return path
        path = Path(path)
        file = path / FILE_NAME if path.is_dir() else path
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        if not file.is_file():
            raise DataError(
                f"{path} holds no {FILE_NAME}. Make one first: {command('catalogue', path)}"
            )
        side = read_json(file.with_suffix(".json"))
        table = read_csv(file, required=CATALOGUE)
        faults = [
            each
            for each in check_table(table, side["classes"])
            if each.severity == "error" or each.kind == "age_not_known"
        ]
        for name in _NUMBERS:
            table[name] = pd.to_numeric(table[name].where(table[name] != "", None), errors="coerce")
        made = cls(
            table,
            tuple(side["classes"]),
            _root_of(side, file.parent, str(table["path"].iloc[0]) if len(table) else ""),
            side.get("layout", ""),
            tuple(side.get("notes", ())),
            home=file.parent,
            account=side.get("account", {}),
            reading=side.get("reading", {}),
        )
        if faults or made.fingerprint != side["fingerprint"]:
            listed = f":\n{describe(findings_table(faults))}" if faults else "."
            raise DataError(
                f"{file} was changed after lesionlab wrote it{listed}\n"
                "Make it again with `lesionlab catalogue`, leaving images out with --exclude."
            )
        return made

    def save(self, folder: str | Path) -> Catalogue:
        """Write catalogue.csv and its sidecar catalogue.json; return the catalogue, at home there.

        Raises:
            DataError: if the disk is full or the folder cannot be written.
        """
        folder = Path(folder)
        write_csv(folder / FILE_NAME, self.table)
        write_json(
            folder / "catalogue.json",
            {
                "fingerprint": self.fingerprint,
                "classes": list(self.classes),
                "layout": self.layout,
                **_root_entries(self.root.resolve(), folder.resolve()),
                "images": len(self.table),
                "lesions": self.lesions,
                "notes": list(self.notes),
                **({"account": self.account} if self.account else {}),
                **({"reading": self.reading} if self.reading else {}),
            },
        )
        return replace(self, home=folder)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over ids, labels, groups and file hashes; never over paths."""
        columns = ["image_id", "target", "lesion_id", "patient_id", "sha256"]
        rows = self.table[columns].astype(str).sort_values("image_id").to_numpy().tolist()
        return fingerprint({"classes": list(self.classes), "rows": rows})

    @property
    def lesions(self) -> int:
        """Number of lesions; images without a lesion id count as one each."""
        known = self.table["lesion_id"][self.table["lesion_id"] != ""]
        return int(known.nunique() + (len(self.table) - len(known)))

    @property
    def size(self) -> str:
        """Number of images and of lesions, in words; where no lesion id is known, that."""
        if (self.table["lesion_id"] == "").all():
            return f"{len(self.table):,} images of unknown lesions"
        return f"{len(self.table):,} images of {self.lesions:,} lesions"

    def counts(self) -> pd.DataFrame:
        """Images and lesions per class, in class order: columns class, images, share, lesions."""
        rows = []
        for name in self.classes:
            of_class = self.table[self.table["target"] == name]
            lesions = lesions_of(of_class).nunique()
            rows.append((name, len(of_class), len(of_class) / len(self.table), lesions))
        return pd.DataFrame(rows, columns=["class", "images", "share", "lesions"])

    def regrouped(self, groups: Mapping[str, str], note: str = "") -> Catalogue:
        """The same images with other classes: another question to them, and another catalogue.

        Args:
            groups: the new class of each class, such as `taxonomy.GROUPINGS` has.
            note: the rule in words, added to the notes.

        Raises:
            DataError: naming every class that `groups` says nothing about.
        """
        if unknown := [name for name in self.classes if name not in groups]:
            raise DataError(
                f"Nothing says what {', '.join(unknown)} would be{f' ({note})' if note else ''}. "
                "Read the folder again with --relabel LABEL=CLASS for each of them (LABEL= takes "
                "its images for undiagnosed, to be left out), or keep the classes as they are."
            )
        return replace(
            self,
            table=self.table.assign(target=self.table["target"].map(dict(groups))),
            classes=order([groups[name] for name in self.classes]),
            notes=(*self.notes, note) if note else self.notes,
            home=None,
        )

    def __len__(self) -> int:
        return len(self.table)


def _root_entries(root: Path, home: Path) -> dict[str, str]:
    """What a sidecar says of the images' folder: the way there, and where it is if not inside.

    The way holds if both are moved together, the place if only the catalogue is.
    """
    if root.is_relative_to(home):
        return {"root": root.relative_to(home).as_posix()}
    try:
        shared = os.path.commonpath([root, home])
    except ValueError:  # two drives
        shared = root.anchor
    if shared == root.anchor:
        return {"root": str(root)}
    return {"root": Path(os.path.relpath(root, home)).as_posix(), "root_place": str(root)}


def _root_of(side: Mapping[str, str], home: Path, path: str) -> Path:
    """The images' folder of a sidecar: of what it says, that where the first image is."""
    ways = [(home / side[key]).resolve() for key in ("root", "root_place") if key in side]
    file = file_of(path)
    return next((each for each in ways if (each / file).is_file()), ways[0])


def cache_home(data: Catalogue, chosen: str | Path | None = None) -> Path:
    """Where the caches of a catalogue are: where somebody wants them, or else beside it.

    Raises:
        DataError: if nobody says where and the catalogue is only in memory.
    """
    if chosen:
        return Path(chosen)
    if data.home is None:
        raise DataError(
            "This catalogue is only in memory: save it first, or say where caches go (cache_to)."
        )
    return data.home / "cache"


def catalogue(
    folder: str | Path,
    *,
    layout: str = "auto",
    table: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    relabel: Mapping[str, str] | None = None,
    exclude: str | Path | None = None,
    merge: str | Path | None = None,
    out: str | Path | None = None,
    listen: Listener = silent,
) -> Catalogue:
    """Make the catalogue of a folder of images, or refuse and name everything that is wrong.

    Args:
        folder: what a download unpacked to, in any known layout; one table or .npz file; or a
            folder that already holds a catalogue.csv, which is then opened.
        layout: the layout's name, or "auto".
        table: the table to read, where the folder holds several.
        columns: the table's own column for each of ours: {"image_id": "name", "target": "label"};
            see `layouts.Reading`.
        ignore: folders in it whose files are left out, such as those of masks or smaller copies.
        relabel: what a label is to count as: {"SCC": "scc"}.
        exclude: a findings.csv from `audit`: images that it marks are left out.
        merge: a pairs.csv from `audit` with verdicts: lesions of a pair that is "same" become one.
        out: where to save; None keeps the catalogue in memory.
        listen: told of the progress.

    Returns:
        The catalogue. Its `account` tells what became of every file and row.

    Raises:
        DataError: if nothing readable is there.
        FindingsError: with every fault of table and files at once.

    Example:
        >>> data = catalogue("data/ham10000", out="data/ham10000")  # doctest: +SKIP
    """
    folder = Path(folder)
    reading = Reading(
        folder, layout, Path(table) if table else None, columns or {}, tuple(ignore), relabel or {}
    )
    plain = reading.plain and not any((exclude, merge, out))
    if plain and ((folder / FILE_NAME).is_file() or folder.name == FILE_NAME):
        return Catalogue.open(folder)
    before = _before(folder)
    marked = pd.DataFrame(columns=["image_id", "kind"])
    if reading.plain and _of_other_folders(folder):
        made = Catalogue.open(folder)
        draft = Draft(made.table, made.classes, made.root, made.layout, list(made.notes))
    else:
        if not reading.plain and _of_other_folders(folder):
            raise DataError(
                f"{folder} holds a catalogue of images that lie elsewhere. --columns, --table, "
                "--layout, --ignore and --relabel go with the folder of the images; of a joined "
                "catalogue --relabel goes with `lesionlab join`."
            )
        if reading.plain and not (reading := Reading.from_dict(folder, before)).plain:
            listen(Notice(f"Read as before: {reading.command('catalogue')}"))
        draft = read_layout(reading)
    verdicts = read_verdicts(Path(merge)) if merge else None
    if verdicts is not None:  # first: an image that is left out may link two others
        draft = _merged(draft, verdicts)
    if exclude:
        found = read_csv(Path(exclude), ("image_id", "kind", "exclude"))
        marked = _marked(found)[["image_id", "kind"]]
        if earlier := before.get("excluded"):  # the audit was of a catalogue without them
            old = pd.DataFrame(earlier, columns=["image_id", "kind"]).assign(exclude="True")
            found = pd.concat([found, old], ignore_index=True)
            marked = _marked(found)[["image_id", "kind"]].drop_duplicates()
            listen(Notice(f"{len(old)} findings that were left out before stay left out."))
        draft = leave_out(draft, found)
        if draft.table.empty:
            raise DataError(
                f"{exclude} leaves out every image of {folder}: nothing is left to work with. "
                "Mend what it lists instead, or write False in its column exclude."
            )
    if verdicts is not None and (clashing := clashes(draft.table, verdicts)):
        found = findings_table(clashing)
        raise FindingsError(
            f"Merging would give two diagnoses to {len(clashing)} "
            f"lesion{'s' * (len(clashing) > 1)}; no catalogue was made:\n"
            f"{describe(found)}\n"
            f"Look at these pairs again. If they show different lesions, write different.\n"
            "If they show the same one, a diagnosis is wrong: write True in the column exclude of "
            "findings.csv for the images to leave out, and give it with --exclude.",
            found,
        )
    full, findings = examine(draft, decode=False, listen=listen)
    faults = [each for each in findings if each.severity == "error"]
    if faults:
        found = findings_table(faults)
        raise FindingsError(
            f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}; no catalogue was made:\n"
            f"{describe(found)}\n{_way_out(reading, draft, found, merge, exclude, out)}",
            found,
        )
    present = set(full["target"])
    classes = draft.classes if draft.classes else tuple(sorted(present))
    for name in [each for each in classes if each not in present]:
        listen(Notice(f"No image of class {name!r}.", "warning"))
    account = account_of(draft, full)
    made = Catalogue(
        full[list(CATALOGUE)].sort_values("image_id").reset_index(drop=True),
        classes,
        draft.root.resolve(),
        draft.layout,
        (*draft.notes, *_passed_over(draft, full)),
        account=account.to_dict() if account else {},
        reading=reading.to_dict()
        | ({"excluded": marked.to_numpy().tolist()} if len(marked) else {}),
    )
    if account:
        listen(Notice(str(account)))
    return made.save(out) if out else made


def _before(folder: Path) -> dict[str, Any]:
    """How the catalogue in a folder was made of it, and what was left out; {} if there is none."""
    side = (folder / FILE_NAME).with_suffix(".json")
    if not (folder / FILE_NAME).is_file() or not side.is_file():
        return {}
    return dict(read_json(side).get("reading", {}))


def _passed_over(draft: Draft, table: pd.DataFrame) -> list[str]:
    """Sentences on photographs that are not taken though nobody asked for that."""
    if draft.inventory is None:
        return []
    taken = {*table["path"], *draft.files_left_out}
    unnamed = [path for path in draft.inventory.images if path not in taken]
    said = [draft.inventory.undecoded()]
    if unnamed:
        said.append(
            f"{len(unnamed):,} of {len(draft.inventory.images):,} photographs have no row in the "
            f"table and are left out, such as {unnamed[0]}."
        )
    return [each for each in said if each]


def _way_out(
    reading: Reading,
    draft: Draft,
    found: pd.DataFrame,
    merge: str | Path | None,
    exclude: str | Path | None,
    out: str | Path | None,
) -> str:
    """What helps where a catalogue was refused: commands, or where to look for the cause."""
    two = "lesion_with_two_patients" in set(found["kind"])
    home = reading.folder if reading.folder.is_dir() else reading.folder.parent
    to = None if out is None or Path(out).resolve() == home.resolve() else out
    repeats = _prefixed(reading, draft, merge=merge, exclude=exclude, out=to) if two else ""
    if set(draft.table["image_id"]) <= set(found["image_id"]):
        text = "Every image has a fault, so none can be left out: mend the cause."
        if set(found["kind"]) == {"missing_image"} and draft.inventory:
            images = draft.inventory.images
            seen = f"the images are called {images[0]} and so on" if images else "it holds none"
            text = (
                f"None of the table's images is in {reading.folder}: the table calls the first one "
                f"{draft.table['image_id'].iloc[0]!r}, {seen}."
            )
        return repeats + text
    if reading.folder.is_dir() and (reading.folder / FILE_NAME).is_file():
        reading = replace(reading, layout=draft.layout)  # else the old catalogue would be opened
    audit = reading.command("audit", out="findings.csv")
    again = reading.command("catalogue", merge=merge, exclude="findings.csv", out=to)
    return f"{repeats}Mend them, or leave these images out: {audit}, then {again}"


def _prefixed(reading: Reading, draft: Draft, **options: object) -> str:
    """Offer to name lesions by patient and lesion, where their ids repeat among patients."""
    if draft.layout != "csv":
        return ""
    names = [reading.columns.get(name, name) for name in ("patient_id", "lesion_id")]
    columns = {**reading.columns, "lesion_id": "+".join(names)}
    asked = replace(reading, columns=columns)
    return (
        "If lesion ids repeat among patients, patient and lesion together name a lesion: "
        f"{asked.command('catalogue', **options)}\n"
    )


def _of_other_folders(folder: Path) -> bool:
    """Whether a folder holds a catalogue of images elsewhere, which is all that it can be read as.

    Any other is read anew from what it was made of.
    """
    if not (folder / FILE_NAME).with_suffix(".json").is_file():
        return False
    side = read_json((folder / FILE_NAME).with_suffix(".json"))
    inside = (folder / side["root"]).resolve().is_relative_to(folder.resolve())
    return not inside or side.get("layout") == JOINED


def _merged(draft: Draft, verdicts: pd.DataFrame) -> Draft:
    """Merge the lesions of pairs that were judged to be the same."""
    table = draft.table.copy()
    for name in ("lesion_id", "patient_id"):
        if name not in table.columns:
            table[name] = ""
    table, lost = merge_lesions(table, verdicts)
    note = f"Lesions merged into others that judged near-duplicates show, too: {lost}."
    return replace(draft, table=table, notes=[*draft.notes, note])


def _marked(findings: pd.DataFrame) -> pd.DataFrame:
    """The findings that are marked with exclude = True."""
    return findings[findings["exclude"].astype(str).str.lower().isin(("true", "1", "yes"))]


def leave_out(draft: Draft, findings: pd.DataFrame) -> Draft:
    """Drop the images that a findings table marks with exclude = True.

    Of rows that repeat an image_id word for word the first stays; if they differ, none does.
    """
    marked = _marked(findings)
    repeated = set(marked["image_id"][marked["kind"] == "duplicate_image_id"])
    twice = draft.table.duplicated()
    once = draft.table[~twice]
    kept = set(
        once["image_id"][once["image_id"].isin(repeated) & ~once["image_id"].duplicated(keep=False)]
    )
    only_repeated = kept - set(marked["image_id"][marked["kind"] != "duplicate_image_id"])
    drop = set(marked["image_id"]) - only_repeated
    made = replace(
        draft,
        table=draft.table,
        files_left_out=dict(draft.files_left_out),
        rows_left_out=draft.rows_left_out.copy(),
    )
    unnamed = made.table["image_id"].isin(drop) | (made.table["image_id"] == "")
    reasons = twice.map({True: "repeats a row", False: ""}).mask(unnamed, "excluded after an audit")
    for reason in sorted(set(reasons) - {""}):
        made.leave_out(reasons == reason, reason)
        reasons = reasons[reasons != reason].reset_index(drop=True)
    left_out = len(draft.table) - len(made.table)
    made.notes = [*draft.notes, f"{left_out} rows were left out after an audit."]
    return made


def examine(
    draft: Draft, *, decode: bool, listen: Listener = silent
) -> tuple[pd.DataFrame, list[Finding]]:
    """Check a draft's table and files.

    Args:
        draft: what a layout says.
        decode: whether to decode every image, too.
        listen: told of the progress.

    Returns:
        The draft's table with all columns of `tables.CATALOGUE` and pixel_hash, and all findings.

    Raises:
        DataError: if the draft has no rows.
    """
    table = draft.table.copy()
    if table.empty:
        raise DataError(f"{draft.root} lists no images: nothing is left to work with.")
    for name in CATALOGUE:
        if name not in table.columns:
            table[name] = ""
    table["sex"] = read_sexes(table["sex"])
    if words := odd_sexes(table["sex"]):
        draft.notes.append(words)
    findings = check_table(table, draft.classes)
    facts = scan_files(table, draft.root, decode=decode, listen=listen)
    for name in ("width", "height", "bytes", "sha256", "pixel_hash"):
        table[name] = [getattr(fact, name) for fact in facts]
    table["age"], odd = read_ages(table["age"])
    if odd:
        draft.notes.append(odd_ages(odd))
    findings += [finding for fact in facts for finding in fact.findings]
    findings += check_files(table)
    return table, findings
