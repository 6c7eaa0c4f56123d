"""Time and memory of everything that reads predictions, at the size of the whole of HAM10000.

    python tools/speed.py                       # 10,015 images scored, 2,000 replicates
    python tools/speed.py --images 400000 --replicates 200 --only evaluate

Predictions are drawn: classes as frequent as in HAM10000, 1.34 images per lesion, a val part of a
tenth of the size. Each verb runs in a process of its own, from a CSV; printed are its seconds and
the largest memory that the process had (resident, everything included).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
SHARES = np.array([327, 514, 1099, 115, 1113, 6705, 142]) / 10015
PER_LESION = 1.34


def drawn(images: int, part: str, rng: np.random.Generator, skill: float = 2.0) -> pd.DataFrame:
    """Draw predictions of one part."""
    lesions = rng.integers(0, int(images / PER_LESION), images)
    of_lesion = rng.choice(7, size=lesions.max() + 1, p=SHARES)
    targets = of_lesion[lesions]
    logits = rng.normal(size=(images, 7)) + skill * (np.arange(7) == targets[:, None])
    odds = np.exp(logits)
    columns = [f"p_{name}" for name in CLASSES]
    table = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=columns)
    table.insert(0, "image_id", [f"{part}_{i:07d}" for i in range(images)])
    table.insert(1, "lesion_id", [f"{part}_L{i:07d}" for i in lesions])
    table.insert(2, "target", np.array(CLASSES)[targets])
    table.insert(3, "part", part)
    return table


def verbs(folder: Path, replicates: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    import lesionlab as ll
    from lesionlab.evaluation.calibration.calibrate import calibrate
    from lesionlab.evaluation.calibration.prevalence import estimate
    from lesionlab.evaluation.calibration.report import calibration_errors
    from lesionlab.evaluation.conformal.prediction_sets import conformal

    one, two = folder / "one.csv", folder / "two.csv"
    found: dict[str, Callable[[], object]] = {
        "evaluate": lambda: ll.evaluate(one, replicates=replicates),
        "compare": lambda: ll.compare([one, two], replicates=replicates),
        "gaps": lambda: ll.train_test_gap([one], replicates=replicates),
        "blend": lambda: ll.blend([one, two], method="weighted"),
        "calibration": lambda: calibration_errors(one, replicates=replicates),
        "conformal": lambda: conformal(one, replicates=replicates),
        "prevalence": lambda: estimate(one, replicates=replicates),
    }
    for method in ("temperature", "vector", "dirichlet"):
        found[f"calibrate, {method}"] = lambda m=method: calibrate(one, method=m)  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=10_015)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--only", nargs="*", help="names of verbs")
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        start = time.perf_counter()
        verbs(options.folder, options.replicates)[options.only[0]]()
        seconds = time.perf_counter() - start
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime
        print(json.dumps({"s": seconds, "cpu": cpu, "mib": usage.ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        sizes = {"test": options.images, "val": options.images // 10, "train": options.images // 10}
        for file, skill in (("one.csv", 2.0), ("two.csv", 2.2)):
            state = np.random.default_rng(1)  # the same images and lesions in both
            parts = [drawn(size, part, state, skill) for part, size in sizes.items()]
            pd.concat(parts).sample(frac=1, random_state=rng).to_csv(folder / file, index=False)
        print(f"{options.images:,} images of part test, {options.replicates:,} replicates")
        print("| verb | seconds | of CPU | peak memory, MiB |")
        print("|---|---|---|---|")
        for verb in options.only or verbs(folder, 0):
            command = [sys.executable, __file__, "--in", name, "--only", verb]
            command += ["--replicates", str(options.replicates)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            each = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {verb} | {each['s']:.1f} | {each['cpu']:.1f} | {each['mib']:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
