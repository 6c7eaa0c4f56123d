"""Code for a process of its own in which packages cannot be imported, as if not installed."""

TORCH = ("torch", "torchvision", "timm", "lightning", "torchmetrics")


def blocking(*names):
    """Python code that makes every import of these packages fail."""
    return f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
"""
