"""Decisions by cost: what each action costs for each true class, and the cheapest one.

A model that gives probabilities takes the action with the least expected cost (Elkan, The
foundations of cost-sensitive learning, IJCAI 2001). What that saves, against the same action for
everybody, against trusting the likeliest class and against never referring, is measured on a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError
from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, estimates
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.evaluation.predictions.binary_target import Unit, ends, units_of
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, silent
from lesionlab.tables import Part, classes_of, read_csv
from lesionlab.taxonomy import GROUPINGS

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

REFER = "refer"
"""The action that leaves the decision to a doctor, if the table has one of that name."""


@dataclass(frozen=True)
class Costs:
    """What each action costs for each true class.

    Attributes:
        classes: the classes, one per row.
        actions: the actions, one per column.
        values: shape (classes, actions), in any one unit; less is better.
    """

    classes: tuple[str, ...]
    actions: tuple[str, ...]
    values: Floats

    def own(self) -> NDArray[np.bool_]:
        """Which actions decide without a doctor: all but the one that is called refer."""
        return np.array([name != REFER for name in self.actions])

    def cheapest(self, probabilities: Floats, allowed: NDArray[np.bool_] | None = None) -> Index:
        """The action with the least expected cost, of equals the first, shape (n,).

        Args:
            probabilities: shape (n, classes).
            allowed: which actions may be taken, shape (actions,); None: all.
        """
        expected = probabilities @ self.values
        if allowed is not None:
            expected = np.where(allowed, expected, np.inf)
        best: Index = np.argmin(expected, axis=1)
        return best


def read_costs(source: pd.DataFrame | Path | str, classes: tuple[str, ...]) -> Costs:
    """Read a table of costs: a column class, and one column of numbers per action.

    A table with rows benign and malignant serves for classes that the rule of
    `taxonomy.MALIGNANT_RULE` knows.

    Args:
        source: a table, or a CSV file.
        classes: those of the predictions, in their order.

    Raises:
        DataError: with every fault of the table at once.

    Example:
        >>> table = pd.DataFrame({"class": ["mel", "nv"], "leave": [20, 0], "excise": [1, 1]})
        >>> read_costs(table, ("mel", "nv")).actions
        ('leave', 'excise')
    """
    origin = "The table of costs" if isinstance(source, pd.DataFrame) else str(source)
    table = source if isinstance(source, pd.DataFrame) else read_csv(Path(source), ("class",))
    if "class" not in table:
        raise DataError(f"{origin} has no column class. Give class, and a column for every action.")
    rows = table.assign(**{"class": table["class"].astype(str).str.strip()}).set_index("class")
    groups = GROUPINGS["malignant-benign"].groups
    if set(rows.index) == {"malignant", "benign"} and all(name in groups for name in classes):
        grouped = [groups[name] for name in classes]
        rows = rows if rows.index.has_duplicates else rows.loc[grouped].set_axis(list(classes))
    faults = [f"{name} stands twice" for name in rows.index[rows.index.duplicated()].unique()]
    faults += [f"{name} is missing" for name in classes if name not in rows.index]
    faults += [
        f"the predictions have no class {name}" for name in rows.index if name not in classes
    ]
    numbers = rows.apply(pd.to_numeric, errors="coerce")
    for action in numbers.columns:
        wrong = list(numbers.index[~np.isfinite(numbers[action].astype(float))])
        faults += [f"{action} of {name} is no number" for name in wrong]
    if len(numbers.columns) < 2:
        faults.append("it takes two or more actions to choose from")
    if faults:
        raise DataError(
            f"{origin} is no table of costs for {', '.join(classes)}: {'; '.join(faults)}. It "
            "needs a column class with each of them once, and a column of numbers per action."
        )
    values = numbers.loc[list(classes)].to_numpy(dtype=np.float64)
    return Costs(classes, tuple(map(str, numbers.columns)), values)


def decision_costs(
    predictions: Source,
    costs: Costs | pd.DataFrame | Path | str,
    *,
    part: Part = "test",
    unit: Unit = "image",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> pd.DataFrame:
    """What it would have cost to act on a model, per image, against simpler ways.

    Nothing is fitted: the costs and the probabilities say what is cheapest. It is only as good as
    the probabilities are calibrated, and holds for classes as common as in this part.

    Args:
        predictions: anything that `evaluate` takes.
        costs: see `read_costs`. An action called refer leaves the decision to a doctor.
        part: train, val or test.
        unit: image or lesion.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress.

    Returns:
        One row per way: "cheapest" (of all actions, by the model), "never refer" (of all but refer,
        if there is one), "likeliest class" (the action that would be cheapest if it were certain,
        never refer) and "always ..." for each action. Columns way, cost, low, high (of its mean),
        saved, saved_low, saved_high (what "cheapest" saves against it, paired), referred (share).

    Raises:
        DataError: with every fault of the costs at once, or if the part has no images.
        FindingsError: with every fault of the predictions at once.

    Example:
        >>> decision_costs("runs/first", "costs.csv")  # doctest: +SKIP
    """
    table = open_predictions(predictions)
    classes = classes_of(table)
    known = costs if isinstance(costs, Costs) else read_costs(costs, classes)
    rows = units_of(table, part, unit)
    targets, probabilities = arrays_of(rows)
    ways = _ways(known, probabilities)
    spent = {name: known.values[targets, action] for name, action in ways.items()}

    def compute(weights: Weights) -> Mapping[str, Values]:
        total = weights.sum(axis=1)
        means = {name: ratio(weights @ each, total) for name, each in spent.items()}
        return means | {f"saved/{name}": each - means["cheapest"] for name, each in means.items()}

    found = estimates(
        [Measure(compute)],
        rows["lesion_id"].to_numpy(dtype=object),
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    refer = known.actions.index(REFER) if REFER in known.actions else -1
    made = [
        (name, *ends(found[name]), *ends(found[f"saved/{name}"]), float((action == refer).mean()))
        for name, action in ways.items()
    ]
    columns = ["way", "cost", "low", "high", "saved", "saved_low", "saved_high", "referred"]
    return pd.DataFrame(made, columns=columns)


def _ways(costs: Costs, probabilities: Floats) -> dict[str, Index]:
    """The action for every image, by name of the way to choose it."""
    own = costs.own()
    if not own.any():
        own = ~own
    ways = {"cheapest": costs.cheapest(probabilities)}
    if not own.all():
        ways["never refer"] = costs.cheapest(probabilities, own)
    certain = costs.cheapest(np.eye(len(costs.classes)), own)
    ways["likeliest class"] = certain[decide(probabilities)]
    for number, action in enumerate(costs.actions):
        ways[f"always {action}"] = np.full(len(probabilities), number, dtype=np.intp)
    return ways
