"""`card`: what a model is, filled from the run itself, and what three standards ask of it.

The sections follow Mitchell et al., Model Cards for Model Reporting (FAT* 2019). Nothing is said
that the run's files, the publication of a known collection or the author's answers do not say;
everything else is "not known".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesionlab._version import __version__
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.disclaimer import NOTICE
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.evaluation.calibration.report import calibration_errors
from lesionlab.evaluation.comparison.metadata_worth import MetadataWorth, metadata_worth
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.predictions.load import open_predictions
from lesionlab.evaluation.triage.referral_cost import MeasuredReferral, referral_costs
from lesionlab.files import write_json, write_text
from lesionlab.progress import Listener, Notice, silent
from lesionlab.reporting.card import data_facts, render, result_facts, training_facts
from lesionlab.reporting.card.author_answers import NOT_APPLICABLE, AuthorAnswers
from lesionlab.reporting.card.model import Answered, CardContent
from lesionlab.reporting.card.outline import OUTLINE, Fact, Subject, Told
from lesionlab.reporting.card.standards import WHO, Item, Status, standards
from lesionlab.reporting.page.run_inputs import Missing, check_finished, own_catalogue
from lesionlab.run import FOLDS, INFO, Folds, Run, open_run
from lesionlab.tables import Part, read_csv

KIND = "lesionlab card 1"
"""What the JSON form says it is; the number rises when a key changes its meaning."""


@dataclass(frozen=True, eq=False, repr=False)
class Card(CardContent):
    """A model card: `CardContent`, as a page, Markdown or JSON."""

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; a fact or answer that is not known has a text of None."""
        return {
            "kind": KIND,
            "lesionlab": __version__,
            "name": self.name,
            "notice": NOTICE,
            "facts": {
                key: {
                    "label": fact.label,
                    "text": fact.text or None,
                    "by": fact.by,
                    "applies": fact.applies,
                }
                for key, fact in self.facts.items()
            },
            "sections": [
                {
                    "name": heading.name,
                    "title": heading.title,
                    "facts": list(heading.labels),
                    "tables": [name for name in heading.tables if name in self.tables],
                }
                for heading in OUTLINE
            ],
            "tables": {
                name: {
                    "title": table.title,
                    "reading": table.reading,
                    "columns": [str(column) for column in table.data.columns],
                    "rows": [[_plain(cell) for cell in row] for row in table.data.to_numpy(object)],
                }
                for name, table in self.tables.items()
            },
            "caveats": list(self.caveats),
            "standards": {
                key: {
                    "title": standards()[key].title,
                    "citation": standards()[key].citation,
                    "note": standards()[key].note or None,
                    "counts": self.counts(key),
                    "items": [_item(each) for each in answered],
                }
                for key, answered in self.standards.items()
            },
            "evaluation": dict(self.evaluation),
        }

    def to_html(self) -> str:
        """One self-contained page."""
        return render.html(self)

    def to_markdown(self) -> str:
        """The same as Markdown, for a README or a model hub."""
        return render.markdown(self)

    def save(self, path: str | Path) -> Path:
        """Write the card as .html, .md or .json, by the file's suffix.

        Raises:
            SettingsError: if it is another suffix.
            DataError: if the file cannot be written.
        """
        path = check_suffix(path)
        if path.suffix.lower() == ".json":
            write_json(path, self.to_json())
        else:
            write_text(path, _FORMS[path.suffix.lower()](self))
        return path

    def __repr__(self) -> str:
        known = sum(fact.known for fact in self.facts.values())
        return f"<Card of {self.name}: {known} of {len(self.facts)} facts known>"


_MISSING: dict[Missing, str] = {
    "not given": "none was given. Add one with --data.",
    "gone": "it is no longer where it was. Say where it is with --data.",
    "another": "it is not the one that this run was trained on.",
}
_FORMS: dict[str, Callable[[Card], str]] = {".html": Card.to_html, ".md": Card.to_markdown}


def check_suffix(path: str | Path) -> Path:
    """The path of a card, if its suffix says what to write.

    Raises:
        SettingsError: if it does not.
    """
    path = Path(path)
    if path.suffix.lower() not in (*_FORMS, ".json"):
        raise SettingsError(f"{path}: a card is .html, .md or .json. Name it card.html, say.")
    return path


