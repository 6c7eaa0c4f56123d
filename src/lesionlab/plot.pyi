from .reporting.notebook.plot import compare as compare
from .reporting.notebook.plot import confusion as confusion
from .reporting.notebook.plot import curves as curves
from .reporting.notebook.plot import reliability as reliability
from .reporting.notebook.plot import roc as roc

__all__: list[str]
