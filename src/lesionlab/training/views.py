"""`views`: what a network sees in training, beside the images, and how often it sees each class."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from lesionlab._version import __version__
from lesionlab.augmentation.mixup import mix
from lesionlab.augmentation.random_views import augment, check_augmentations, normalise
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.class_weights import class_weights, mean_one
from lesionlab.data.images.reader import Reader
from lesionlab.data.splits import Split
from lesionlab.disclaimer import NOTICE
from lesionlab.display import percent
from lesionlab.files import write_text
from lesionlab.models.factory import Architecture
from lesionlab.progress import Listener, Step, silent
from lesionlab.recipe.schema import Recipe, Smote, SmoteEnn, SmoteTomek
from lesionlab.reporting.figures import distributions
from lesionlab.reporting.page.render import shown_sections
from lesionlab.reporting.page.section import Exhibit, Section
from lesionlab.reporting.page.template import template
from lesionlab.taxonomy import colours
from lesionlab.training.datasets import TrainingImages, check_sampling

SHADES = {"before": "#8A949E", "after": "#0072B2"}


def views(
    recipe: Recipe,
    data: Catalogue,
    split: Split,
    *,
    out: str | Path = "views.html",
    fold: int = 0,
    examples: int = 8,
    each: int = 4,
    listen: Listener = silent,
) -> Path:
    """Write a page of random views beside the untouched images, and of classes before and after.

    The images are the first of the first epoch, in the order in which training shows them, and the
    first view of each is the very one that training begins with. Nothing is trained.

    Args:
        recipe: all settings; images, augment, sampling, loss and seed are what counts.
        data: the catalogue.
        split: its split.
        out: the file to write; a folder gets a views.html.
        fold: which fold of the split.
        examples: how many images to show.
        each: how many views of each.
        listen: told of the progress.

    Returns:
        The path of the page.

    Raises:
        FindingsError: if the split leaks or does not belong to the catalogue.
        ImageFault: if an image cannot be read.
        SettingsError: if the recipe names what does not exist.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "views.html"
    shown = draw_views(recipe, data, split, fold=fold, examples=examples, each=each, listen=listen)
    rows = [
        (image_id, target, [(name, _address(pixels)) for name, pixels in pictures.items()])
        for image_id, target, pictures in shown.rows
    ]
    page = template("views.html.jinja", "reporting/page").render(
        rows=rows,
        network=recipe.model.name,
        size=recipe.images.size,
        sections=shown_sections([_classes(recipe, data.classes, shown.epoch)]),
        colours=colours(data.classes),
        notice=NOTICE,
        version=__version__,
    )
    write_text(out, page)
    return out


@dataclass(frozen=True)
class Views:
    """The first images of the first epoch, as val and test see them and as training does.

    Attributes:
        rows: image_id, class and pictures by caption: uint8, shape (height, width, 3).
        epoch: the images of that epoch, in their order.
    """

    rows: tuple[tuple[str, str, dict[str, NDArray[np.uint8]]], ...]
    epoch: TrainingImages


def draw_views(
    recipe: Recipe,
    data: Catalogue,
    split: Split,
    *,
    fold: int = 0,
    examples: int = 8,
    each: int = 4,
    listen: Listener = silent,
) -> Views:
    """What `views` and `lesionlab.plot.views` show.

    Args and raises: as `views`.
    """
    train, epoch = first_epoch(recipe, data, split, fold)
    chosen = train.iloc[epoch.order[:examples]]
    reader = Reader(data.root)
    pixels = []
    for number, row in enumerate(chosen.to_dict("records")):
        listen(Step("views", number, len(chosen), "images"))
        pixels.append(reader.pixels(row["path"], recipe.images, row["sha256"]))
    listen(Step("views", len(chosen), len(chosen), "images"))
    batch = torch.from_numpy(np.stack(pixels))
    architecture = Architecture.of(recipe.model, data.classes, recipe.images)
    columns = [("untouched, as val and test are", normalise(batch, *architecture.normalisation))]
    for number in range(each):
        # views of later places of the epoch: other numbers of the same kind
        places = (np.arange(len(chosen)) + number * len(chosen)) % len(epoch.draws)
        drawn = torch.from_numpy(epoch.draws[places])
        view = augment(batch, recipe.augment, drawn, *architecture.normalisation)
        columns.append((f"view {number + 1}", view))
    if recipe.augment.mixup > 0 or recipe.augment.cutmix > 0:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            wanted = torch.from_numpy(epoch.targets[epoch.order[:examples]])
            mixed, _ = mix(columns[1][1], wanted, recipe.augment, len(data.classes))
        columns.append(("view 1, mixed with its neighbour's", mixed))
    return Views(
        tuple(
            (
                str(row["image_id"]),
                str(row["target"]),
                {name: _pixels(view[place], architecture) for name, view in columns},
            )
            for place, row in enumerate(chosen.to_dict("records"))
        ),
        epoch,
    )


