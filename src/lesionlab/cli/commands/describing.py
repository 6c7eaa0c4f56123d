"""Verbs that describe a model to others.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.cli.outcome import Outcome, WarningsLast
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener


def card(
    run: Path,
    *,
    out: list[Path] | None = None,
    answers: Path | None = None,
    template: Path | None = None,
    data: Path | None = None,
    subgroups: Path | None = None,
    part: Literal["train", "val", "test"] = "test",
    replicates: int = 1000,
    listen: Listener,
) -> Outcome:
    """Fill a model card from a run, and answer CLEAR Derm, CLAIM and TRIPOD+AI item by item.

    What neither the run nor its data say is "not known", with who could say it. --template writes
    a file of open questions to fill in; --answers reads it back.

    Example: lesionlab card runs/first --out card.html card.md --answers answers.yaml

    Args:
        run: a folder of `lesionlab train` or `folds`, or predictions, of which little is known.
        out: the files to write: .html, .md or .json.
        answers: what the author knows, as YAML.
        template: write a new YAML file with every question that is open.
        data: the run's catalogue, if it is no longer where it was.
        subgroups: a CSV of figures group by group, to be shown as it is.
        part: which part to score.
        replicates: bootstrap replicates behind the intervals.
    """
    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.reporting.card.author_answers import write_template
    from lesionlab.reporting.card.card import card as fill
    from lesionlab.reporting.card.card import check_suffix
    from lesionlab.reporting.card.standards import STATUSES, standards

    if not out and not template:
        raise SettingsError("Say where to write the card: --out card.html, or --template FILE.")
    for path in out or ():
        check_suffix(path)
    last = WarningsLast(listen)
    made = fill(
        run,
        data=Catalogue.open(data) if data else None,
        answers=answers,
        subgroups=subgroups,
        part=part,
        replicates=replicates,
        listen=last,
    )
    rows = [
        (standards()[key].title, len(answered), *made.counts(key).values())
        for key, answered in made.standards.items()
    ]
    columns = ["standard", "items", *STATUSES.values()]
    outcome = Outcome([(f"Card of {made.name}", pd.DataFrame(rows, columns=columns))])
    outcome.warnings += last.warnings
    outcome.lines += [f"Written: {made.save(path)}" for path in out or ()]
    if template:
        write_template(template, made.name, made.unanswered(), made.given)
        outcome.lines.append(f"Written: {template}. Fill it in, then add --answers {template}")
    return outcome