def card(
    source: Run | Folds | str | Path | pd.DataFrame,
    *,
    data: Catalogue | str | Path | None = None,
    answers: AuthorAnswers | str | Path | None = None,
    subgroups: pd.DataFrame | str | Path | None = None,
    predictions: pd.DataFrame | None = None,
    referral: MeasuredReferral | None = None,
    worth: MetadataWorth | None = None,
    part: Part = "test",
    replicates: int = 1000,
    listen: Listener = silent,
) -> Card:
    """Fill a model card from a run.

    Args:
        source: a finished run or folds, the folder of one, or anybody's predictions (a table, or a
            CSV or Parquet file), of which much less is known.
        data: the run's catalogue, or its folder; by default the one that it was trained on, if it
            is still where it was.
        answers: what the author knows, as `Answers` or the path of its YAML file.
        subgroups: figures group by group to show: a table computed from these predictions, or the
            path of a CSV, which then counts as the author's word.
        predictions: of the same run or folds, made otherwise than while training, such as over
            several views: scored instead of theirs.
        referral: what the rule of referral that ships did; by default one with the usual promises,
            fitted on val, where there is a val part.
        worth: what age, sex and site are worth to a model that takes them; by default its run
            predicts the scored images once more without them, where the catalogue is at hand.
        part: which part to score: train, val or test.
        replicates: bootstrap replicates behind the intervals; 0 leaves them out.
        listen: told of the progress, and of what is not at hand.

    Raises:
        RunError: if a folder is no run, or the run is not finished.
        DataError: if the predictions cannot be read or lack the part.
        FindingsError: with every fault of a predictions table at once.
        SettingsError: with every fault of the answers at once.

    Example:
        >>> card("runs/first").save("card.html")  # doctest: +SKIP
    """
    if isinstance(answers, str | Path):
        answers = AuthorAnswers.load(answers)
    given = answers or AuthorAnswers()
    data = None if data is None else Catalogue.open(data)
    subject = _open(source, data, subgroups, predictions, referral, worth, part, replicates, listen)
    found: dict[str, Told] = {
        **result_facts.of_card(subject),
        **data_facts.of_data(subject),
        **training_facts.of_training(subject),
        **result_facts.of_results(subject),
    }
    if "results.subgroups" in found and isinstance(subgroups, str | Path):
        found["results.subgroups"] = Told(found["results.subgroups"].text, "author")
    if cited := [f"lesionlab {__version__}", *_known(found, "data.citation")]:
        found["legal.cite"] = Told("; ".join(cited))
    found |= {f"author.{key}": Told(text, "author") for key, text in given.fields.items()}
    known = {
        key: _fact(key, label, found.get(key))
        for heading in OUTLINE
        for key, label in heading.labels.items()
    }
    tables = [*data_facts.tables(subject), *result_facts.tables(subject)]
    return Card(
        subject.name,
        known,
        {table.name: table for table in tables},
        tuple(result_facts.caveats(subject)),
        {
            key: tuple(
                answer(item, known, given.items.get(key, {}).get(item.id, ""))
                for item in standard.items
            )
            for key, standard in standards().items()
        },
        subject.result.to_json(),
        given,
    )


def answer(item: Item, known: Mapping[str, Fact], author: str = "") -> Answered:
    """Answer one item from the facts of a card and from what the author says to it.

    Args:
        item: the item.
        known: every fact of the card by key.
        author: the author's own answer; one that begins with "not applicable:" says why.
    """
    needed = [known[key] for key in item.needs]
    told = [fact for fact in needed if fact.known]
    helps = [known[key] for key in item.helps if known[key].known]
    lacking = [fact.label for fact in needed if not fact.known]
    if item.lacks:
        lacking.append(item.lacks)
    both = tuple(told + helps)
    complete = bool(told) and not lacking
    if author.lower().startswith(NOT_APPLICABLE):
        return Answered(item, "not_applicable", both, author, ())
    if told and not author and not any(fact.applies for fact in told):
        return Answered(item, "not_applicable", both, author, ())
    status: Status
    if complete and any(fact.by != "author" for fact in told):
        status = "run"
    elif author or complete:
        status = "author"
    else:
        status = "part" if both else "not_known"
    open_ = tuple(lacking) if status in ("part", "not_known") else ()
    return Answered(item, status, both, author, open_)


