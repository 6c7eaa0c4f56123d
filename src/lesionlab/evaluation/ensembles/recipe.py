"""Blend recipe: an ensemble as a YAML file that names its members and how to combine them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesionlab.errors import RunError, SettingsError
from lesionlab.evaluation.ensembles.blend import Method
from lesionlab.recipe import validation


@dataclass(frozen=True)
class BlendRecipe:
    """What a file such as `{blend: {method: mean, members: [first, second]}}` says.

    Attributes:
        members: names of run folders.
        method: see `blend`.
        metric: what is fitted for; "" is the method's default.
        seed: of the fit.
    """

    members: tuple[str, ...] = ()
    method: Method = "mean"
    metric: str = ""
    seed: int = 0

    @classmethod
    def load(cls, path: str | Path) -> BlendRecipe:
        """Read a blend recipe.

        Raises:
            SettingsError: naming every fault of the file at once.
        """
        values = validation.read_yaml(Path(path))
        faults = [f"{key}: no setting of a blend recipe" for key in values if key != "blend"]
        made = validation.build(cls, values.get("blend", {}), "blend", faults)
        if made is not None:
            if not made.members:
                faults.append("blend.members: names no run folder")
            for name in sorted({each for each in made.members if made.members.count(each) > 1}):
                faults.append(f"blend.members: {name} stands there more than once")
        if faults:
            listed = "\n".join(f"  {fault}" for fault in faults)
            raise SettingsError(
                f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}\n"
                "A blend recipe says: blend: {method: mean, members: [run_1, run_2]}"
            )
        assert isinstance(made, BlendRecipe)
        return made

    def folders(self, runs: str | Path) -> dict[str, Path]:
        """The members' folders by name.

        Args:
            runs: the folder that holds them.

        Raises:
            RunError: naming every member that is not there.
        """
        found = {name: Path(runs) / name for name in self.members}
        if missing := [str(path) for path in found.values() if not path.is_dir()]:
            raise RunError(
                f"{len(missing)} of {len(found)} members are not there: {', '.join(missing)}. "
                "Train them first: each has a recipe of its own name. Or say with --runs where "
                "they are."
            )
        return found
