"""The facts of a card about the network: what it is, what goes in and out, how it was trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lesionlab.files import hash_file, read_json
from lesionlab.recipe import validation
from lesionlab.recipe.schema import (
    Capped,
    Dense,
    Ldam,
    LogitAdjusted,
    Natural,
    NoAverage,
    OwnLoss,
    Recipe,
    Smote,
    SmoteEnn,
    SmoteTomek,
)
from lesionlab.reporting.card.data_facts import metadata_fields
from lesionlab.reporting.card.outline import Subject, Told
from lesionlab.reporting.page import wording
from lesionlab.run import Run
from lesionlab.tables import count

_FITS = {
    "stretch": "stretched where the shape differs",
    "crop": "cropped where the shape differs",
    "pad": "padded with black where the shape differs",
}
_SOFTWARE = ("lesionlab", "python", "torch", "timm", "lightning", "numpy", "pandas")
_WEIGHTS = "model.safetensors"
_ARCHITECTURE = "model.json"
_STILL = Recipe.from_dict({"augment": "none"}).augment


def of_training(subject: Subject) -> dict[str, Told]:
    """Facts about network and training; none without a run."""
    if subject.run is None:
        return {}
    recipe = subject.run.recipe
    told: dict[str, str | Told] = {
        **dict(_of_network(subject, subject.run, recipe)),
        **dict(_of_preprocessing(subject, subject.run, recipe)),
        **dict(_of_fit(subject, subject.run, recipe)),
        **dict(_of_settings(recipe)),
    }
    return {key: text if isinstance(text, Told) else Told(text) for key, text in told.items()}


def _of_network(subject: Subject, run: Run, recipe: Recipe) -> Iterator[tuple[str, str | Told]]:
    model, classes = recipe.model, len(subject.result.classes)
    yield (
        "card.title",
        f"A deep network ({model.name}) that sorts images of skin lesions into {classes} classes",
    )
    parameters = run.info.get("parameters")
    head = model.head
    told = [f"{model.name} (as timm and lesionlab name it)"]
    if parameters:
        told.append(f"{parameters:,} parameters")
    told.append(_said(validation.plain(head), "head") if isinstance(head, Dense) or recipe.probing
                else "linear head")  # fmt: skip
    if fields := metadata_fields(subject):
        told.append(f"{model.fusion.kind} with {', '.join(fields)}")
    told.append(f"dropout {model.drop:g} before the head")
    yield "model.architecture", ", ".join(told)
    seen = (
        f"the image, and {', '.join(fields)} of the patient where known"
        if fields
        else "the image alone"
    )
    yield "model.predictors", f"{seen}; nothing else is ever looked at"
    if not fields:
        yield (
            "model.assessors",
            Told("The image is all it looks at; nobody judges it.", applies=False),
        )
    height, width = recipe.images.size
    also = "; age, sex and site as categories, 0 where unknown" if fields else ""
    yield "model.input", f"RGB, {height} × {width} pixels (height × width){also}"
    yield (
        "model.output",
        f"a probability for each of {classes} classes (softmax of the logits); the likeliest class "
        "is the answer",
    )
    yield "model.weights", _start(model.pretrained, run.info.get("weights", {}), recipe)
    files = [each.folder / _WEIGHTS for each in _runs(subject)]
    if files and all(file.is_file() for file in files):
        hashes = ", ".join(hash_file(file)[:16] for file in files)
        size = sum(file.stat().st_size for file in files) / 1e6
        yield "model.file", f"{_WEIGHTS}, {size:,.1f} MB, SHA-256 begins with {hashes}"
    yield "model.updating", "none: these are the predictions of the kept weights, not recalibrated"


def _start(pretrained: bool | str, recorded: Mapping[str, str], recipe: Recipe) -> str:
    """What the weights were at the start; older runs record less of pretrained ones."""
    if not pretrained:
        return f"random, from seed {recipe.seed}: no pretraining"
    if isinstance(pretrained, str):
        file = recorded.get("file", pretrained.replace("\\", "/").rpartition("/")[2])
        hashed = f" (SHA-256 begins with {recorded['sha256'][:16]})" if recorded else ""
        return f"from a local file, {file}{hashed}; what it was trained on is not recorded"
    told = ", ".join(f"{name} {value}" for name, value in recorded.items())
    which = f" ({told})" if told else ", which of them is not recorded"
    return f"published weights of {recipe.model.name}{which}"


def _runs(subject: Subject) -> list[Run]:
    if subject.folds is not None:
        return list(subject.folds.runs.values())
    return [subject.run] if subject.run else []


def _of_preprocessing(subject: Subject, run: Run, recipe: Recipe) -> Iterator[tuple[str, str]]:
    images = recipe.images
    height, width = images.size
    constancy = images.colour_constancy
    yield (
        "preprocessing.images",
        f"decoded, turned upright (EXIF), made RGB, resized to {height} × {width} pixels, "
        f"{_FITS[images.fit]}; "
        + (
            f"colour constancy by {constancy.replace('_', ' ')}"
            if constancy != "none"
            else "no colour constancy"
        )
        + ". No lesion is cut out and no hair removed.",
    )
    path = run.folder / _ARCHITECTURE
    if path.is_file():
        found = read_json(path)
        each = " and ".join(
            f"{label} {', '.join(f'{x:.3f}' for x in found[name])}"
            for name, label in (("mean", "mean"), ("std", "deviation"))
        )
        of = ", that of the training part" if recipe.model.normalisation == "training" else ""
        yield "preprocessing.normalisation", f"scaled to 0-1, then by colour channel: {each}{of}"
    yield (
        "preprocessing.alike",
        "the same steps for every image, in training, testing and use, whoever the patient is",
    )
    yield (
        "preprocessing.missing",
        "unknown age, sex or site is a value of its own, which training practised"
        if metadata_fields(subject)
        else "the network looks at no value that could be missing",
    )


def _of_fit(subject: Subject, run: Run, recipe: Recipe) -> Iterator[tuple[str, str]]:
    told = dict(wording.facts(subject.predictions, subject.result, run))
    if subject.folds is not None:
        kept = "; ".join(f"fold {n}: {each.kept}" for n, each in subject.folds.runs.items())
        yield "training.selection", f"{wording.selection(recipe)}: {kept}"
    elif "Kept" in told:
        yield "training.selection", told["Kept"]
    yield (
        "training.ensemble",
        "no: each image is predicted by the one network that had no part of its lesion"
        if subject.folds is not None
        else "no: one network",
    )
    environment = run.info.get("environment", {})
    if all("minutes" in each.info for each in _runs(subject)):
        minutes = sum(float(each.info["minutes"]) for each in _runs(subject))
        device = environment.get("device", "a machine that is not recorded")
        threads = environment.get("threads")
        also = f", {count(threads, 'thread')}" if threads else ""
        also += f", finished on {run.info['finished']}" if "finished" in run.info else ""
        yield "training.time", f"{minutes:,.1f} minutes on {device}{also}"
    versions = [f"{name} {environment[name]}" for name in _SOFTWARE if environment.get(name)]
    if versions:
        yield "training.software", ", ".join(versions)
    identity = run.info.get("identity", {})
    yield (
        "training.identity",
        ", ".join(f"{name} {value}" for name, value in identity.items() if value != ""),
    )
    yield "training.command", wording.command(run.info)


def _of_settings(recipe: Recipe) -> Iterator[tuple[str, str]]:
    sampling = recipe.sampling
    yield "training.sampling", _said(validation.plain(sampling))
    made = isinstance(sampling, Smote | SmoteTomek | SmoteEnn)
    if recipe.probing:
        yield "training.loss", "that of the probe (see network)"
        yield "training.augment", "none: a probe learns from images as they are"
        yield "training.phases", "none: the backbone is frozen, and the head is fitted once"
        yield "training.settings", f"seed {recipe.seed}"
    else:
        yield "training.loss", _said(validation.plain(recipe.loss))
        told = [
            f"{_plain(name)} {_value(value)}"
            for name, value in validation.plain(recipe.augment).items()
            if value not in (0, "none") and (name, value) != ("worst_of", 1)
        ]
        yield "training.augment", ", ".join(told) if recipe.augment != _STILL else "none"
        phases = [
            f"{number}: {phase.depth} layers learn for at most {phase.epochs} epochs, "
            f"{_said(validation.plain(phase.optim))}, {_said(validation.plain(phase.schedule))}"
            for number, phase in enumerate(recipe.phases, start=1)
        ]
        yield "training.phases", "; ".join(phases)
        average = "no averaging of weights" if isinstance(recipe.average, NoAverage) else (
            f"weights averaged: {_said(validation.plain(recipe.average))}"
        )  # fmt: skip
        stop = f"stopped after {recipe.select.patience} epochs without a better one"
        yield (
            "training.settings",
            f"batches of {recipe.batch}, precision {recipe.precision}, {average}, "
            f"{stop if recipe.select.patience else 'no early stopping'}, seed {recipe.seed}",
        )
    yield "training.imbalance", _imbalance(recipe)
    mixed = [] if recipe.probing else [n for n in ("mixup", "cutmix") if getattr(recipe.augment, n)]
    views = "embeddings made up between real ones" if made else "random views of real images"
    views = "real images alone" if recipe.probing and not made else views
    yield (
        "training.synthetic",
        f"training saw {views}{f' and mixtures of two ({mixed[0]})' if mixed else ''}",
    )


def _imbalance(recipe: Recipe) -> str:
    """What the recipe does about rare classes."""
    told = []
    if not isinstance(recipe.sampling, Natural):
        what = "an upper limit per class" if isinstance(recipe.sampling, Capped) else "sampling"
        told.append(f"{what}: {_said(validation.plain(recipe.sampling))}")
    if recipe.probing:
        if getattr(recipe.model.head, "balanced", False):
            told.append("the probe weighs classes by inverse frequency")
    elif isinstance(recipe.loss, LogitAdjusted | Ldam | OwnLoss):
        told.append(f"loss: {_said(validation.plain(recipe.loss))}")
    elif recipe.loss.weights != "none":
        told.append(f"class weights: {recipe.loss.weights}")
    return "; ".join(told) or "none: every image once an epoch, every class with the same weight"


def _said(values: Mapping[str, Any], what: str = "") -> str:
    """A choice with its knobs in words: "adam (lr 0.001, amsgrad no)"."""
    idle = {"kind"} if values.get("weights", "effective") == "effective" else {"kind", "beta"}
    knobs = [f"{_plain(name)} {_value(x)}" for name, x in values.items() if name not in idle]
    name = f"{_plain(str(values['kind']))}{f' {what}' if what else ''}"
    return f"{name} ({', '.join(knobs)})" if knobs else name


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return " and ".join(map(_value, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} × {number}" for name, number in value.items())
    return _plain(str(value))
