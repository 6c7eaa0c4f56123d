"""A real bundle with a tiny network, made without torch."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lesionlab.evaluation.conformal.shifted import Reference
from lesionlab.numerics import log_softmax
from lesionlab.prediction.bundle import REFERENCE, Bundle, packed, write_bundle
from lesionlab.prediction.predictor import Predictor
from lesionlab.taxonomy import HAM7, full_name

SIZE = (24, 32)
GRID = (3, 4)


def tiny_network(fields: int = 0, seed: int = 0) -> bytes:
    """An ONNX graph: cells' mean colours as features, one linear layer, and its maps."""
    rng = np.random.default_rng(seed)
    classes = len(HAM7)
    weights = rng.normal(0, 3, (3, classes)).astype(np.float32)
    constants = {
        "scale": np.array(1 / 255, np.float32),
        "weights": weights,
        "offsets": rng.normal(0, 1, classes).astype(np.float32),
        "shape": np.array([-1, 3, GRID[0] * GRID[1]], np.int64),
        "grid": np.array([0, classes, *GRID], np.int64),
        "last": np.array([2], np.int64),
        "transposed": np.ascontiguousarray(weights.T),
        "told": rng.normal(0, 1, (max(fields, 1), classes)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "shape"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "last"], ["features"], keepdims=0),
        helper.make_node("MatMul", ["features", "weights"], ["linear"]),
        helper.make_node("Add", ["linear", "offsets"], ["image_logits"]),
        helper.make_node("MatMul", ["transposed", "flat"], ["spread"]),
        helper.make_node("Relu", ["spread"], ["positive"]),
        helper.make_node("Reshape", ["positive", "grid"], ["maps"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *SIZE, 3])]
    if fields:
        inputs.append(helper.make_tensor_value_info("metadata", TensorProto.INT64, ["n", fields]))
        nodes += [
            helper.make_node("Cast", ["metadata"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["numbers", "told"], ["more"]),
            helper.make_node("Add", ["image_logits", "more"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["image_logits"], ["logits"]))
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]),
        helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", classes, *GRID]),
    ]
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, kept)
    opsets = [helper.make_opsetid("", 18)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return model


def tiny_info(fields: bool = True) -> dict:
    """Its bundle.json."""
    encoder = {
        "years": 10,
        "categories": {
            "age": [20, 30, 40, 50, 60, 70],
            "sex": ["female", "male"],
            "site": ["back", "face", "foot"],
        },
    }
    k = len(HAM7)
    return {
        "name": "tiny",
        "version": "0",
        "classes": list(HAM7),
        "full_names": {label: full_name(label) for label in HAM7},
        "precision": "fp32",
        "licence": "CC0-1.0",
        "images": {"size": list(SIZE), "fit": "stretch"},
        "members": [
            {
                "file": "model.onnx",
                "weight": 1.0,
                "metadata": encoder if fields else None,
                "map_grid": list(GRID),
                "features": 3,
            }
        ],
        "scaling": {
            "kind": "lesionlab scaling 1",
            "method": "temperature",
            "classes": list(HAM7),
            "matrix": (np.eye(k) / 1.5).tolist(),
            "offsets": [0.0] * k,
            "strength": 0.0,
        },
        "conformal": {
            "alpha": 0.1,
            "quantiles": dict.fromkeys(HAM7, 0.7),
            "val_lesions": 100,
        },
        "thresholds": {"at_90_sensitivity/mel": 0.13},
        "referral": {
            "malignant": ["akiec", "bcc", "mel"],
            "unknown": [],
            "limits": [
                {
                    "name": "malignancy",
                    "classes": ["akiec", "bcc", "mel"],
                    "threshold": 0.25,
                    "miss": 0.05,
                    "lesions": 200,
                },
                {
                    "name": "melanoma",
                    "classes": ["mel"],
                    "threshold": 0.1,
                    "miss": 0.03,
                    "lesions": 100,
                },
            ],
            "points": {},
            "measured": None,
        },
        "detector": {
            "kind": "lesionlab detector 1",
            "method": "mahalanobis",
            "threshold": 60.0,
            "alarms": 0.05,
            "features": 3,
            "neighbours": 10,
            "fitted_on": {},
            "classes": list(HAM7),
            "arrays": {"means": [1, 3], "precision": [3, 3]},
        },
    }


def tiny_bundle(folder: Path, fields: bool = True, name: str = "tiny.bundle") -> Path:
    """Write the bundle into a folder."""
    import io

    arrays = io.BytesIO()
    means, precision = np.full((1, 3), 0.5), np.eye(3) * 200
    np.savez(arrays, allow_pickle=False, means=means, precision=precision)
    content = {
        "model.onnx": tiny_network(3 if fields else 0),
        "detector.npz": arrays.getvalue(),
        "card.json": b'{"kind": "lesionlab card 1"}',
        "card.html": b"<!doctype html><title>Card</title><h1>Tiny</h1>",
        "LICENSE": b"CC0-1.0",
    }
    bundle: Bundle = write_bundle(folder / name, tiny_info(fields), content)
    return bundle.path


def drawn_pixels(images: int, seed: int, spread: float = 20) -> np.ndarray:
    """Images of a colour each, around grey."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(128, spread, (images, 1, 1, 3))
    return (colours + rng.normal(0, 8, (images, *SIZE, 3))).clip(0, 255).astype(np.uint8)


def adaptable_bundle(folder: Path, name: str = "mole.bundle") -> Bundle:
    """The bundle with a val part whose classes are as its answers say."""
    plain = Bundle.open(tiny_bundle(folder, name=name))
    answers = Predictor(plain).answers(drawn_pixels(400, 0))
    steps = answers.probabilities.cumsum(axis=1)
    targets = (np.random.default_rng(1).random((400, 1)) > steps).sum(axis=1)
    logs = log_softmax(answers.logits)
    reference = Reference(logs, logs, targets, np.arange(400), answers.novelty)
    content = {**plain.content, REFERENCE: packed(reference.arrays())}
    return write_bundle(plain.path, plain.info, content)
