"""Measure training speed on the processor, side by side in one run, as ratios.

    python tools/bench.py FOLDER   # JPEGs of 600 x 450, as HAM10000's download has them
    python tools/bench.py          # draws lesions of that size instead

Three ways to train the same network on the same images, in turn, several rounds:

- limit: the network stepping on one fixed batch that is already normalised; this machine cannot
  train it faster.
- lesionlab: `lesionlab.train` as it is: cached images, augmentation, averaging, Lightning.
  Validation and the first steps of every epoch are left out.
- imagefolder: torchvision's ImageFolder and DataLoader decoding the JPEGs anew every epoch, with
  resize, flip and rotation, one worker per core.

Every figure is the median over the rounds; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torchvision import datasets, transforms

from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.splits import split
from lesionlab.data.synthetic.dataset import synthetic
from lesionlab.models import factory
from lesionlab.progress import Notice, Step
from lesionlab.recipe.schema import Recipe
from lesionlab.training.lightning_module import optimiser
from lesionlab.training.train import train

CLASSES = 7
SKIPPED = 3  # first steps of an epoch, not timed


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if options.folder:
            files = sorted(
                each for each in options.folder.rglob("*") if each.suffix.lower() == ".jpg"
            )
            if not files:
                raise SystemExit(f"{options.folder} holds no JPEGs.")
        else:
            files = sorted(synthetic(work / "drawn", lesions=300, size=(450, 600)).rglob("*.jpg"))
        images = repeat(files, work / "images", options.images)
        data = catalogue(images, out=work / "catalogue")
        print(
            f"{options.images} images ({len(files)} files, repeated), {options.size[0]} x "
            f"{options.size[1]}, batch {options.batch}, {torch.get_num_threads()} threads, "
            f"torch {torch.__version__}"
        )
        for model in options.models:
            recipe = Recipe().but(
                {
                    "images.size": options.size,
                    "model.name": model,
                    "batch": options.batch,
                    "phases.0.epochs": 2,
                }
            )
            compare(recipe, data, images, work / model, options.rounds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="JPEGs to train on")
    parser.add_argument("--models", nargs="+", default=["mobilenetv4_conv_small", "resnet18"])
    parser.add_argument("--size", nargs=2, type=int, default=[112, 150])
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def repeat(files: list[Path], folder: Path, count: int) -> Path:
    """A folder per class with links to the files, again and again."""
    for number in range(count):
        home = folder / f"class_{number % CLASSES}"
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{number:06d}.jpg").symlink_to(files[number % len(files)].resolve())
    return folder


def compare(recipe: Recipe, data: Catalogue, images: Path, work: Path, rounds: int) -> None:
    """Time the three ways in turn and print their medians and ratios."""
    found: dict[str, list[float]] = {"limit": [], "lesionlab": [], "imagefolder": []}
    for number in range(rounds):
        before = time_limit(recipe)
        found["lesionlab"].append(time_lesionlab(recipe, data, work / str(number)))
        found["limit"].append((before + time_limit(recipe)) / 2)
        found["imagefolder"].append(time_imagefolder(recipe, images))
    print(f"\n{recipe.model.name}")
    for name, values in found.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"  {name:<12} {statistics.median(values):7.1f} images/s  ({spread})")
    for name in ("limit", "imagefolder"):
        pairs = zip(found["lesionlab"], found[name], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"  lesionlab / {name:<12} {statistics.median(ratios):.3f}  ({spread})")


def fresh(recipe: Recipe) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    names = tuple(f"class_{i}" for i in range(CLASSES))
    net = factory.build(factory.Architecture.of(recipe.model, names, recipe.images)).train()
    return net, optimiser(net, recipe.phases[0].optim)


def time_limit(recipe: Recipe, steps: int = 12) -> float:
    """Images per second of the network alone, on one fixed batch."""
    net, optim = fresh(recipe)
    images = torch.randn(recipe.batch, 3, *recipe.images.size)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, CLASSES, (recipe.batch,))
    for number in range(SKIPPED + steps):
        if number == SKIPPED:
            start = time.perf_counter()
        torch.autograd.backward(functional.cross_entropy(net(images), targets))
        optim.step()
        optim.zero_grad()
    return steps * recipe.batch / (time.perf_counter() - start)


def time_lesionlab(recipe: Recipe, data: Catalogue, out: Path) -> float:
    """Images per second of `train`, between the steps of each epoch."""
    parts = split(data, kind="holdout", shares=(0.9, 0.05, 0.05))
    count = int((parts.parts() == "train").sum())
    steps = -(-count // recipe.batch)
    times: list[float] = []

    def listen(event: Step | Notice) -> None:
        if isinstance(event, Step) and event.task == "training":
            times.append(time.perf_counter())

    train(recipe, data, parts, out=out, device="cpu", listen=listen)
    epochs = np.array(times).reshape(-1, steps)
    spent = epochs[:, -1] - epochs[:, SKIPPED - 1]
    return float((steps - SKIPPED) * count / steps / np.median(spent))


def time_imagefolder(recipe: Recipe, images: Path, steps: int = 12) -> float:
    """Images per second of the usual tutorial: DataLoader workers decode, resize, flip, rotate."""
    net, optim = fresh(recipe)
    config = factory.Architecture.of(recipe.model, ("a", "b"), recipe.images)
    views = transforms.Compose(
        [
            transforms.Resize(recipe.images.size),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(60),
            transforms.ToTensor(),
            transforms.Normalize(config.mean, config.std),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(images), views),
        batch_size=recipe.batch,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
    )
    done = 0
    for number, (batch, targets) in enumerate(loader):
        if number == SKIPPED:
            start = time.perf_counter()
        inputs = batch.contiguous(memory_format=torch.channels_last)
        torch.autograd.backward(functional.cross_entropy(net(inputs), targets))
        optim.step()
        optim.zero_grad()
        done = number + 1 - SKIPPED
        if done == steps:
            break
    return done * recipe.batch / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
