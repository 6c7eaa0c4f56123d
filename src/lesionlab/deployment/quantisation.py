"""Eight-bit integers: a graph whose convolutions count in whole numbers.

Weights have a scale per channel, activations one per tensor, measured on training images. Weights
take 7 of their 8 bits: on processors without VNNI the product of an unsigned and a signed byte is
added up in 16 bits, which full weights would overflow without a word.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

OPERATORS = ("Conv", "Add", "Relu")
"""What is counted in whole numbers; heads, normalisation and maps stay as they are."""

STEMS = (0, 1, 2, 3)
"""How many of the first convolutions may stay in 32 bits: which, is chosen on training images."""

_LARGE = 2**14  # numbers; larger constants outside the convolutions are kept in 16 bits
BATCH = 32
"""Images that a graph is given at once while it is made."""


def quantised(
    graph: bytes, given: Sequence[dict[str, NDArray[Any]]], stem: int, folder: Path
) -> bytes:
    """An ONNX graph in eight-bit integers.

    Args:
        graph: in 32 bits.
        given: batches of its inputs, of training images, to measure activations on.
        stem: how many of the first convolutions stay in 32 bits.
        folder: for files in between.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        full, ready, made = (Path(name) / f"{step}.onnx" for step in ("full", "ready", "int8"))
        full.write_bytes(graph)
        quant_pre_process(str(full), str(ready), skip_symbolic_shape=True)
        nodes = onnx.load(str(ready)).graph.node
        first = [node.name for node in nodes if node.op_type == "Conv"][:stem]
        quantize_static(
            str(ready),
            str(made),
            _Batches(given),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=first,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return halved(made.read_bytes())


def plain(model: onnx.ModelProto) -> bytes:
    """A graph without what its making left in it: notes, paths, names of source files."""
    model.doc_string = ""
    model.producer_name, model.producer_version = "lesionlab", ""
    del model.metadata_props[:]
    for graph in _graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for part in (*graph.node, *graph.input, *graph.output, *graph.value_info):
            part.doc_string = ""
            del part.metadata_props[:]
        del graph.value_info[:]
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def halved(graph: bytes) -> bytes:
    """A graph whose large 32-bit constants are kept in 16 bits; it still computes in 32.

    In 32 bits those are the weights; in int8 what stays so, such as the matrix behind the maps.
    """
    model = onnx.load_model_from_string(graph)
    casts = []
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.dtype == np.float32 and values.size >= _LARGE:
            name = constant.name
            constant.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(
                helper.make_node(
                    "Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=TensorProto.FLOAT
                )
            )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return plain(model)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Hands out batches one by one, as the quantiser asks for them."""

    def __init__(self, given: Sequence[dict[str, NDArray[Any]]]) -> None:
        self._rest = iter(given)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch; None: there are no more."""
        return next(self._rest, None)
