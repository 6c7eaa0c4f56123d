"""What a promised miss rate costs: how many benign lesions are referred, and how many missed.

A lesion counts once, with the share of its images that are referred or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.calibration.calibrate import leak
from lesionlab.evaluation.intervals.bootstrap import (
    Measure,
    Weights,
    estimates,
    lesion_codes,
)
from lesionlab.evaluation.intervals.estimate import Estimate, Values
from lesionlab.evaluation.predictions.binary_target import check_prevalence, ends
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.evaluation.triage.risk_control import (
    MISS,
    MISS_MELANOMA,
    ReferralRule,
    fit_referral,
    per_hundred,
)
from lesionlab.files import write_csv, write_json
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part, classes_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

PROMISES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Promised shares of missed lesions whose costs are shown."""

PATIENTS = 1000
PREVALENCE = 0.05

_BOTH, _SETS = "both", "one class in the set"


@dataclass(frozen=True, eq=False, repr=False)
class MeasuredReferral:
    """What a rule of referral did.

    Attributes:
        rule: the rule.
        estimates: "missed" (share of malignant lesions unreferred), "missed_melanoma" where there
            is a melanoma, and "referred" (share of benign lesions). Of the rule that refers
            whatever has not exactly one class in its conformal set, at the nearest share of benign
            lesions: the same as "sets_missed", "sets_missed_melanoma" and "sets_referred".
        part: that was scored.
        images: how many.
        lesions: how many.
    """

    rule: ReferralRule
    estimates: Mapping[str, Estimate]
    part: str
    images: int
    lesions: int

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    @property
    def text(self) -> str:
        """What it did, in a sentence."""
        melanoma = ""
        if "missed_melanoma" in self.estimates:
            melanoma = f" and {_hundred(self['missed_melanoma'])} of 100 melanomas"
        return (
            f"In its test ({self.lesions:,} lesions) it left {_hundred(self['missed'])} of 100 "
            f"malignant lesions{melanoma} unreferred, and referred {_hundred(self['referred'])} of "
            "100 benign ones."
        )

    def table(self) -> pd.DataFrame:
        """Both rules: columns rule, lesions ("malignant", ...), n, missed or referred, ends."""
        rows = [
            (rule, kind, self[name].groups, outcome, *ends(self[name]))
            for rule, start in (("risk limits", ""), (_SETS, "sets_"))
            for kind, outcome, name in (
                ("malignant", "not referred", f"{start}missed"),
                ("melanoma", "not referred", f"{start}missed_melanoma"),
                ("benign", "referred", f"{start}referred"),
            )
            if name in self.estimates
        ]
        columns = ["rule", "lesions", "n", "outcome", "share", "low", "high"]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Figures of the rule as plain values."""
        melanoma = None
        if "missed_melanoma" in self.estimates:
            melanoma = _plain(self["missed_melanoma"], "missed")
        return {
            "text": self.text,
            "malignant": _plain(self["missed"], "missed"),
            "melanoma": melanoma,
            "benign": _plain(self["referred"], "referred"),
        }

    def __repr__(self) -> str:
        return f"<MeasuredReferral: missed {self['missed']}, referred {self['referred']}>"


@dataclass(frozen=True, eq=False, repr=False)
class ReferralCosts(Result):
    """What each promise costs, and what the chosen ones do together.

    Attributes:
        table: a row per promise and one for both chosen: promise, threshold (of both: nan), lesions
            of val, then missed, missed_melanoma and referred, each with _low and _high, and of the
            patients referred and missed ("patients_referred", "patients_missed").
        measured: what the rule of the chosen promises did.
        settings: prevalence, patients, miss, miss_melanoma.
        warnings: what a reader must know.
    """

    table: pd.DataFrame
    measured: MeasuredReferral
    settings: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def rule(self) -> ReferralRule:
        """That of the chosen promises."""
        return self.measured.rule

    def to_json(self) -> dict[str, Any]:
        """The chosen rule and what it did, as plain values."""
        return {
            "kind": "lesionlab referral rule 1",
            **self.settings,
            **self.rule.to_json(),
            "part": self.measured.part,
            "measured": self.measured.to_json(),
            "warnings": list(self.warnings),
        }

    def save(self, path: str | Path) -> None:
        """Write the table as CSV, and beside it as JSON the chosen rule."""
        write_csv(Path(path), self.table)
        write_json(Path(path).with_suffix(".json"), self.to_json())

    def __repr__(self) -> str:
        return f"<ReferralCosts: {self.measured!r}>"


def referral_costs(
    predictions: Source,
    *,
    miss: float = MISS,
    miss_melanoma: float = MISS_MELANOMA,
    promises: Sequence[float] = PROMISES,
    prevalence: float = PREVALENCE,
    patients: int = PATIENTS,
    malignant: Sequence[str] | None = None,
    part: Part = "test",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> ReferralCosts:
    """Fit referral on val for a range of promises, and measure each on another part.

    Args:
        predictions: anything that `evaluate` takes, with rows of part val.
        miss: share of malignant lesions that may go unreferred, of the chosen rule.
        miss_melanoma: share of melanomas that may.
        promises: other shares to show, for malignant lesions alone and for melanomas alone.
        prevalence: share of the patients that are malignant, above 0 and below 1. A patient stands
            for one lesion.
        patients: how many to tell of.
        malignant: the malignant classes; None: by `taxonomy.MALIGNANT_RULE`.
        part: the part to score: train or test.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress and of every warning.

    Raises:
        DataError: if there is no val part or nothing to score, or nothing malignant or benign.
        FindingsError: with every fault of the table at once.
        SettingsError: if a setting makes no sense, or it is not said which classes are malignant.

    Example:
        >>> referral_costs("runs/first", miss=0.02).table  # doctest: +SKIP
    """
    check_prevalence(prevalence)
    if part == "val":
        raise SettingsError("Limits of referral are fitted on val; choose part test, or train.")
    table = open_predictions(predictions)
    classes = classes_of(table)
    bare = ReferralRule.of(classes, malignant)
    if bare.unknown or not bare.malignant:
        raise SettingsError(bare.promise)
    val = rows_of(table, "val")
    targets, probabilities = arrays_of(val)
    lesions, _ = lesion_codes(val["lesion_id"].to_numpy(dtype=object))

    def fitted(share: float, of_melanoma: float) -> ReferralRule:
        return fit_referral(
            probabilities,
            targets,
            lesions,
            classes,
            miss=share,
            miss_melanoma=of_melanoma,
            malignant=malignant,
        )

    rule = fitted(miss, miss_melanoma)
    rules = {_BOTH: rule}
    for share in promises:
        for limit in fitted(share, share).limits:
            alone = ReferralRule(rule.classes, rule.malignant, (), (limit,))
            rules[f"{limit.name} {per_hundred(share)} %"] = alone
    found, rows = _measured(rules, table, part, replicates, seed, listen)
    warnings = [] if all(each.kept for each in rule.limits) else [rule.promise]
    if crossing := leak(table, "val", part):
        warnings.append(crossing)
    for text in warnings:
        listen(Notice(text, "warning"))
    return ReferralCosts(
        table=_costs(rules, found, prevalence, patients),
        measured=_of_rule(rule, found, part, rows),
        settings={
            "miss": miss,
            "miss_melanoma": miss_melanoma,
            "prevalence": prevalence,
            "patients": patients,
        },
        warnings=tuple(warnings),
    )


def measure_referral(
    rule: ReferralRule,
    predictions: Source,
    *,
    part: Part = "test",
    referred: pd.Series | None = None,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> MeasuredReferral:
    """What a rule does on a part of predictions, beside a rule by the size of conformal sets.

    Args:
        rule: such as a bundle's.
        predictions: anything that `evaluate` takes, calibrated as the rule's own were.
        part: the part to score.
        referred: which images are referred, by image_id, where not the rule itself says so but its
            likes, such as each fold's fitted without that fold.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress.

    Raises:
        DataError: if there is nothing to score, or nothing malignant or benign.
        FindingsError: with every fault of the table at once.
    """
    table = open_predictions(predictions)
    found, rows = _measured({_BOTH: rule}, table, part, replicates, seed, listen, referred)
    return _of_rule(rule, found, part, rows)


def referred_by_set_size(
    probabilities: Floats, benign: Mask, weights: Floats, share: float
) -> Mask:
    """Images without exactly one class in their set, at the level that refers a share of benign.

    Sets are those of LAC: classes from a probability on. Of all levels whose sets are not mostly
    empty, the one is taken whose share of benign lesions is nearest above the one wanted.

    Args:
        probabilities: shape (n, k).
        benign: which images are benign, shape (n,).
        weights: weight of each image in its lesion, shape (n,).
        share: of benign lesions, 0-1.

    Returns:
        Shape (n,).
    """
    first, second = -np.partition(-probabilities, 1, axis=1)[:, :2].T
    levels = np.unique(second[benign])
    below = [_weight_below(each[benign], weights[benign], levels) for each in (first, second)]
    shares = below[0] + 1 - below[1]  # no class in the set, or two and more
    fewest = int(shares.argmin())
    enough = np.flatnonzero(shares[: fewest + 1] >= share)
    level = levels[int(enough[-1]) if len(enough) else fewest]
    return np.asarray((first < level) | (second >= level))


def _weight_below(values: Floats, weights: Floats, levels: Floats) -> Floats:
    """Share of the weight whose values are below each level."""
    order = np.argsort(values, kind="stable")
    upto = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(upto[np.searchsorted(values[order], levels)] / upto[-1])


def _measured(
    rules: Mapping[str, ReferralRule],
    table: pd.DataFrame,
    part: str,
    replicates: int,
    seed: int,
    listen: Listener,
    by_image: pd.Series | None = None,
) -> tuple[dict[str, Estimate], pd.DataFrame]:
    """Estimates by rule and figure, of the first rule also by the size of sets; the rows."""
    rows = rows_of(table, part)
    targets, probabilities = arrays_of(rows)
    groups = rows["lesion_id"].to_numpy(dtype=object)
    codes, _ = lesion_codes(groups)
    heavy = 1 / np.bincount(codes)[codes]
    name, rule = next(iter(rules.items()))
    malignant = np.isin(targets, [rule.classes.index(label) for label in rule.malignant])
    if malignant.all() or not malignant.any():
        raise DataError(
            f"{int(malignant.sum())} of the {len(rows):,} images of part {part!r} are malignant "
            f"({', '.join(rule.malignant)}): measuring referral takes some that are and some that "
            "are not. Choose a larger part."
        )
    referred = {each: rules[each].refers(probabilities) for each in rules}
    if by_image is not None:
        referred[name] = by_image.loc[rows["image_id"]].to_numpy(bool)
    share = np.average(referred[name][~malignant], weights=heavy[~malignant])
    referred[_SETS] = referred_by_set_size(probabilities, ~malignant, heavy, float(share))
    of = {"missed": malignant, "referred": ~malignant}
    melanoma = np.isin(targets, [rule.classes.index(label) for label in rule.melanoma])
    if melanoma.any():
        of["missed_melanoma"] = melanoma

    def compute(weights: Weights) -> Mapping[str, Values]:
        values: dict[str, Values] = {}
        for figure, mask in of.items():
            even = weights * np.where(mask, heavy, 0.0)
            for each, yes in referred.items():
                counted = yes if figure == "referred" else ~yes
                values[f"{each}/{figure}"] = ratio(even @ counted.astype(float), even.sum(axis=1))
        return values

    basis = {f"{each}/{figure}": mask for each in referred for figure, mask in of.items()}
    measure = Measure(compute, basis, frozenset(basis))
    found = estimates([measure], groups, replicates=replicates, seed=seed, listen=listen)
    return found, rows


def _of_rule(
    rule: ReferralRule, found: Mapping[str, Estimate], part: str, rows: pd.DataFrame
) -> MeasuredReferral:
    chosen = {
        f"{start}{figure}": found[f"{name}/{figure}"]
        for name, start in ((_BOTH, ""), (_SETS, "sets_"))
        for figure in ("missed", "missed_melanoma", "referred")
        if f"{name}/{figure}" in found
    }
    _, lesions = lesion_codes(rows["lesion_id"].to_numpy(dtype=object))
    return MeasuredReferral(rule, chosen, part, len(rows), lesions)


def _costs(
    rules: Mapping[str, ReferralRule],
    found: Mapping[str, Estimate],
    prevalence: float,
    patients: int,
) -> pd.DataFrame:
    rows = []
    for name, rule in rules.items():
        missed, referred = found[f"{name}/missed"].value, found[f"{name}/referred"].value
        row: dict[str, Any] = {
            "promise": name,
            "threshold": rule.limits[0].threshold if len(rule.limits) == 1 else np.nan,
            "val_lesions": min(each.lesions for each in rule.limits),
        }
        for figure in ("missed", "missed_melanoma", "referred"):
            if f"{name}/{figure}" in found:
                three = ends(found[f"{name}/{figure}"])
                row |= dict(zip((figure, f"{figure}_low", f"{figure}_high"), three, strict=True))
        row["patients_referred"] = patients * (
            prevalence * (1 - missed) + (1 - prevalence) * referred
        )
        row["patients_missed"] = patients * prevalence * missed
        rows.append(row)
    return pd.DataFrame(rows)


def _plain(each: Estimate, name: str) -> dict[str, Any]:
    value, low, high = (None if isnan(number) else float(number) for number in ends(each))
    return {"lesions": each.groups, name: value, "low": low, "high": high}


def _hundred(each: Estimate) -> str:
    return f"{100 * each.value:.1f}"
