"""Measure what a leak of lesions is worth, on one fixed test set.

    python tools/leak.py data/ham10000 --out leak --recipe RECIPE.yaml --seeds 5

Two different splits cannot be compared: their test images differ by more than a leak is worth.
Here only the training images of a few lesions differ, and the test images are the same throughout:

- Lesions are dealt to train, val and test. Of every test lesion one image is tested. Its other
  images, its siblings, are put aside.
- Each test lesion with siblings is paired with a training lesion of the same class and number of
  images. Arm "clean" trains on as many images of the partner as there are siblings; arm "leaky"
  trains on the siblings instead. All else is the same: other images, val, recipe, seed. So both
  arms have as many images, lesions and images per class, and differ in nothing but the leak.
- Partners are drawn anew for every seed, which is also the seed of both trainings.

Reported is leaky - clean, averaged over the seeds, over all test images, over those with siblings,
and over those without (a control, which should show nothing). The interval is a bootstrap over test
lesions with the same weights in all runs. It holds for these trainings: how they vary from seed to
seed stands beside it.

Each training is an ordinary run in OUT/seed_S/{clean,leaky}. Its catalogue and split are in
OUT/design/seed_S. The leaky arm's catalogue withholds the lesion ids, which is how such leaks come
about: `train` refuses a split that is known to cross. The same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lesionlab.data.catalogue.catalogue import FILE_NAME, Catalogue, catalogue
from lesionlab.data.images.cache import cache
from lesionlab.data.splits import Split, split
from lesionlab.errors import DataError, LesionlabError, SettingsError
from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, estimates
from lesionlab.evaluation.intervals.estimate import Estimate, Values
from lesionlab.evaluation.metrics.classification import classification
from lesionlab.evaluation.predictions.load import arrays_of, rows_of
from lesionlab.files import write_csv, write_text
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import Recipe
from lesionlab.tables import classes_of, lesions_of

ARMS = ("clean", "leaky")
_SPOKEN = {
    "balanced_accuracy": "balanced accuracy",
    "macro_auroc": "macro AUROC",
    "accuracy": "accuracy",
}
METRICS = tuple(_SPOKEN)
SHARES = (0.6, 0.1, 0.3)
SCOPES = ("all test images", "with siblings", "without siblings (control)")

NOTES: Mapping[str, str] = {
    "clean": "Clean arm of the leak experiment: no image of a test lesion is in train or val.",
    "leaky": (
        "LEAKY arm of the leak experiment: lesion ids are withheld, and train holds other images "
        "of lesions that are tested. Its figures are too good by design."
    ),
}


def main() -> None:
    options = arguments()
    try:
        run(
            options.data,
            Recipe.load(options.recipe),
            options.out,
            seeds=options.seeds,
            shares=options.shares,
            draw=options.draw,
            replicates=options.replicates,
            device=options.device,
            listen=tell,
        )
    except LesionlabError as error:
        raise SystemExit(f"leak: {error}") from error
    print((options.out / "leak.md").read_text(encoding="utf-8"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder of images, or a catalogue's")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--recipe", type=Path, required=True, help="recipe of every training")
    parser.add_argument("--seeds", type=int, default=5, help="trainings per arm")
    parser.add_argument("--shares", nargs=3, type=float, default=SHARES, help="train, val, test")
    parser.add_argument("--draw", type=int, default=0, help="seed of the test set")
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser.parse_args()


def tell(event: Step | Notice) -> None:
    if isinstance(event, Notice):
        print(event.text, flush=True)


def run(
    folder: Path,
    recipe: Recipe,
    out: Path,
    *,
    seeds: int = 5,
    shares: Sequence[float] = SHARES,
    draw: int = 0,
    replicates: int = 2000,
    device: str = "auto",
    listen: Listener = silent,
) -> pd.DataFrame:
    """Train both arms for every seed and write leak.csv, leak_seeds.csv and leak.md.

    Args:
        folder: images in any known layout, or a catalogue.
        recipe: of every training; its seed is replaced.
        out: folder of designs, runs and results.
        seeds: how many trainings per arm; their seeds are 0, 1, ...
        shares: of lesions in train, val and test.
        draw: seed of the parts, the same for all trainings.
        replicates: of the lesion-level bootstrap.
        device: auto, cpu or cuda.
        listen: told of the progress.

    Returns:
        What leak.csv holds, see `scored`.
    """
    from lesionlab.training.train import train

    if seeds < 1:
        raise SettingsError(f"--seeds is {seeds}: it takes one training per arm at least.")
    if (folder / FILE_NAME).is_file():
        data = Catalogue.open(folder)
    else:
        data = catalogue(folder, out=out / "catalogue", listen=listen)
    cache(data.table, data.root, recipe.images, out / "cache", listen=listen)
    tables: dict[tuple[int, str], pd.DataFrame] = {}
    for seed in range(seeds):
        plan = design(data, shares=shares, draw=draw, seed=seed)
        write_csv(out / "design" / f"seed_{seed}" / "plan.csv", plan)
        for name in ARMS:
            images, parts = arm(data, plan, name)
            home = out / "design" / f"seed_{seed}" / name
            images = images.save(home)
            parts.save(home / "split.csv")
            listen(Notice(f"Seed {seed}, {name}"))
            done = train(
                recipe.but({"seed": seed}),
                images,
                parts,
                out=out / f"seed_{seed}" / name,
                cache_to=out / "cache",
                device=device,  # type: ignore[arg-type]
                listen=listen,
            )
            tables[seed, name] = done.predictions
    result, by_seed = scored(tables, plan, replicates=replicates)
    write_csv(out / "leak.csv", result)
    write_csv(out / "leak_seeds.csv", by_seed)
    write_text(out / "leak.md", described(result, plan, recipe, seeds))
    return result


def design(
    data: Catalogue, *, shares: Sequence[float] = SHARES, draw: int = 0, seed: int = 0
) -> pd.DataFrame:
    """Say for every image in which part of which arm it is.

    Args:
        data: the catalogue; lesions of one image and of several.
        shares: of lesions in train, val and test.
        draw: of the parts and the tested images; the same in every training.
        seed: of the training lesions that give way to siblings.

    Returns:
        image_id, lesion_id (its own id where there is none), target, clean and leaky (train, val,
        test, or "" for images that the arm does not use), and siblings: for a tested image, how
        many others of its lesion the leaky arm trains on.

    Raises:
        DataError: if no test lesion has siblings.
    """
    table = data.table[["image_id", "lesion_id", "target"]].copy()
    table["lesion_id"] = lesions_of(table)
    part = split(data, kind="holdout", shares=shares, seed=draw).parts().loc[table["image_id"]]
    table["clean"] = part.to_numpy(dtype=object)
    table["siblings"] = 0

    shuffled = table.sample(frac=1, random_state=np.random.default_rng([draw, 1]))
    tested = shuffled[shuffled["clean"] == "test"].drop_duplicates("lesion_id")
    label_of = tested.set_index("lesion_id")["target"]
    aside = (table["clean"] == "test") & ~table["image_id"].isin(tested["image_id"])
    same = aside & (table["target"] == table["lesion_id"].map(label_of))
    siblings = {str(k): list(v) for k, v in table[same].groupby("lesion_id").groups.items()}
    table.loc[aside, "clean"] = ""
    table["leaky"] = table["clean"]

    rng = np.random.default_rng([draw, 2, seed])
    pool: dict[tuple[str, int], list[list[int]]] = {}  # training lesions by class and images
    learning = table[table["clean"] == "train"]
    for _, rows in learning.groupby(["lesion_id", "target"]):
        pool.setdefault((str(rows["target"].iloc[0]), len(rows)), []).append(list(rows.index))
    for lesion in sorted(siblings, key=lambda name: (-len(siblings[name]), name)):
        own = siblings[lesion]
        sizes = [size for label, size in pool if label == label_of[lesion] and pool[label, size]]
        size = _nearest(sizes, len(own) + 1)
        if not size:
            continue
        group = pool[str(label_of[lesion]), size]
        partner = rng.permutation(group.pop(int(rng.integers(len(group)))))
        moved = own[:size]
        table.loc[partner, "leaky"] = ""
        table.loc[partner[len(moved) :], "clean"] = ""
        table.loc[moved, "leaky"] = "train"
        here = (table["lesion_id"] == lesion) & (table["clean"] == "test")
        table.loc[here, "siblings"] = len(moved)
    if not table["siblings"].any():
        raise DataError(
            "No tested lesion has a second image, so nothing can leak. Take a collection whose "
            "catalogue names lesions and has several images of some."
        )
    return table


def _nearest(sizes: Sequence[int], wanted: int) -> int:
    """The smallest size that is large enough, else the largest; 0 if there is none."""
    enough = [size for size in sizes if size >= wanted]
    return min(enough) if enough else max(sizes, default=0)


def arm(data: Catalogue, plan: pd.DataFrame, name: str) -> tuple[Catalogue, Split]:
    """The catalogue of one arm, without images that it does not use, and its split.

    Args:
        data: the whole catalogue.
        plan: as `design` gives it.
        name: clean, or leaky: its catalogue withholds lesion and patient ids.
    """
    part = data.table["image_id"].map(plan.set_index("image_id")[name])
    used = data.table[part != ""].reset_index(drop=True)
    if name == "leaky":
        used = used.assign(lesion_id="", patient_id="")
    images = replace(data, table=used, notes=(*data.notes, NOTES[name]), home=None)
    table = pd.DataFrame(
        {
            "image_id": used["image_id"],
            "group": lesions_of(used),
            "target": used["target"],
            "fold_0": part[part != ""].to_numpy(),
        }
    )
    by = "lesion_id" if name == "clean" else ""
    return images, Split(table.astype(str), by, "own", -1, images.fingerprint)


def scored(
    tables: Mapping[tuple[int, str], pd.DataFrame], plan: pd.DataFrame, *, replicates: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The difference between the arms, with its interval over test lesions.

    Args:
        tables: predictions by seed and arm, all of the same tested images.
        plan: as `design` gives it, for any of the seeds.
        replicates: of the bootstrap.

    Returns:
        One row per scope and metric: scope, metric, images, lesions, clean, leaky (means over the
        seeds), difference, low, high, and lowest and highest difference of a single seed. And the
        values of every seed: scope, metric, seed, clean, leaky, difference.
    """
    seeds = sorted({seed for seed, _ in tables})
    facts = plan.set_index("image_id")
    rows = {key: rows_of(table, "test") for key, table in tables.items()}
    images = rows[seeds[0], "clean"]["image_id"]
    if not all(each["image_id"].equals(images) for each in rows.values()):
        raise DataError("The runs tested different images: use a new folder with --out.")
    siblings = images.map(facts["siblings"]).to_numpy()
    results, singles = [], []
    for scope, mask in zip(SCOPES, (siblings >= 0, siblings > 0, siblings == 0), strict=True):
        chosen = {key: table[mask].reset_index(drop=True) for key, table in rows.items()}
        lesions = images[mask].map(facts["lesion_id"]).to_numpy(dtype=object)
        if not len(lesions):
            continue
        measure = _paired(chosen, seeds)
        found = estimates([measure], lesions, replicates=replicates, seed=0)
        plain = measure.compute(np.ones((1, len(lesions))))
        for metric in METRICS:
            each = [float(plain[f"seed {seed}/{metric}"][0]) for seed in seeds]
            value: dict[str, Estimate] = {
                kind: found[f"{kind}/{metric}"] for kind in (*ARMS, "difference")
            }
            gap = value["difference"]
            results.append(
                {
                    "scope": scope,
                    "metric": metric,
                    "images": gap.n,
                    "lesions": gap.groups,
                    "clean": value["clean"].value,
                    "leaky": value["leaky"].value,
                    "difference": gap.value,
                    "low": gap.low,
                    "high": gap.high,
                    "lowest_seed": min(each),
                    "highest_seed": max(each),
                }
            )
            for seed, difference in zip(seeds, each, strict=True):
                clean = float(plain[f"clean {seed}/{metric}"][0])
                singles.append((scope, metric, seed, clean, clean + difference, difference))
    names = ["scope", "metric", "seed", "clean", "leaky", "difference"]
    return pd.DataFrame(results), pd.DataFrame(singles, columns=names)


