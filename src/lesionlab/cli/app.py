"""The command line: which commands there are, and what becomes of the words that were typed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lesionlab._version import __version__
from lesionlab.disclaimer import NOTICE
from lesionlab.errors import LesionlabError

if TYPE_CHECKING:
    from lesionlab.cli.declaration import Declaration


@dataclass(frozen=True)
class Entry:
    """A command, before anything of it is imported.

    Attributes:
        home: its module of `lesionlab.cli.commands` and its function there.
        text: what it does, in a line.
        topic: where the overview lists it; "": among all commands only.
    """

    home: str
    text: str
    topic: str = ""


_TRY, _DATA, _TRAIN, _JUDGE = "Try it", "Get data", "Train", "Judge"
_SEE, _SHIP, _OTHER = "Understand", "Ship", "Other"

COMMANDS = {
    "demo": Entry("system.demo", "the whole chain on drawn lesions, three minutes", _TRY),
    "predict": Entry("predict.predict", "ask a model about images", _TRY),
    "fetch": Entry("data.fetch", "download a known collection, checked and resumable", _DATA),
    "catalogue": Entry("data.catalogue", "make the table of a folder of images", _DATA),
    "audit": Entry("data.audit", "list everything odd about a collection", _DATA),
    "audit labels": Entry(
        "data_quality.labels", "labels that a model contradicts, the most doubtful first", _DATA
    ),
    "audit shortcuts": Entry(
        "data_quality.shortcuts", "do camera, light, hair, rulers or ink tell the diagnosis?", _DATA
    ),
    "audit drift": Entry(
        "data_quality.drift", "do the parts of a split, or two catalogues, differ?", _DATA
    ),
    "split": Entry("data.split", "part it into train, val and test; no lesion crosses", _DATA),
    "explore": Entry("reports.explore", "its metadata in tables and figures, on one page", _DATA),
    "join": Entry("data.join", "several collections as one; what they share stands once", _DATA),
    "clean": Entry("data.clean", "fill in unknown ages, sexes and sites", _DATA),
    "models": Entry("training.models", "the networks to choose from", _TRAIN),
    "views": Entry("training.views", "what a recipe shows its network, as a page", _TRAIN),
    "train": Entry("training.train", "train a network from a recipe", _TRAIN),
    "train --folds": Entry(
        "training.train_folds", "train every fold, and pool what they had never seen", _TRAIN
    ),
    "tune": Entry("training.tune", "search for better settings, judged on val alone", _TRAIN),
    "runs": Entry("training.runs", "the runs of a folder: what differs, what came of it", _TRAIN),
    "evaluate": Entry("evaluation.evaluate", "score predictions, with intervals", _JUDGE),
    "compare": Entry("evaluation.compare", "models side by side, with paired differences", _JUDGE),
    "compare --parts": Entry(
        "evaluation.compare_parts", "train, val and test side by side: overfitting", _JUDGE
    ),
    "compare --baselines": Entry(
        "evaluation.compare_baselines", "a model beside metadata alone and colours alone", _JUDGE
    ),
    "leaderboard": Entry(
        "evaluation.leaderboard", "one table of models, columns of your choice", _JUDGE
    ),
    "report": Entry("reports.report", "one page with figures, curves and pictures", _JUDGE),
    "blend": Entry("evaluation.blend", "an ensemble of several models' predictions", _JUDGE),
    "subgroups": Entry("evaluation.subgroups", "figures of age, sex, site, ...", _JUDGE),
    "calibrate": Entry("calibration.calibrate", "probabilities that mean what they say", _JUDGE),
    "calibrate --prevalence": Entry(
        "calibration.prevalence", "how common classes are without labels; re-weight to it", _JUDGE
    ),
    "conformal": Entry("calibration.conformal", "sets of classes that hold the true one", _JUDGE),
    "triage": Entry("triage.triage", "what to decide, what to leave to a doctor", _JUDGE),
    "outliers fit": Entry("triage.outliers_fit", "learn which images a run was made for", _JUDGE),
    "outliers score": Entry("triage.outliers_score", "tell other images from those", _JUDGE),
    "card": Entry("reports.card", "a model card, and three reporting standards", _JUDGE),
    "explain": Entry("explanation.explain", "which places of an image speak for a class", _SEE),
    "explain --check": Entry(
        "explanation.explain_check", "whether such maps show the lesion and what was learnt", _SEE
    ),
    "similar": Entry("retrieval.similar", "known cases that look like an image", _SEE),
    "export": Entry("deployment.export", "one file that answers without torch: a bundle", _SHIP),
    "adapt": Entry("deployment.adapt", "a bundle for another clinic, from its images", _SHIP),
    "serve": Entry("deployment.serve", "answer over HTTP, with a page", _SHIP),
    "serve log": Entry("deployment.serve_log", "what a server answered, if told to keep it", _SHIP),
    "isic submit": Entry("isic.submit", "predictions as an ISIC challenge submission", _OTHER),
    "isic score": Entry("isic.score", "a submission by the official scorer's numbers", _OTHER),
    "doctor": Entry("system.doctor", "what this machine has, and what is missing", _OTHER),
    "completion": Entry("system.completion", "complete commands and options by Tab", _OTHER),
    "cache": Entry("data.cache", "decode every image once; train does it by itself"),
    "embed": Entry("training.embed", "a frozen backbone's features of every image"),
    "index": Entry("retrieval.index", "known cases in one file, for similar"),
}
"""Every command by the words that call it; a word like --folds may stand anywhere behind."""

TOPICS = (_TRY, _DATA, _TRAIN, _JUDGE, _SEE, _SHIP, _OTHER)

RENAMED = {
    "folds": "train --folds",
    "gaps": "compare --parts",
    "baselines": "compare --baselines",
    "prevalence": "calibrate --prevalence",
    "suspects": "audit labels",
    "shortcuts": "audit shortcuts",
    "drift": "audit drift",
    "trust": "explain --check",
    "submit": "isic submit",
    "trail": "serve log",
}
"""Earlier spellings."""

_FIRST = {  # the overview's lines: topic, then what is explained, and what is only named
    _TRY: (("demo", "predict"), ()),
    _DATA: (("fetch", "catalogue", "audit", "split", "explore"), ("join", "clean")),
    _TRAIN: (("models", "train", "tune"), ("views", "runs")),
    _JUDGE: (
        ("evaluate", "compare", "leaderboard", "report"),
        ("blend", "subgroups", "calibrate", "conformal", "triage", "outliers", "card"),
    ),
    _SEE: (("explain", "similar"), ()),
    _SHIP: (("export", "adapt", "serve"), ()),
    _OTHER: (("isic", "doctor", "completion"), ()),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `lesionlab`; by default those of the process.

    Returns:
        0 done, 1 findings, 2 the user must act, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(every_command() if words[1:] == ["all"] else overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"lesionlab {__version__}")
        return 0
    try:
        name, rest = command_of(words)
        declaration = declared(name)
    except LesionlabError as error:
        return _fail(str(error))
    return _run(name, declaration, rest)


def command_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """Which command some words call, and the words that are left to it.

    Raises:
        SettingsError: if they call none.
    """
    from lesionlab.errors import SettingsError

    first, rest = words[0], list(words[1:])
    nested = {name.partition(" ")[2]: name for name in COMMANDS if name.startswith(f"{first} ")}
    if rest and rest[0] in nested:
        return nested[rest[0]], rest[1:]
    for flag, name in nested.items():
        if flag.startswith("--") and flag in rest:
            rest.remove(flag)
            return name, rest
    if first in COMMANDS:
        return first, rest
    if nested:
        listed = "\n".join(
            f"  lesionlab {name:<16} {COMMANDS[name].text}" for name in nested.values()
        )
        if set(rest) & {"-h", "--help"}:
            return next(iter(nested.values())), ["--help"]
        raise SettingsError(f"Say what to do with {first}:\n{listed}")
    if first in RENAMED:
        raise SettingsError(f"`lesionlab {first}` is now `lesionlab {RENAMED[first]}`.")
    import difflib

    known = {name.partition(" ")[0] for name in COMMANDS}
    close = difflib.get_close_matches(first, sorted(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise SettingsError(f"There is no command {first!r}.{hint} `lesionlab --help` lists them.")


def declared(name: str) -> Declaration:
    """The declaration of a command."""
    from importlib import import_module

    from lesionlab.cli.declaration import DECLARED

    module, _, function = COMMANDS[name].home.partition(".")
    import_module(f"lesionlab.cli.commands.{module}")
    return DECLARED[f"lesionlab.cli.commands.{module}.{function}"]


def overview() -> str:
    """Commands by topic, in a screen."""
    lines = [
        f"lesionlab {__version__}   train, test, understand and ship classifiers of skin lesions",
        NOTICE,
        "",
    ]
    for topic, (explained, more) in _FIRST.items():
        head = f"{topic:<12}"
        if topic in (_TRY, _SEE):
            for name in explained:
                lines.append(f"{head}{name:<11}{COMMANDS[name].text}")
                head = " " * 12
            continue
        line = head + "  ".join(explained)
        lines.append(line + (f"   (more: {' '.join(more)})" if more else ""))
    lines += [
        "",
        "  first run:  lesionlab demo          your data:  lesionlab fetch ham10000",
        "  lesionlab COMMAND --help            every command:  lesionlab --help all",
    ]
    return "\n".join(lines)


def every_command() -> str:
    """All commands by topic, each with what it does."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"lesionlab {__version__}: every command", NOTICE]
    for topic in (*TOPICS, ""):
        lines += ["", topic or "Done by others, rarely needed by itself"]
        lines += [
            f"  {name:<{width}}{entry.text}"
            for name, entry in COMMANDS.items()
            if entry.topic == topic
        ]
    return "\n".join(
        [
            *lines,
            "",
            "The usual order:",
            "  lesionlab fetch ham10000",
            "  lesionlab catalogue data/ham10000",
            "  lesionlab audit data/ham10000",
            "  lesionlab split data/ham10000",
            "  lesionlab train recipes/mobilenetv4_conv_small.yaml --data data/ham10000 "
            "--out runs/first",
            "  lesionlab report runs/first --out report.html",
            "",
            "Exit codes: 0 done, 1 findings, 2 you must act.",
        ]
    )


def _run(name: str, declaration: Declaration, words: list[str]) -> int:
    from lesionlab.cli.options import parse
    from lesionlab.cli.screen import Screen

    try:
        options = parse(name, declaration, words)
    except LesionlabError as error:
        return _fail(str(error))
    except SystemExit:  # argparse, after --help
        return 0
    screen = Screen()
    try:
        with screen:
            outcome = declaration.run(options, screen)
    except LesionlabError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail(
            "Stopped. Nothing half written was left; the same command goes on or starts anew.", 130
        )
    except OSError as error:
        return _fail(_of_the_system(error))
    try:
        screen.show(outcome)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None  # nothing is left to flush at the end
    return outcome.code


def _of_the_system(error: OSError) -> str:
    """What the operating system refused, in words."""
    import errno
    from pathlib import Path

    from lesionlab.files import cannot_write

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return str(cannot_write(Path(error.filename or "a file"), error))
    return f"{error.filename or 'The system'}: {error.strerror or error}. Check the path."


def _fail(message: str, code: int = 2) -> int:
    print(f"lesionlab: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
