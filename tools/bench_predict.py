"""Measure how fast files become a table of predictions, side by side in one run, as ratios.

    python tools/bench_predict.py FOLDER --int8 mole.bundle --fp32 mole32.bundle --run runs/mole

In turn, several rounds, on the same files:

- int8, fp32: `predict_files` with that bundle, files to a finished table, one thread per core.
- torch: a run's network on all cores, fed by a DataLoader with one worker per core that decodes the
  same files with the same preprocessing.
- limit: what decoding alone and bare onnxruntime on ready tensors cost in core-seconds per image,
  added up and spread over all cores. Both are measured with every core at it, a process each. It is
  of the bundle it stands beside.

Every figure is the median over the rounds; ratios are taken within a round. Nothing else should run
meanwhile.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that measure the limit

import numpy as np

from lesionlab.data.images.reader import Reader
from lesionlab.prediction.batch_job import predict_files
from lesionlab.prediction.bundle import Bundle
from lesionlab.prediction.image_sources import files_of
from lesionlab.prediction.predictor import BLOCK, Predictor
from lesionlab.recipe.schema import Images

CORES = os.cpu_count() or 1


def main() -> None:
    options = arguments()
    files = list(files_of([options.folder]))
    bundles = {name: path for name in ("int8", "fp32") if (path := getattr(options, name))}
    if not bundles:
        raise SystemExit("Give at least one of --int8 and --fp32.")
    found: dict[str, list[float]] = {}
    spawned = multiprocessing.get_context("spawn").Pool(CORES)
    with tempfile.TemporaryDirectory() as name, spawned as pool:
        work = Path(name)
        images = repeat(files, work / "images", options.images)
        print(
            f"{options.images} images ({len(files)} files, repeated), {CORES} cores, blocks of "
            f"{BLOCK}, {options.rounds} rounds"
        )
        for path in bundles.values():
            bundle = Bundle.open(path)
            print(f"{path}: {bundle.precision}, {bundle.images.size[0]} x {bundle.images.size[1]}")
        for number in range(options.rounds + 1):  # the first warms up
            round_ = one_round(pool, bundles, options.run, images, work / str(number))
            for key, value in round_.items() if number else ():
                found.setdefault(key, []).append(value)
    for key, values in found.items():
        print(f"  {key:<12} {middle(values, '7.1f')} images/s")
    for name in bundles:
        print(f"  {name} / limit  {ratio(found, name, f'{name} limit')}")
    if "torch" in found:
        for name in bundles:
            print(f"  {name} / torch  {ratio(found, name, 'torch')}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="images of full size")
    parser.add_argument("--int8", type=Path, help="a bundle")
    parser.add_argument("--fp32", type=Path, help="a bundle")
    parser.add_argument("--run", type=Path, help="a run's folder, for torch")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def middle(values: list[float], shape: str) -> str:
    spread = f"{min(values):{shape}} to {max(values):{shape}}".replace("  ", "")
    return f"{statistics.median(values):{shape}}  ({spread})"


def ratio(found: dict[str, list[float]], one: str, other: str) -> str:
    return middle([a / b for a, b in zip(found[one], found[other], strict=True)], ".3f")


def repeat(files: list[str], folder: Path, count: int) -> list[str]:
    """Links to the files, again and again."""
    folder.mkdir()
    links = [
        folder / f"{number:06d}{Path(files[number % len(files)]).suffix}" for number in range(count)
    ]
    for number, link in enumerate(links):
        link.symlink_to(Path(files[number % len(files)]).resolve())
    return [str(each) for each in links]


def one_round(
    pool: Pool, bundles: dict[str, Path], run: Path | None, images: list[str], work: Path
) -> dict[str, float]:
    """Images per second of every way, once."""
    work.mkdir()
    found: dict[str, float] = {}
    for name, path in bundles.items():
        before = limit_of(pool, path, images)
        predictor = Predictor(path)
        start = time.perf_counter()
        predict_files(predictor, images, out=work / f"{name}.csv")
        found[name] = len(images) / (time.perf_counter() - start)
        found[f"{name} limit"] = (before + limit_of(pool, path, images)) / 2
    if run is not None:
        views = max([1, *(Bundle.open(path).info["views"] for path in bundles.values())])
        found["torch"] = time_torch(run, images, views)
    return found


def limit_of(pool: Pool, path: Path, images: list[str]) -> float:
    """Images per second if nothing but decoding and the network cost anything."""
    shares = [images[core::CORES][: max(1, 600 // CORES)] for core in range(CORES)]
    seconds = core_seconds(pool, decode, [(path, share) for share in shares])
    seconds += core_seconds(pool, infer, [(path, share) for share in shares])
    return CORES / seconds


def core_seconds(pool: Pool, work: Callable[[Any], float], tasks: list[Any]) -> float:
    """Core-seconds per image, mean over the processes, which all work at the same time."""
    return statistics.mean(pool.map(work, tasks, chunksize=1))


def decode(task: tuple[Path, list[str]]) -> float:
    path, images = task
    reader, size = Reader(Path()), Bundle.open(path).images
    for each in images[:4]:
        reader.pixels(each, size)
    start = time.perf_counter()
    for each in images:
        reader.pixels(each, size)
    return (time.perf_counter() - start) / len(images)


def infer(task: tuple[Path, list[str]]) -> float:
    import onnxruntime

    path, images = task
    bundle = Bundle.open(path)
    pixels = np.stack([Reader(Path()).pixels(each, bundle.images) for each in images[:BLOCK]])
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    spent = 0.0
    for member in bundle.members:
        session = onnxruntime.InferenceSession(
            bundle.network(member), settings, providers=["CPUExecutionProvider"]
        )
        given: dict[str, Any] = {"pixels": pixels}
        if member.encoder is not None:
            given["metadata"] = np.zeros((len(pixels), len(member.encoder.fields)), np.int64)
        wanted = ["logits"] + ["features"] * bool(member.features)
        for _ in range(2):
            session.run(wanted, given)
        blocks = -(-len(images) // BLOCK)
        start = time.perf_counter()
        for _ in range(blocks):
            session.run(wanted, given)
        spent += (time.perf_counter() - start) / (blocks * len(pixels))
    return spent


def time_torch(run: Path, images: list[str], views: int, batch: int = 64) -> float:
    """Images per second of the run's network behind a DataLoader, start of its workers included.

    The network sees as many symmetries of an image as that of the bundles does.
    """
    import torch
    from torch.utils.data import DataLoader

    from lesionlab.augmentation.random_views import normalise
    from lesionlab.augmentation.symmetries import symmetry
    from lesionlab.models import factory
    from lesionlab.models.metadata_fusion import logits_of

    torch.set_num_threads(CORES)
    network, architecture = factory.load(run)
    start = time.perf_counter()
    loader: DataLoader[torch.Tensor] = DataLoader(
        Files(images, architecture.images),  # type: ignore[arg-type]
        batch_size=batch,
        num_workers=CORES,
    )
    done = 0
    with torch.inference_mode():
        for pixels in loader:
            inputs = normalise(pixels, *architecture.normalisation)
            for view in range(views):
                turned = symmetry(inputs, view).contiguous(memory_format=torch.channels_last)
                logits_of(network, turned, None)
            done += len(pixels)
    return done / (time.perf_counter() - start)


class Files:
    """Decoded files by number, for a DataLoader."""

    def __init__(self, paths: list[str], size: Images) -> None:
        self.paths, self.size = paths, size
        self.reader = Reader(Path())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self.reader.pixels(self.paths[number], self.size).copy()


if __name__ == "__main__":
    main()