def _paired(rows: Mapping[tuple[int, str], pd.DataFrame], seeds: Sequence[int]) -> Measure[str]:
    """Metrics of both arms, their means over the seeds, and the differences."""
    measures = {
        key: classification(*arrays_of(table), classes_of(table)) for key, table in rows.items()
    }

    def compute(weights: Weights) -> Mapping[str, Values]:
        found = {key: measure.compute(weights) for key, measure in measures.items()}
        values: dict[str, Values] = {}
        for metric in METRICS:
            for seed in seeds:
                values[f"clean {seed}/{metric}"] = found[seed, "clean"][metric]
                values[f"seed {seed}/{metric}"] = (
                    found[seed, "leaky"][metric] - found[seed, "clean"][metric]
                )
            for name in ARMS:
                each = [found[seed, name][metric] for seed in seeds]
                values[f"{name}/{metric}"] = np.mean(each, axis=0)
            values[f"difference/{metric}"] = values[f"leaky/{metric}"] - values[f"clean/{metric}"]
        return values

    return Measure(compute)


def described(result: pd.DataFrame, plan: pd.DataFrame, recipe: Recipe, seeds: int) -> str:
    """The result as Markdown: what was done in numbers, and the table."""
    train = int((plan["clean"] == "train").sum())
    swapped = int(plan["siblings"].sum())
    height, width = recipe.images.size
    lines = [
        f"{recipe.model.name}, {height} x {width} pixels, {seeds} seeds per arm. Both arms train "
        f"on {train:,} images; in the leaky arm {swapped:,} of them ({swapped / train:.1%}) are "
        "siblings of tested lesions, in place of as many images of other lesions of the same "
        f"class. Val: {int((plan['clean'] == 'val').sum()):,} images, the same in both. Tested: "
        f"{int((plan['clean'] == 'test').sum()):,} images, one per lesion, "
        f"{int((plan['siblings'] > 0).sum()):,} of them with siblings.",
        "",
        "| tested on | images | metric | clean | leaky | leaky - clean (95 % interval over "
        "lesions) | single seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result.to_dict("records"):
        interval = f" ({row['low']:+.3f} to {row['high']:+.3f})"
        lines.append(
            f"| {row['scope']} | {row['images']:,} | {_SPOKEN[row['metric']]} "
            f"| {row['clean']:.3f} | {row['leaky']:.3f} | {row['difference']:+.3f}"
            f"{' (no interval)' if np.isnan(row['low']) else interval} "
            f"| {row['lowest_seed']:+.3f} to {row['highest_seed']:+.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
