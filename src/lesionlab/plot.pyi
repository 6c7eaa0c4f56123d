from .reporting.plot import compare as compare
from .reporting.plot import confusion as confusion
from .reporting.plot import curves as curves
from .reporting.plot import reliability as reliability
from .reporting.plot import roc as roc

__all__: list[str]