def first_epoch(
    recipe: Recipe, data: Catalogue, split: Split, fold: int = 0
) -> tuple[pd.DataFrame, TrainingImages]:
    """The rows of the training part, and which of them the first epoch shows in what order.

    Args and raises: as `views`.
    """
    split.check(data)
    check_augmentations(recipe.augment)
    check_sampling(recipe.sampling, data.classes)
    parts = data.table["image_id"].map(split.parts(fold))
    train = data.table[parts == "train"].reset_index(drop=True)
    numbers = {name: index for index, name in enumerate(data.classes)}
    targets = np.asarray(train["target"].map(numbers), np.int64)
    epoch = TrainingImages(
        np.empty((0, 1, 1, 3), np.uint8), np.arange(len(train), dtype=np.int64), targets,
        recipe.sampling, recipe.seed, data.classes, views=recipe.augment.worst_of,
    )  # fmt: skip
    return train, epoch


def class_shares(epoch: TrainingImages, classes: Sequence[str]) -> pd.DataFrame:
    """Shares of the classes, 0-1: of the training part, and of what an epoch shows."""
    counts = {"before": epoch.targets, "after": epoch.targets[epoch.order]}
    shares = {
        name: np.bincount(each, minlength=len(classes)) / len(each) for name, each in counts.items()
    }
    return pd.DataFrame(shares, index=list(classes))


def _classes(recipe: Recipe, classes: tuple[str, ...], epoch: TrainingImages) -> Section:
    """How many images of each class there are, how many an epoch shows, and what each weighs."""
    before = np.bincount(epoch.targets, minlength=len(classes))
    after = np.bincount(epoch.targets[epoch.order], minlength=len(classes))
    table = pd.DataFrame({"class": list(classes), "images": before, "shown per epoch": after})
    scheme: Any = getattr(recipe.loss, "weights", "none")
    if scheme != "none":
        kept = np.bincount(epoch.shown_targets, minlength=len(classes))
        table["weight"] = mean_one(class_weights(kept, scheme, getattr(recipe.loss, "beta", 0.0)))
    shares = class_shares(epoch, classes)
    place = int((shares["after"] - shares["before"]).abs().to_numpy().argmax())
    first, then = (float(shares[name].iloc[place]) for name in ("before", "after"))
    change = classes[place]
    kind = recipe.sampling.kind
    finding = (
        f"Sampling {kind} changes no share of a class. "
        if abs(then - first) < 5e-4
        else f"Sampling {kind} moves {change} most, from {percent(first)} to {percent(then)}. "
    )
    title = f"Classes before and after sampling, n = {after.sum():,} shown in the first epoch"
    exhibit = Exhibit(
        "sampling",
        title,
        finding + f"The training part has {before.sum():,} images. weight: what an image of the "
        "class counts for in the loss, with mean 1 over the classes, where the loss has weights.",
        table,
        distributions.grouped(shares, title, "share of the images", SHADES),
    )
    absent: tuple[str, ...] = ()
    if isinstance(recipe.sampling, Smote | SmoteTomek | SmoteEnn):
        absent = (f"{kind} makes points between embeddings, which are no images to be shown.",)
    return Section("classes", "How often each class is seen", (exhibit,), absent)


def _pixels(view: torch.Tensor, architecture: Architecture) -> NDArray[np.uint8]:
    """A normalised view, shape (3, height, width), as pixels again."""
    mean, std = (torch.tensor(each)[:, None, None] for each in architecture.normalisation[:2])
    values = ((view * std + mean) * 255).round().clamp(0, 255)
    return np.asarray(values.permute(1, 2, 0).to(torch.uint8).numpy())


def _address(pixels: NDArray[np.uint8]) -> str:
    """A JPEG as a `data:` address."""
    buffer = io.BytesIO()
    settings: dict[str, Any] = {"quality": 85}
    Image.fromarray(pixels).save(buffer, "JPEG", **settings)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