def _fact(key: str, label: str, told: Told | None) -> Fact:
    if told is None or not told.text:
        return Fact(key, label)
    return Fact(key, label, told.text, told.by, told.applies)


def _known(found: Mapping[str, Told], key: str) -> list[str]:
    return [found[key].text] if key in found else []


def _open(
    source: Run | Folds | str | Path | pd.DataFrame,
    data: Catalogue | None,
    subgroups: pd.DataFrame | str | Path | None,
    predictions: pd.DataFrame | None,
    referral: MeasuredReferral | None,
    worth: MetadataWorth | None,
    part: Part,
    replicates: int,
    listen: Listener,
) -> Subject:
    name, run, folds = "predictions", None, None
    if isinstance(source, str | Path):
        path = Path(source)
        name = path.resolve().name if path.is_dir() else path.stem
        if (path / INFO).is_file() or (path / FOLDS).is_file():
            source = open_run(path)
    if isinstance(source, Folds):
        name, folds = source.name, source
        run = next(iter(source.runs.values()), None)
    elif isinstance(source, Run):
        name, run = source.name, source
        check_finished(source, "describe")
    own = predictions is None
    predictions = open_predictions(source if predictions is None else predictions)
    if subgroups is not None and not isinstance(subgroups, pd.DataFrame):
        subgroups = read_csv(Path(subgroups))
    subject = Subject(
        name,
        predictions,
        evaluate(predictions, part=part, replicates=replicates, listen=listen),
        calibration_errors(predictions, part=part, replicates=replicates, listen=listen),
        replicates,
        run,
        folds,
        _catalogue(run, data, listen),
        subgroups,
        referral or _referral(predictions, part, replicates, listen),
        worth,
    )
    if own and worth is None:
        return replace(subject, worth=_worth(subject, part, listen))
    return subject


def _worth(subject: Subject, part: Part, listen: Listener) -> MetadataWorth | None:
    """What the run's own answers without age, sex and site tell; None where that cannot be said."""
    fields = data_facts.metadata_fields(subject)
    source = subject.folds or subject.run
    if not fields or source is None or subject.data is None or part != "test":
        return None
    from lesionlab.prediction.run_predictor import predict_without_metadata  # takes torch

    try:
        unknown = predict_without_metadata(source, data=subject.data, listen=listen)
    except (DataError, RunError) as error:
        listen(Notice(f"What {', '.join(fields)} are worth is left out: {error}"))
        return None
    return metadata_worth(
        subject.predictions, unknown, fields, replicates=subject.replicates, listen=listen
    )


def _referral(
    predictions: pd.DataFrame, part: Part, replicates: int, listen: Listener
) -> MeasuredReferral | None:
    """What a rule fitted on val does; None where that cannot be said."""
    if part == "val" or not (predictions["part"] == "val").any():
        return None
    try:
        return referral_costs(
            predictions, promises=(), part=part, replicates=replicates, listen=listen
        ).measured
    except (DataError, SettingsError):
        return None


def _catalogue(run: Run | None, data: Catalogue | None, listen: Listener) -> Catalogue | None:
    """The catalogue that the run was trained on; None, and a notice, if it is not at hand."""
    found = own_catalogue(run, data)
    if isinstance(found, Catalogue):
        return found
    text = f"What the catalogue knows of the data is left out: {_MISSING[found]}"
    listen(Notice(text, "warning" if found == "another" else "info"))
    return None


def _item(each: Answered) -> dict[str, Any]:
    return {
        "id": each.item.id,
        "group": each.item.group,
        "question": each.item.ask,
        "status": each.status,
        "facts": [fact.key for fact in each.facts],
        "answer": "; ".join(f"{fact.label}: {fact.text}" for fact in each.facts) or None,
        "author": each.author or None,
        "lacking": list(each.lacking),
        "ask": WHO[each.item.who] if each.status in ("not_known", "part") else None,
    }


def _plain(cell: Any) -> Any:
    """A cell of a table as JSON has it."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    return None if isinstance(cell, float) and np.isnan(cell) else cell
