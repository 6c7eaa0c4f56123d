"""Files and scores of the ISIC challenges: `write` a submission, `read` one, `score` one."""

from lesionlab.evaluation.isic.files import read, write
from lesionlab.evaluation.isic.scorer import score

__all__ = ["read", "score", "write"]
