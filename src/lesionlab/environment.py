"""Doctor: what is installed, what the machine has, and what is missing for which verb."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd

from lesionlab._version import __version__
from lesionlab.advice import command

_EXTRAS = {
    "serve": ("onnxruntime", "fastapi", "uvicorn", "python-multipart", "prometheus-client"),
    "train": (
        *("torch", "torchvision", "timm", "lightning", "torchmetrics", "safetensors"),
        *("onnx", "onnxscript"),
    ),
}
_PACKAGES = {
    "numpy": "",
    "pandas": "",
    "pillow": "",
    "scikit-learn": "",
    "matplotlib": "",
    "torch": "train, predict with a run, demo",
    "torchvision": "train, predict with a run, demo",
    "timm": "train, predict with a run, demo",
    "lightning": "train, demo",
    "torchmetrics": "train, demo",
    "safetensors": "train, predict with a run, demo",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "predict, serve, export",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python-multipart": "serve",
    "prometheus-client": "serve",
    "pydicom": "DICOM; optional",
    "optuna": "tune; optional",
    "tensorboard": "live curves; optional",
    "pyarrow": "reading Parquet; optional",
}


def diagnose() -> tuple[pd.DataFrame, list[str]]:
    """Look at the machine.

    Returns:
        A table with columns what, found, needed for; and sentences on what to do.
    """
    rows: list[tuple[str, str, str]] = [
        ("lesionlab", __version__, ""),
        ("Python", sys.version.split()[0], ""),
        ("system", platform.platform(), ""),
        ("processor cores", str(os.cpu_count()), ""),
        ("memory", _memory(), ""),
        (
            "free disk here",
            f"{shutil.disk_usage(Path.cwd()).free / 1e9:,.0f} GB",
            "HAM10000 takes 6 GB",
        ),
    ]
    missing = []
    for name, use in _PACKAGES.items():
        try:
            rows.append((name, metadata.version(name), use))
        except metadata.PackageNotFoundError:
            rows.append((name, "not installed", use))
            missing.append(name)
    if "torch" not in missing:
        rows += _accelerator()
    lines = []
    for extra, purpose in (("serve", "To answer about images"), ("train", "To train and export")):
        if needed := [name for name in _EXTRAS[extra] if name in missing]:
            lines.append(
                f"{purpose}, install {', '.join(needed)}: "
                f"pip install -c constraints.txt '.[{extra}]'"
            )
        elif extra == "serve":
            lines.append(f"An answer about an image: {command('predict', 'photo.jpg')}")
        else:
            lines.append(f"The whole chain: {command('demo')}")
    return pd.DataFrame(rows, columns=["component", "found", "needed for"]), lines


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:,.0f} GB"
    except (AttributeError, OSError, ValueError):
        return "unknown"


def _accelerator() -> list[tuple[str, str, str]]:
    try:
        import torch
    except ImportError as error:
        return [("torch", f"installed, but broken: {error}", "train, demo")]
    if not torch.cuda.is_available():
        return [
            ("CUDA", "none: training runs on the processor", ""),
            ("threads", str(torch.get_num_threads()), ""),
        ]
    bf16 = "with bf16" if torch.cuda.is_bf16_supported() else "without bf16"
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    return [("CUDA", f"{torch.cuda.get_device_name()}, {memory:,.0f} GB, {bf16}", "")]
