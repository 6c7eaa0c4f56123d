"""Commands that train.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command, library
from lesionlab.cli.outcome import Outcome, catalogue_and_split, shown
from lesionlab.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.evaluation.evaluation_result import Evaluation

_MOST_TRIALS = 10  # that are shown


@command(
    "",
    "models",
    "models densenet201",
    "models recipes/d_resnet50v2.yaml",
)
def models(
    call: Call,  # noqa: ARG001
    name: str | None = None,
    *,
    filter: str | None = None,
) -> Outcome:
    """List the networks to choose from, or show one: its groups of layers, input and weights.

    Of a recipe, layers and parameters are those of its network with its own head, and what learns
    of them. Otherwise parameters are counted with a linear head for seven classes. Depth is the
    number of convolutions and linear layers on the longest way from the image to the logits; the
    smallest input is the side of the smallest square image, of 16, 24, 32, ... 224 pixels, that the
    network takes.

    Args:
        name: any network, those of timm included, to see its groups: where `phases.0.depth` can
            cut it, so that the groups below are frozen; or a recipe, a YAML file.
        filter: list all of timm's networks with this text in their names instead.
    """
    from lesionlab.cli.render import network, recipe_network, zoo

    if filter is not None:
        found = library("models.listing.list_others")(filter)
        if found.empty:
            raise SettingsError(f"timm has no network with {filter!r} in its name.")
        return Outcome([(f"Networks with {filter!r} in their names", found)])
    if name is None:
        return zoo(library("models.listing.list_models")())
    if name.endswith((".yaml", ".yml")):
        recipe = library("recipe.schema.Recipe").load(name)
        return recipe_network(name, library("models.summary.summarise")(recipe))
    return network(library("models.listing.describe")(name))


def recipe_inputs(
    recipe: Path, *, data: Path, split: Path | None = None, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Recipe, catalogue and split, opened: faults of the recipe come first.

    Args:
        recipe: a YAML file of settings.
        data: the catalogue's folder.
        split: the split's CSV; by default split.csv beside the catalogue.
    """
    from lesionlab.recipe.schema import Recipe

    settings = Recipe.load_with(recipe, changes)
    opened, parts = catalogue_and_split(data, split)
    return {"recipe": settings, "data": opened, "split": parts}


@command(
    "training.views.views",
    "views recipes/d_cnn.yaml --data data/ham10000 --out views.html",
    inputs=recipe_inputs,
)
def views(call: Call) -> Outcome:
    """Write a page of random views beside the untouched images, and of classes before and after.

    The images are the first of the first epoch, and the first view of each is the very one that
    training begins with; the classes are counted before and after sampling. Nothing is trained. Any
    setting of the recipe can be changed with its dotted name.
    """
    return Outcome(lines=[f"Written: {call()}"])


@command(
    "evaluation.comparison.runs.list_runs",
    "runs runs",
    "runs runs --out runs.csv",
)
def runs(call: Call, folder: Path = Path("runs"), *, out: Path | None = None) -> Outcome:
    """List the runs in a folder, the best on val first: settings that differ, and figures.

    Unfinished runs are listed with what they have so far. Figures of val decide what to do next;
    `leaderboard` gives those of test, with intervals.

    Args:
        folder: where they are, at any depth; runs by default.
        out: write the table as CSV, each setting a column.
    """
    from lesionlab.display import text_table

    table = call(folder=folder)
    if out is not None:
        from lesionlab.files import write_csv

        write_csv(out, table)
    text = text_table(library("evaluation.comparison.runs.packed")(table), width=80)
    return Outcome(text=text, lines=[f"Written: {out}"] if out else [])


@command(
    "training.train.train",
    "train recipes/mobilenetv4_conv_small.yaml --data data/ham10000 --out runs/first",
    without=("parts", "after_epoch"),
    inputs=recipe_inputs,
    warnings_last=False,
)
def train(call: Call) -> Outcome:
    """Train a network, keep the epoch that is best on val, and predict train, val and test.

    The same command again goes on where a stopped run was. Any setting of the recipe can be changed
    with its dotted name; the file comes first, flags win over it. `train --folds` trains every fold
    of the split instead (`lesionlab train --folds --help`).
    """
    run = call()
    out = call.options["out"]
    if not (library("training.distributed.processes.place")().first and run.complete):
        return Outcome()  # the first process of all says what came of it
    how = "the last" if run.recipe.select.keep == "last" else "chosen on val"
    if (run.predictions["part"] == "test").any():
        from lesionlab.evaluation.evaluate import evaluate

        outcome = shown(evaluate(run.predictions), f"{out}, part test")
    else:
        outcome = Outcome(lines=["The split has no test part, so nothing was scored."])
    outcome.lines += [
        f"Kept {run.kept}, {how}; {run.info['minutes']:.1f} minutes.",
        f"Written: {out}. Next: {typed('report', out, out='report.html')}",
    ]
    return outcome


