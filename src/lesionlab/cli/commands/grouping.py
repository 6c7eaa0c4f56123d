"""Verbs that set a model beside itself on other patients, and beside models that see no lesion.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lesionlab.cli.outcome import Outcome, WarningsLast
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.evaluation.comparison.baselines import Baselines
    from lesionlab.evaluation.subgroups.result import Subgroups


def subgroups(
    predictions: Path,
    *,
    data: Path | None = None,
    by: list[str] | None = None,
    metric: list[str] | None = None,
    part: Literal["train", "val", "test"] = "test",
    positive: str | None = None,
    as_: Literal["malignant-benign"] | None = None,
    replicates: int = 2000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Score groups of patients and images, and tell real gaps between them from chance.

    Every group is compared with all other images. Means over classes run over the classes that both
    sides have, so that a group with more nevi is not called better for that. Groups with fewer than
    20 lesions get no figures; p values are adjusted (Holm) over all groups, metric by metric.

    Example: lesionlab subgroups runs/first --by age sex age+sex --out groups.csv

    Args:
        predictions: a folder of `lesionlab train`, `folds` or `blend`, or a CSV.
        data: the catalogue's folder; not needed for a run whose catalogue is where it was.
        by: age, sex, site, dx_type, source, or two joined by +; by default these five.
        metric: what to show, such as accuracy or overconfidence; by default balanced_accuracy and
            the sensitivity at 90 % specificity. --out writes all.
        part: which part to score; the threshold comes from val.
        positive: the class of the sensitivity; by default mel, or malignant.
        as_: read seven classes as these two.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: write all figures and gaps as CSV.
    """
    from lesionlab.evaluation.subgroups.subgroups import BY
    from lesionlab.evaluation.subgroups.subgroups import subgroups as score

    found = score(
        predictions,
        data,
        by=by or BY,
        part=part,
        positive=positive,
        as_=as_,
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    outcome = Outcome()
    for name in _chosen(found, metric):
        for grouping in found.groups:
            outcome.tables.append((f"{name} by {grouping}", _group_table(found, grouping, name)))
        if widest := _widest_table(found, name):
            outcome.tables.append(widest)
    outcome.lines.append(
        "Classes: those that a mean over classes ran over on both sides. An adjusted p below 0.05 "
        "is a difference; the widest gap's interval holds although it was picked for being widest."
    )
    if out:
        found.save(out)
        outcome.lines.append(f"Written: {out}")
    return outcome


def _chosen(found: Subgroups, metric: list[str] | None) -> list[str]:
    """The metrics to show, by their full names."""
    short = {name.partition("/")[0].partition("_at_")[0]: name for name in found.metrics}
    if metric is None:
        return [short[each] for each in ("balanced_accuracy", "sensitivity") if each in short]
    known = {**short, **{name: name for name in found.metrics}}
    known |= {name.partition("/")[0]: name for name in found.metrics}
    if wrong := [each for each in metric if each not in known]:
        raise SettingsError(
            f"There is no metric {', '.join(map(repr, wrong))} here. Choose among "
            f"{', '.join(found.metrics)}."
        )
    return list(dict.fromkeys(known[each] for each in metric))


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


def baselines(
    predictions: Path,
    *,
    out: Path,
    data: Path | None = None,
    part: Literal["train", "val", "test"] = "test",
    as_: Literal["malignant-benign"] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener,
) -> Outcome:
    """Set a model beside two that look at no lesion: age, sex and site alone, and colours alone.

    Both are fitted on part train of the very split of the predictions, their one strength chosen on
    val. Each comes twice: as fitted, and re-weighted to classes of equal share, which is the one to
    beat in balanced accuracy. OUT gets four predictions tables like any other.

    Example: lesionlab baselines runs/first --out runs/first-baselines

    Args:
        predictions: a folder of `lesionlab train`, or a CSV with a column part.
        out: a folder for the tables.
        data: the catalogue's folder; not needed for a run whose catalogue is where it was.
        part: which part to score.
        as_: read seven classes as these two.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
    """
    from lesionlab.evaluation.comparison.baselines import baselines as fit

    found = fit(
        predictions,
        data,
        part=part,
        as_=as_,
        replicates=replicates,
        seed=seed,
        listen=WarningsLast(listen),
    )
    outcome = _beside(found)
    names = ", ".join(file.name for file in found.save(out))
    outcome.lines += [*found.told, f"Written to {out}: {names}"]
    return outcome


def _beside(found: Baselines) -> Outcome:
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
