"""Measure what `adapt` does for images that look unlike those that a bundle was calibrated on.

    python tools/appearance_groups.py FOLDS --alone ALONE.csv --artefacts ARTEFACTS.csv

FOLDS are complete folds, each of which keeps its answers of parts val and test. ALONE.csv holds the
same with age, sex and site unknown (columns fold, part, image_id, logit_<class>...), ARTEFACTS.csv
what `measure_artefacts` gives. Images are put in groups by light and vignette: k-means over the
ranks of six measures, so that no outlier makes a group; with --index by the vectors of an index of
cases. A group plays the other clinic: of each fold, val without the group is what a bundle would
keep, half of the group's test lesions are what it is adapted to, without labels, and the other half
are scored; then the halves change places.

Printed is, by group, how often the sets of 90 % hold the true class, with the quantiles of val as
they are and with adapted ones; classes in a set; how many malignant lesions are missed and how many
images are referred. --most N adapts to N images at most; --scored names the folds that are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.evaluation.calibration.scaling import fit
from lesionlab.evaluation.conformal.shifted import Reference, class_limits, recalibrated
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.triage.risk_control import fit_referral, strictest
from lesionlab.numerics import log_softmax
from lesionlab.retrieval.case_index import CaseIndex
from lesionlab.run import Folds
from lesionlab.tables import classes_of

MEASURES = ["skin_brightness", "warmth", "greenness", "vignette", "sharpness", "black_frame"]
ALPHA = 0.1


def groups_of(values: NDArray[np.floating], images: pd.Series, count: int, seed: int) -> pd.Series:
    """The group of each image, by k-means."""
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=4, random_state=seed).fit_predict(values)
    return pd.Series(found, index=images.to_numpy())


def by_appearance(path: Path, count: int, seed: int) -> pd.Series:
    """Groups by light and vignette; where corners are black the vignette is the strongest."""
    table = pd.read_csv(path)
    table["vignette"] = table["vignette"].fillna(np.inf)
    return groups_of(table[MEASURES].rank(pct=True).to_numpy(), table["image_id"], count, seed)


def tables_of(folds: Folds, alone: Path) -> pd.DataFrame:
    """Answers of parts val and test, with age, sex and site and without ("alone_<class>")."""
    tables = [run.predictions.assign(fold=fold) for fold, run in folds.complete_runs.items()]
    known = pd.concat(tables, ignore_index=True)
    known = known[known["part"] != "train"]
    classes = classes_of(known)
    other = pd.read_csv(alone).set_index(["fold", "part", "image_id"])
    keys = pd.MultiIndex.from_frame(known[["fold", "part", "image_id"]])
    for label in classes:
        known[f"alone_{label}"] = other[f"logit_{label}"].reindex(keys).to_numpy()
    return known


def score(table: pd.DataFrame, group: NDArray[np.int64], most: int, seed: int) -> pd.DataFrame:
    """A row per image that was scored, way and state of its metadata."""
    classes = tuple(
        classes_of(table.drop(columns=[c for c in table if str(c).startswith("alone_")]))
    )
    known, alone = (
        log_softmax(table[[f"{kind}_{label}" for label in classes]].to_numpy(np.float64))
        for kind in ("logit", "alone")
    )
    targets = table["target"].map({label: i for i, label in enumerate(classes)}).to_numpy()
    lesions, _ = lesion_codes(table["lesion_id"].to_numpy(object))
    fold, val = table["fold"].to_numpy(), (table["part"] == "val").to_numpy()
    half = np.random.default_rng(seed).integers(0, 2, lesions.max() + 1)[lesions]
    rows = []
    for left_out in np.unique(group):
        for number in np.unique(fold):
            kept = (fold == number) & val & (group != left_out)
            y, codes = targets[kept], lesions[kept]
            logs = known[kept], alone[kept]
            scaling, _ = fit(np.concatenate(logs), np.tile(y, 2), np.tile(codes, 2), classes)
            states = [np.exp(scaling.logits(each)) for each in logs]
            limits = class_limits(states, y, codes, len(classes), ALPHA, images=True)
            rule = strictest([fit_referral(each, y, codes, classes) for each in states])
            reference = Reference(alone[kept], known[kept], y, codes, np.zeros(len(y)))
            for side in (0, 1):
                there = (fold == number) & ~val & (group == left_out)
                seen = np.flatnonzero(there & (half == side))
                seen = np.random.default_rng(seed).permutation(seen)[:most]
                scored = np.flatnonzero(there & (half != side))
                if len(seen) < 2 or not len(scored):
                    continue
                new = recalibrated(reference, alone[seen], scaling, ALPHA)
                rules = [
                    fit_referral(each, y, codes, classes, weights=new.weights)
                    for each in new.states
                ]
                ways = {
                    "as it is": (scaling, limits, rule),
                    "adapted": (new.scaling, new.limits, strictest(rules)),
                }
                for way, (scales, quantiles, refers) in ways.items():
                    for state, given in (("known", known), ("alone", alone)):
                        probabilities = np.exp(scales.logits(given[scored]))
                        inside = 1 - probabilities <= quantiles
                        truth = targets[scored]
                        rows.append(
                            pd.DataFrame(
                                {
                                    "group": left_out,
                                    "fold": number,
                                    "way": way,
                                    "state": state,
                                    "target": np.array(classes)[truth],
                                    "covered": inside[np.arange(len(scored)), truth],
                                    "size": inside.sum(axis=1),
                                    "malignant": np.isin(
                                        truth, [classes.index(c) for c in rule.malignant]
                                    ),
                                    "referred": refers.refers(probabilities),
                                    "loss": -scales.logits(given[scored])[
                                        np.arange(len(scored)), truth
                                    ],
                                }
                            )
                        )
    return pd.concat(rows, ignore_index=True)


def figures(found: pd.DataFrame) -> pd.DataFrame:
    """Coverage, size, misses and referrals of each group, as it is and adapted."""
    found = found.assign(empty=found["size"] == 0)
    mean = found.groupby(["group", "way"])[["covered", "size", "empty", "referred", "loss"]].mean()
    missed = found[found["malignant"]].groupby(["group", "way"])["referred"].mean()
    mean["missed"] = 1 - missed
    mean["images"] = found.groupby(["group", "way"]).size()
    return pd.DataFrame(mean.unstack("way"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folds", type=Path)
    parser.add_argument("--alone", type=Path, required=True)
    parser.add_argument("--artefacts", type=Path)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--groups", type=int, default=6)
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--scored", type=int, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table = tables_of(Folds.open(given.folds), given.alone)
    if given.scored:
        table = table[table["fold"].isin(given.scored)]
    if given.index:
        cases = CaseIndex.open(given.index)
        groups = groups_of(cases.vectors, cases.table["image_id"], given.groups, given.seed)
    else:
        groups = by_appearance(given.artefacts, given.groups, given.seed)
    found = score(table, groups.loc[table["image_id"]].to_numpy(), given.most, given.seed)
    for state, rows in found.groupby("state"):
        print(f"age, sex and site {'known' if state == 'known' else 'unknown'}")
        print(figures(rows).round(3).to_string())
        classes = rows.groupby(["target", "way"])[["covered", "size"]].mean().unstack("way")
        print(classes.round(3).to_string())


if __name__ == "__main__":
    main()
