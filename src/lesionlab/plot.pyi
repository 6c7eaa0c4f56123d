from .reporting.notebook.plot import compare as compare
from .reporting.notebook.plot import confusion as confusion
from .reporting.notebook.plot import curves as curves
from .reporting.notebook.plot import reliability as reliability
from .reporting.notebook.plot import roc as roc
from .reporting.notebook.plot import sampling as sampling
from .reporting.notebook.plot import views as views

__all__: list[str]
