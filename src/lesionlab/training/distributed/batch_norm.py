"""Batch norms over the whole batch, whichever process its images are in.

torch's own SyncBatchNorm does so on CUDA alone, and puts other modules in the place of a network's.
Here the function that every batch norm calls is replaced while a step lasts, so that the network,
its weights and its checkpoints are those of one device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SynchronisedNorms(TorchFunctionMode):
    """A context in which batch norms in training mode take the statistics of all processes.

    Norms in evaluation mode, such as frozen ones, are as they are without; so are all where this
    is the only process.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of a batch norm that learns; call all else."""
        if func is functional.batch_norm and dist.is_initialized():
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm`, over the images of all processes."""
    if not training:
        return functional.batch_norm(
            images, running_mean, running_var, weight, bias, False, momentum, eps
        )
    with torch.no_grad():
        mean, variance, count = _statistics(images.float())
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            unbiased = variance * (count / (count - 1))
            running_var.lerp_(unbiased.to(running_var), momentum)
    normed: Tensor = _Norm.apply(images, weight, bias, mean, variance, count, eps)
    return normed


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of each channel over all processes, and how many values there are.

    The parts are put together as Chan, Golub and LeVeque do ("Algorithms for Computing the Sample
    Variance", The American Statistician 1983), which loses no digits where a mean is far from 0.
    """
    variance, mean = torch.var_mean(values, dim=_all_but_channels(values), correction=0)
    count = values.new_full((1,), values.numel() / values.shape[1])
    mine = torch.cat([mean, variance, count])
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(every, mine)
    table = torch.stack(every).double()
    channels = len(mean)
    means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
    total = counts.sum()
    middle = (counts * means).sum(dim=0) / total
    spread = (counts * (variances + (means - middle) ** 2)).sum(dim=0) / total
    return middle.float(), spread.float(), total.float()


def _all_but_channels(values: Tensor) -> list[int]:
    return [dim for dim in range(values.ndim) if dim != 1]


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, (variance + eps).rsqrt(), count)
        return functional.batch_norm(images, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, scale, count = ctx.saved_tensors
        shape = [1, -1, *[1] * (images.ndim - 2)]
        gradient = gradient.float()
        normed = (images.float() - mean.view(shape)) * scale.view(shape)
        dims = _all_but_channels(images)
        of_bias, of_weight = gradient.sum(dim=dims), (gradient * normed).sum(dim=dims)
        sums = torch.stack([of_bias, of_weight])  # the mean moves with every image, wherever it is
        dist.all_reduce(sums)
        first, second = (sums / count).unbind()
        found = gradient - first.view(shape) - normed * second.view(shape)
        found = found * (scale if weight is None else scale * weight.float()).view(shape)
        learns = weight is not None
        return (
            found.to(images.dtype),
            of_weight.to(weight.dtype) if learns else None,
            of_bias.to(weight.dtype) if learns else None,
            *[None] * 4,
        )