@command(
    "training.cross_validation.cross_validate",
    "train --folds recipes/mobilenetv4_conv_small.yaml --data data/ham10000 --out runs/cv",
    inputs=recipe_inputs,
    warnings_last=False,
)
def train_folds(call: Call) -> Outcome:
    """Train a network for every fold of a split, and pool their predictions of unseen images.

    Each fold is an ordinary run in OUT/fold_0, OUT/fold_1, ... OUT/predictions.csv holds every test
    image once, predicted by the network that never saw its lesion; `evaluate OUT` and `report OUT`
    read it. The same command again goes on where it was stopped. Any setting of the recipe can be
    changed with its dotted name.
    """
    folds = call()
    out = call.options["out"]
    if not folds.complete:
        missing = sorted(set(range(call.options["split"].folds)) - set(folds.runs))
        return Outcome(
            lines=[
                f"Trained: fold {', '.join(map(str, folds.runs))}. Still missing: fold "
                f"{', '.join(map(str, missing))}. The tables are written when all are there."
            ]
        )
    from lesionlab.evaluation.evaluate import evaluate

    pooled = evaluate(folds.predictions)
    outcome = shown(pooled, f"{out}, every fold's test part together")
    outcome.tables.insert(0, ("Each fold by itself", _per_fold(folds.summary, pooled)))
    data = call.given["data"]
    outcome.lines += [
        "Pooled AUROC ranks the scores of different networks against each other: expect it below "
        "the mean of the folds.",
        f"Written: {out}. Next: {typed('report', out, data=data, out='report.html')}",
    ]
    return outcome


def _per_fold(summary: pd.DataFrame, pooled: Evaluation) -> pd.DataFrame:
    """Figures of each fold, their mean and spread, and those of all images together."""
    import pandas as pd

    counted = [name for name in ("images", "lesions") if name in summary]
    names = map(str, summary)
    figures = [name for name in names if "accuracy" in name or "auroc" in name or "/" in name]
    rows = [
        {
            "fold": str(int(row["fold"])),
            **{name: str(int(row[name])) for name in counted},
            **{name: f"{row[name]:.3f}" for name in figures},
        }
        for row in summary.to_dict("records")
    ]
    values = summary[figures]
    rows.append(
        {
            "fold": "mean ± sd",
            **{name: f"{values[name].mean():.3f} ± {values[name].std():.3f}" for name in figures},
        }
    )
    sizes = {"images": pooled["accuracy"].n, "lesions": pooled["accuracy"].groups}
    rows.append(
        {
            "fold": "pooled",
            **{name: str(sizes[name]) for name in counted},
            **{name: str(pooled[name]) for name in figures if name in pooled},
        }
    )
    table = pd.DataFrame(rows).fillna("")
    return table.rename(columns=lambda name: str(name).replace("_", " ").replace("/", " "))


@command(
    "training.tuning.tune.tune",
    "tune recipe.yaml --data data/ham10000 --out runs/search --trials 30 "
    "--try phases.0.optim.lr=1e-4..1e-2:log --try loss.kind=cross_entropy,focal",
    inputs=recipe_inputs,
    warnings_last=False,
)
def tune(call: Call, *, space: Path | None = None, try_: list[str] | None = None) -> Outcome:
    """Search for better settings: train trial after trial and judge each on val, never on test.

    Trials are compared by the recipe's select.metric on the val part; part test is not predicted.
    OUT/best.yaml is the best trial's recipe, OUT/trials.csv has them all, OUT/trial_0007 is a run
    folder. The same command again finishes what was stopped, with more --trials it goes on.

    Args:
        space: a YAML file of what to try: by dotted key {low: 1e-4, high: 1e-2, log: true} or
            {choices: [...]}.
        try_: what to try, in words: key=low..high, key=low..high:log or key=a,b,c; wins over
            --space.
    """
    from lesionlab.recipe.validation import read_yaml

    read_words = library("training.tuning.search_space.read_words")
    given = {**(read_yaml(space) if space else {}), **read_words(try_ or [])}
    search = call(space=given)
    out, metric = call.options["out"], call.options["recipe"].select.metric
    following = typed(
        "train",
        Path(out) / "best.yaml",
        data=call.given["data"],
        split=call.given.get("split"),
        fold=call.options.get("fold") or None,
        out="NEW_FOLDER",
    )
    table = search.trials.sort_values("value", ascending=False, kind="stable")
    states = search.trials["state"].value_counts()
    best = table[["trial", "state", "value", "epochs", "minutes", *given]].rename(
        columns={"value": metric.replace("_", " ")}
    )
    return Outcome(
        [("The best trials, judged on val", _short(best.head(_MOST_TRIALS)))],
        [
            ", ".join(f"{count} {state}" for state, count in states.items()) + ".",
            f"Best: trial {search.best_trial}, {metric} {search.value:.3f} on val. The best of "
            "many on the same images flatters; test was neither predicted nor scored.",
            f"Written: {out}. Next: {following}",
        ],
    )


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: numbers with four digits, nothing where there is none."""
    import pandas as pd

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{value:.4g}"
        return str(value)

    return pd.DataFrame({name: [cell(each) for each in table[name]] for name in table.columns})


@command(
    "prediction.embed.embed",
    "embed resnet18 --pretrained resnet18.pth --data data/ham10000 --out features",
)
def embed(
    call: Call,
    model: str,
    images: list[Path] | None = None,
    *,
    data: Path | None = None,
    pretrained: str | None = None,
) -> Outcome:
    """Write the frozen features of a backbone for every image of a catalogue, once.

    They go into embeddings.npy, one row per row of embeddings.csv; embeddings.json says what they
    were made of. A run's logits go into logits.npy, and a run takes images too. To train a
    classifier on them, take a recipe with a probe as its head.

    Args:
        model: a run's folder, or a name of `lesionlab models`.
        images: of a run, image files or folders of them, instead of a catalogue.
        data: the catalogue's folder.
        pretrained: of a model's name: a local .safetensors or .pth file, or `true` for published
            weights: an installed package's, or timm's.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue

    embeddings = call(
        model=model,
        data=Catalogue.open(data) if data else None,
        images=images or (),
        pretrained={None: False, "true": True}.get(pretrained, pretrained),
    )
    count, features = embeddings.vectors.shape
    out = call.options["out"]
    return Outcome(lines=[f"{out} holds {features} features of each of {count:,} images."])
