"""A network that forgets: its weights replaced by random ones, group by group from the top.

Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: a map that stays the same while the
network forgets what it learnt shows the picture, not the network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from lesionlab.models.layer_groups import groups


def cascade(trained: nn.Module, fresh: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Put a fresh network's weights in the place of the trained ones, from the head downwards.

    A group's buffers (the statistics of its batch norms) go with its weights.

    Args:
        trained: left as it is.
        fresh: of the same architecture, with random weights.

    Yields:
        The lowest group that is random by now, and one network that forgets more at every step; in
        the last one everything is random.
    """
    made = copy.deepcopy(trained)
    taken = {name: fresh.get_parameter(name) for name, _ in made.named_parameters()}
    buffers = dict(fresh.named_buffers())
    for group in reversed(groups(made)):
        if not group.parameters:
            continue
        homes = {name.rpartition(".")[0] for name in group.parameters}
        with torch.no_grad():
            for name in group.parameters:
                made.get_parameter(name).copy_(taken[name])
            for name, buffer in made.named_buffers():
                if name.rpartition(".")[0] in homes:
                    buffer.copy_(buffers[name])
        yield group.name, made
