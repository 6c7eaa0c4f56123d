"""Commands that write pages: on a collection, on runs, on one model for others.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path

from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome, class_counts
from lesionlab.errors import SettingsError


@command(
    "reporting.report.report.report",
    "report runs/first --out report.html",
)
def report(call: Call, *, out: Path = Path("report.html"), data: Path | None = None) -> Outcome:
    """Write one self-contained HTML page: data, figures with intervals, curves, pictures, settings.

    Args:
        out: the page to write.
        data: the catalogue's folder, for the example pictures; by default the one trained on.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue

    path = call(out=out, data=Catalogue.open(data) if data else None)
    return Outcome(lines=[f"Written: {path}. Open it in a browser."])


@command(
    "reporting.explore.explore.explore",
    "explore data/ham10000 --out explore.html --svg figures",
)
def explore(call: Call, data: Path) -> Outcome:
    """Write one page on a collection: its metadata in tables and figures, with examples.

    Classes, benign and malignant, class weights, ages, sexes, sites, how the diagnoses were
    confirmed, images per lesion and what a split by image would leak, aspect ratios, what is
    missing, and where to take care. With --split, the parts side by side.

    Args:
        data: the catalogue's folder.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue

    opened = Catalogue.open(data)
    lines = [f"Written: {call(data=opened)}"]
    if svg := call.options.get("svg"):
        lines.append(f"Its figures (.svg) and tables (.csv) are in {svg}.")
    return Outcome([class_counts(opened)], lines)


@command(
    "reporting.card.card.card",
    "card runs/first --out card.html card.md --answers answers.yaml",
    without=("predictions", "referral", "worth"),
)
def card(
    call: Call,
    *,
    out: list[Path] | None = None,
    template: Path | None = None,
    data: Path | None = None,
) -> Outcome:
    """Fill a model card from a run, and answer CLEAR Derm, CLAIM and TRIPOD+AI item by item.

    What neither the run nor its data say is "not known", with who could say it. --template writes
    a file of open questions to fill in; --answers reads it back.

    Args:
        out: the files to write: .html, .md or .json.
        template: write a new YAML file with every question that is open.
        data: the run's catalogue, if it is no longer where it was.
    """
    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.reporting.card.author_answers import write_template
    from lesionlab.reporting.card.card import check_suffix
    from lesionlab.reporting.card.standards import STATUSES, standards

    if not out and not template:
        raise SettingsError("Say where to write the card: --out card.html, or --template FILE.")
    for path in out or ():
        check_suffix(path)
    filled = call(data=Catalogue.open(data) if data else None)
    rows = [
        (standards()[key].title, len(answered), *filled.counts(key).values())
        for key, answered in filled.standards.items()
    ]
    columns = ["standard", "items", *STATUSES.values()]
    outcome = Outcome([(f"Card of {filled.name}", pd.DataFrame(rows, columns=columns))])
    outcome.lines += [f"Written: {filled.save(path)}" for path in out or ()]
    if template:
        write_template(template, filled.name, filled.unanswered(), filled.given)
        outcome.lines.append(f"Written: {template}. Fill it in, then add --answers {template}")
    return outcome
