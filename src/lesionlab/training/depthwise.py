"""Gradients of depthwise convolutions on a CPU in bfloat16, taken in float32.

What the processor has for them in bfloat16 is slow: of a net such as EfficientNet they are nearly
all of the time of a step. In float32 the same gradients take a fraction of it, and are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode


class DepthwiseInFloat32(TorchFunctionMode):
    """A context in which the depthwise convolutions of a step get their gradients in float32.

    Only under autocast to bfloat16 on a CPU; everything else is as it is without.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of a convolution where it is depthwise; call all else."""
        if func is torch.conv2d and not kwargs and _slow(*args):
            return _Depthwise.apply(*args)
        return func(*args, **(kwargs or {}))


def _slow(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    del bias
    return (
        1 < groups == images.shape[1] == weight.shape[0]
        and all(isinstance(each, tuple) for each in (stride, padding, dilation))
        and images.device.type == "cpu"
        and weight.requires_grad
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *settings: Any,
    ) -> Tensor:
        images = images.bfloat16()
        ctx.save_for_backward(images, weight)
        ctx.settings, ctx.biased = settings, bias is not None  # type: ignore[attr-defined]
        return torch.conv2d(images, weight, bias, *settings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        found = torch.ops.aten.convolution_backward(
            gradient.float(),
            images.float(),
            weight.bfloat16().float(),  # as it was in the forward pass
            list(weight.shape[:1]) if ctx.biased else None,
            stride,
            padding,
            dilation,
            False,
            (0, 0),
            groups,
            [ctx.needs_input_grad[0], True, ctx.biased],
        )
        return (*found, None, None, None, None)
