"""Verbs that train and predict.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lesionlab.errors import SettingsError
from lesionlab.progress import Listener
from lesionlab.verbs.outcome import Outcome, headline, training_room


def train(
    recipe: Path,
    *,
    data: Path,
    out: Path,
    split: Path | None = None,
    fold: int = 0,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fresh: bool = False,
    changes: Mapping[str, Any],
    listen: Listener,
) -> Outcome:
    """Train a network, keep the epoch that is best on val, and predict train, val and test.

    The same command again goes on where a stopped run was. Any setting of the recipe can be changed
    with its dotted name; the file comes first, flags win over it.

    Example: lesionlab train recipes/mobilenetv4_conv_small.yaml --data data/ham10000 --out run

    Args:
        recipe: a YAML file of settings.
        data: the catalogue's folder.
        out: the run's folder, new or unfinished.
        split: the split's CSV; by default split.csv beside the catalogue.
        fold: which fold is the test part.
        cache: folder of caches; by default `cache` beside the catalogue.
        device: auto takes CUDA where there is one.
        fresh: discard an earlier run in that folder.
    """
    from lesionlab.data.catalogues import Catalogue
    from lesionlab.data.splitting import Split
    from lesionlab.recipe import Recipe

    settings = Recipe.load_with(recipe, changes)
    opened = Catalogue.open(data)
    path = split or (opened.home or data) / "split.csv"
    if not path.is_file():
        raise SettingsError(f"{path} does not exist. Make a split first: lesionlab split {data}")
    parts = Split.open(path)
    training = training_room()
    run = training.train(
        settings,
        opened,
        parts,
        out=out,
        fold=fold,
        cache_to=cache,
        device=device,
        fresh=fresh,
        listen=listen,
    )
    from lesionlab.evaluation import evaluate as score

    info = run.info
    epochs = f"epoch {info['kept_epoch']} of {info['epochs']}"
    kept = f"Kept {epochs}, chosen on val; {info['minutes']:.1f} minutes."
    if (run.predictions["part"] == "test").any():
        outcome = headline(score(run.predictions, listen=listen), f"{out}, part test")
    else:
        outcome = Outcome(lines=["The split has no test part, so nothing was scored."])
    outcome.lines += [kept, f"Written: {out}. Next: lesionlab report {out} --out report.html"]
    return outcome


def predict(
    run: Path,
    images: list[Path],
    *,
    out: Path = Path("predictions.csv"),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    listen: Listener,
) -> Outcome:
    """Give class probabilities for image files and folders with a trained run.

    Example: lesionlab predict runs/first photo.jpg more_photos/ --out predictions.csv

    Args:
        run: the run's folder.
        images: image files, or folders that are searched for images.
        out: the table to write: image_id, path, p_<class>..., predicted, error.
        device: auto takes CUDA where there is one.
    """
    training_room()
    from lesionlab.prediction.from_run import predict as predict_images

    table = predict_images(run, images, out=out, device=device, listen=listen)
    good = table[table["error"] == ""]
    columns = ["image_id", "predicted", "probability"]
    shown = good.assign(probability=good.filter(regex="^p_").max(axis=1).map("{:.3f}".format))
    failed = len(table) - len(good)
    lines = [f"{failed} images could not be read; column `error` says why."] if failed else []
    return Outcome(
        [("Predictions", shown[columns].head(20))],
        [*lines, f"Written: {out} ({len(table)} images)"],
    )
