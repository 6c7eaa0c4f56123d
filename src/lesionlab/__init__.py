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
    from lesionlab.data.cleaning import Cleaned, clean
    from lesionlab.data.images import cache
    from lesionlab.data.joining import join
    from lesionlab.data.splitting import Split, split
    from lesionlab.data.synthetic import synthetic
    from lesionlab.evaluation import (
        Blend,
        Comparison,
        Estimate,
        Evaluation,
        blend,
        blended,
        compare,
        evaluate,
        gaps,
    )
    from lesionlab.explanation.gallery import explain
    from lesionlab.models.listing import list_models
    from lesionlab.prediction.embedding import Embeddings, embed
    from lesionlab.prediction.from_run import predict
    from lesionlab.recipe import Recipe
    from lesionlab.reporting.exploring import explore
    from lesionlab.reporting.report import report
    from lesionlab.run import Folds, Run
    from lesionlab.training.fit import train
    from lesionlab.training.folds import folds
    from lesionlab.training.tuning import tune

_HOMES = {
    "Audit": "data.auditing",
    "Blend": "evaluation",
    "Catalogue": "data.catalogues",
    "Cleaned": "data.cleaning",
    "Comparison": "evaluation",
    "Embeddings": "prediction.embedding",
    "Estimate": "evaluation",
    "Evaluation": "evaluation",
    "Folds": "run",
    "Recipe": "recipe",
    "Run": "run",
    "Split": "data.splitting",
    "audit": "data.auditing",
    "blend": "evaluation",
    "blended": "evaluation",
    "cache": "data.images",
    "catalogue": "data.catalogues",
    "clean": "data.cleaning",
    "compare": "evaluation",
    "embed": "prediction.embedding",
    "evaluate": "evaluation",
    "explain": "explanation.gallery",
    "explore": "reporting.exploring",
    "fetch": "data.acquisition",
    "folds": "training.folds",
    "gaps": "evaluation",
    "join": "data.joining",
    "list_models": "models.listing",
    "predict": "prediction.from_run",
    "report": "reporting.report",
    "split": "data.splitting",
    "synthetic": "data.synthetic",
    "train": "training.fit",
    "tune": "training.tuning",
}

__all__ = [
    "Audit",
    "Blend",
    "Catalogue",
    "Cleaned",
    "Comparison",
    "Embeddings",
    "Estimate",
    "Evaluation",
    "Folds",
    "Recipe",
    "Run",
    "Split",
    "__version__",
    "audit",
    "blend",
    "blended",
    "cache",
    "catalogue",
    "clean",
    "compare",
    "embed",
    "evaluate",
    "explain",
    "explore",
    "fetch",
    "folds",
    "gaps",
    "join",
    "list_models",
    "predict",
    "report",
    "split",
    "synthetic",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lesionlab' has no attribute {name!r}")
    value = getattr(import_module(f"lesionlab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
