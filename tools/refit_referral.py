"""Fit the rule of referral of a bundle that has none, or another promise, without its run.

    python tools/refit_referral.py DATA [--bundle FILE] [--predictions FILE]

DATA is the catalogue that the model was trained on, split as docs/how-to/export.md says for weights
to ship (`lesionlab split DATA --kind holdout --shares 0.9 0.1 0`); the fingerprint of that split
must be the one in the bundle. The bundle answers about its own val part, with age, sex and site and
without, and the limits are fitted on these answers, as `lesionlab export` does. What the rule does
is measured on the predictions, by default the out-of-fold ones that ship with lesionlab. The card
gets what a new card says first: what an answer is worth.
"""

from __future__ import annotations

import argparse
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import split
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.triage.referral_cost import MeasuredReferral, measure_referral
from lesionlab.evaluation.triage.risk_control import (
    MISS,
    MISS_MELANOMA,
    ReferralRule,
    fit_referral,
    operating_points,
    strictest,
)
from lesionlab.prediction.bundle import (
    CARD,
    CARD_PAGE,
    MANIFEST,
    Bundle,
    default_path,
    write_bundle,
)
from lesionlab.prediction.predictor import Predictor
from lesionlab.reporting.card.card import card
from lesionlab.reporting.card.outline import OUTLINE
from lesionlab.tables import check_predictions

ANSWER = next(heading for heading in OUTLINE if heading.name == "answer")


def fitted(
    bundle: Bundle, data: Catalogue, miss: float, melanoma: float
) -> tuple[ReferralRule, int]:
    """The rule from the bundle's answers about its val part, and how many images that has."""
    parted = split(data, kind="holdout", shares=(0.9, 0.1, 0))
    expected = {each["identity"]["split"] for each in bundle.info["members"]}
    if expected != {parted.fingerprint}:
        raise SystemExit(
            f"The bundle was trained on split {', '.join(sorted(expected))}, and this is "
            f"{parted.fingerprint}: its val part is not known."
        )
    parts = data.table["image_id"].map(parted.parts())
    val = data.table[parts == "val"].reset_index(drop=True)
    predictor = Predictor(bundle)
    pixels = np.stack([predictor.read(data.root / path) for path in val["path"]])
    rules = []
    for metadata in (val, None) if bundle.fields else (None,):
        answers = [
            predictor.answers(
                pixels[start : start + 16],
                None if metadata is None else metadata.iloc[start : start + 16],
            ).probabilities
            for start in range(0, len(val), 16)
        ]
        rules.append(
            fit_referral(
                np.concatenate(answers),
                np.array([bundle.classes.index(label) for label in val["target"]]),
                lesion_codes(val["lesion_id"].to_numpy(object))[0],
                bundle.classes,
                miss=miss,
                miss_melanoma=melanoma,
            )
        )
    rule = strictest(rules)
    floors = dict(zip(bundle.classes, bundle.sets.floors, strict=True))
    points = operating_points(rule.malignant, bundle.thresholds, floors)
    return replace(rule, points=points), len(val)


def with_answers(
    content: dict[str, bytes], table: pd.DataFrame, measured: MeasuredReferral
) -> None:
    """Put what an answer is worth first into the card."""
    new = card(table, referral=measured)
    values, told = json.loads(content[CARD]), new.to_json()
    values["facts"] |= {key: told["facts"][key] for key in ANSWER.labels}
    values["tables"] |= {name: told["tables"][name] for name in ANSWER.tables}
    sections = [each for each in values["sections"] if each["name"] != ANSWER.name]
    own = next(each for each in told["sections"] if each["name"] == ANSWER.name)
    values["sections"] = [sections[0], own, *sections[1:]]
    content[CARD] = json.dumps(values, indent=1, ensure_ascii=False).encode()
    found = re.search(rf'<section id="{ANSWER.name}">.*?</section>\n', new.to_html(), re.DOTALL)
    if found is None:
        raise SystemExit("The card's template has no section on answers.")
    page = content[CARD_PAGE].decode()
    page = re.sub(rf'<section id="{ANSWER.name}">.*?</section>\n', "", page, flags=re.DOTALL)
    link = f'<a href="#{ANSWER.name}">{ANSWER.title}</a>'
    page = page.replace(link, "").replace('<a href="#use">', f'{link}<a href="#use">', 1)
    page = page.replace('<section id="use">', f'{found.group(0)}<section id="use">', 1)
    content[CARD_PAGE] = page.encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path, default=default_path())
    parser.add_argument(
        "--predictions", type=Path, default=default_path().with_name("predictions.csv.gz")
    )
    parser.add_argument("--miss", type=float, default=MISS)
    parser.add_argument("--miss-melanoma", type=float, default=MISS_MELANOMA)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    data = Catalogue.open(given.data)
    rule, images = fitted(bundle, data, given.miss, given.miss_melanoma)
    table = check_predictions(pd.read_csv(given.predictions, dtype={"lesion_id": str}))
    measured = measure_referral(rule, bundle.scaling.apply(table))
    with zipfile.ZipFile(given.bundle) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    info: dict[str, Any] = json.loads(content.pop(MANIFEST))
    del info["kind"]
    info["referral"] = {
        **rule.to_json(),
        "fitted_on": {"part": "val", "images": images, "lesions": info["saw"]["val"]["lesions"]},
        "measured": measured.to_json(),
    }
    with_answers(content, table, measured)
    made = write_bundle(given.bundle, info, content)
    print(made.referral.promise, measured.text, sep="\n")
    for each in rule.limits:
        print(f"{each.name}: from {each.threshold:g}, fitted on {each.lesions} lesions.")
    print(measured.table().to_string())
    print(f"{given.bundle}: {given.bundle.stat().st_size / 1e6:.1f} MB, {made.fingerprint}.")


if __name__ == "__main__":
    main()
