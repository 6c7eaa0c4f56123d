"""Train, test, understand and ship classifiers of skin lesions from dermatoscopic images.

Research and education only. Not a medical device.

The public names load on first use, so that `import lesionlab` costs next to nothing and what needs
no torch never imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lesionlab._version import __version__

if TYPE_CHECKING:
    from lesionlab.data.acquisition import fetch
    from lesionlab.data.auditing import Audit, audit
    from lesionlab.data.catalogues import Catalogue, catalogue
    from lesionlab.data.images import cache
    from lesionlab.data.splitting import Split, split
    from lesionlab.data.synthetic import synthetic
    from lesionlab.evaluation import Estimate, Evaluation, evaluate
    from lesionlab.prediction.from_run import predict
    from lesionlab.recipe import Recipe
    from lesionlab.reporting.report import report
    from lesionlab.run import Run
    from lesionlab.training.fit import train

_HOMES = {
    "Audit": "data.auditing",
    "Catalogue": "data.catalogues",
    "Estimate": "evaluation",
    "Evaluation": "evaluation",
    "Recipe": "recipe",
    "Run": "run",
    "Split": "data.splitting",
    "audit": "data.auditing",
    "cache": "data.images",
    "catalogue": "data.catalogues",
    "evaluate": "evaluation",
    "fetch": "data.acquisition",
    "predict": "prediction.from_run",
    "report": "reporting.report",
    "split": "data.splitting",
    "synthetic": "data.synthetic",
    "train": "training.fit",
}

__all__ = [
    "Audit",
    "Catalogue",
    "Estimate",
    "Evaluation",
    "Recipe",
    "Run",
    "Split",
    "__version__",
    "audit",
    "cache",
    "catalogue",
    "evaluate",
    "fetch",
    "predict",
    "report",
    "split",
    "synthetic",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lesionlab' has no attribute {name!r}")
    value = getattr(import_module(f"lesionlab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
