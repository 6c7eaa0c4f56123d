"""Fine-tune depth: the groups of a network's layers, and which of them learn."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lesionlab.errors import SettingsError
from lesionlab.models.heads import head_of
from lesionlab.models.metadata_fusion import image_net

STEM, HEAD, ALL = "stem", "head", "all"


@dataclass(frozen=True)
class Group:
    """Layers that learn or are frozen together.

    Attributes:
        name: "stem" for the lowest, "head" for the classifier, else the path of its first module.
        parameters: their names in the network.
        count: how many numbers they hold.
    """

    name: str
    parameters: tuple[str, ...]
    count: int


def groups(network: nn.Module) -> list[Group]:
    """The groups of a network, bottom to top: timm's coarse ones, then the head.

    What timm leaves between the last block and the classifier (a norm, VGG's fully connected
    layers) is a group of its own below the head. The branch of a fused network is part of the head.
    """
    inner = image_net(network)
    prefix = next(path for path, module in network.named_modules() if module is inner)
    prefix = f"{prefix}." if prefix else ""
    in_head = {id(each) for each in head_of(inner).parameters()}
    sizes = {name: each.numel() for name, each in network.named_parameters()}
    body = {name for name, each in inner.named_parameters() if id(each) not in in_head}
    timms = ([name for name in names if name in body] for names in _timms(inner))
    bodies = [names for names in timms if names]
    titles = _names(bodies)
    members = [[prefix + name for name in group] for group in bodies]
    members.append([name for name in sizes if name.removeprefix(prefix) not in body])
    return [
        Group(name, tuple(group), sum(sizes[each] for each in group))
        for name, group in zip([*titles, HEAD], members, strict=True)
    ]


def check(network: nn.Module, depths: Iterable[str]) -> None:
    """Make sure that a network can be cut at every depth.

    Raises:
        SettingsError: naming each unknown one, the nearest names, and all that there are.
    """
    known = [group.name for group in groups(network)]
    faults = []
    for number, depth in enumerate(depths):
        if depth not in (ALL, *known):
            close = difflib.get_close_matches(depth, [ALL, *known], n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            faults.append(f"  phases.{number}.depth: no group {depth!r}{hint}")
    if faults:
        raise SettingsError(
            "\n".join(["This network cannot be cut there:", *faults])
            + f"\nIts groups, bottom to top: {', '.join(known)}. Or: {ALL}."
        )


def freeze(
    network: nn.Module, depth: str, norms: Literal["with_group", "all"] = "with_group"
) -> list[nn.Module]:
    """Let a network learn from one group on upwards, and freeze what lies below.

    Frozen parameters take no gradient. For batch-norm statistics and dropout a mode is needed too:
    `keep_modes` sets it, with what this gives, whenever training mode is switched on.

    Args:
        network: changed in place.
        depth: "head", "all", or the name of the lowest group that learns.
        norms: "all" lets every batch norm learn, scale, shift and statistics, frozen group or not.

    Returns:
        The modules that belong in training mode.

    Raises:
        SettingsError: if there is no such group.
    """
    check(network, [depth])
    every = groups(network)
    lowest = 0 if depth == ALL else [group.name for group in every].index(depth)
    learns = {name for group in every[lowest:] for name in group.parameters}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in learns)
    modes = list(_in_training(network))
    if norms == "all":
        batch_norms = [each for each in network.modules() if isinstance(each, _BatchNorm)]
        for norm in batch_norms:
            norm.requires_grad_(True)
        modes += batch_norms
    return modes


def keep_modes(network: nn.Module, learning: Sequence[nn.Module]) -> None:
    """Put what learns into training mode, all else into evaluation mode."""
    network.eval()
    for module in learning:
        module.training = True


def layer_scales(network: nn.Module, decay: float) -> dict[str, float]:
    """What each parameter's learning rate is multiplied by: 1 in the head, `decay` below it, ...

    Layer-wise learning-rate decay as in Clark et al., "ELECTRA", ICLR 2020.

    Args:
        network: its groups are the layers.
        decay: share of the learning rate of the group above, above 0 to 1.
    """
    return {
        name: decay**above
        for above, group in enumerate(reversed(groups(network)))
        for name in group.parameters
    }


def _timms(network: nn.Module) -> list[list[str]]:
    """Names of parameters by timm's coarse groups, bottom to top."""
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        return [[name for name, _ in network.named_parameters()]]
    found: dict[int, list[str]] = group_parameters(network, matcher(coarse=True))
    return [found[number] for number in sorted(found)]


def _names(members: list[list[str]]) -> list[str]:
    """Names of groups: of each the shortest path of its first parameter that no other has."""
    owners: dict[str, set[int]] = {}
    for number, group in enumerate(members):
        for path in chain.from_iterable(map(_paths, group)):
            owners.setdefault(path, set()).add(number)
    return [
        next(p for p in _paths(group[0]) if owners[p] == {number} and p not in (STEM, HEAD, ALL))
        if number
        else STEM
        for number, group in enumerate(members)
    ]


def _paths(name: str) -> list[str]:
    """A parameter's own path and all above it: a, a.b, a.b.c."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _in_training(module: nn.Module) -> Iterator[nn.Module]:
    """What belongs in training mode: all that holds learning parameters, and the dropout before.

    A module without parameters goes with the next one beside it, as dropout stands before what it
    regularises; the last ones go with the module that they end.
    """
    if not _learns(module):
        return
    yield module
    goes = True
    for child in reversed(list(module.children())):
        if (lowest := next(child.parameters(), None)) is not None:
            goes = lowest.requires_grad
            yield from _in_training(child)
        elif goes:
            yield from child.modules()


def _learns(module: nn.Module) -> bool:
    return any(each.requires_grad for each in module.parameters())
