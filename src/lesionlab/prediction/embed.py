"""Embeddings: what a frozen backbone makes of every image, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.data.catalogue.catalogue import Catalogue, cache_home
from lesionlab.data.images.cache import cache
from lesionlab.data.images.decode import preprocessing_fingerprint
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.data.splits import Split
from lesionlab.embeddings import INFO, LOGITS, TABLE, VECTORS, Embeddings
from lesionlab.errors import DataError, SettingsError
from lesionlab.files import (
    discard,
    fingerprint,
    hash_file,
    new_folder,
    replacing,
    write_csv,
    write_json,
)
from lesionlab.models import factory
from lesionlab.models.device import Device, choose_device
from lesionlab.models.heads import head_of
from lesionlab.models.metadata_fusion import image_net
from lesionlab.prediction.run_inputs import image_files
from lesionlab.prediction.run_predictor import CHUNK
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import Images, Model
from lesionlab.run import SPLIT, Run, holds, identity_differences, refuse_differences


def embed(
    model: str | Path | Run,
    data: Catalogue | str | Path | None = None,
    images: Sequence[str | Path] = (),
    *,
    out: str | Path,
    pretrained: bool | str = False,
    size: tuple[int, int] | None = None,
    cache_to: str | Path | None = None,
    device: Device = "auto",
    fresh: bool = False,
    listen: Listener = silent,
) -> Embeddings:
    """Write what a frozen backbone makes of every image of a catalogue: its pooled features.

    They are what the classifier would get, before it and before any metadata. Of a run, the logits
    are written too. The same call again finds them complete, or refuses a folder that holds others.

    Args:
        model: a finished run or its folder, or a model's name.
        data: the catalogue, or its folder.
        images: of a run: image files, and folders that are searched through, instead of it.
        out: the folder to write.
        pretrained: of a model's name: True for published weights, or a local .safetensors or
            .pth file. A run has weights of its own.
        size: of a model's name: height and width in pixels; by default those that it was designed
            for. A run has a size of its own.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        device: "auto" takes CUDA where there is one.
        fresh: discard other embeddings in that folder.
        listen: told of the progress.

    Raises:
        SettingsError: if the model's name or its weights are unknown or missing, or if a run is
            given weights or a size; if there are both a catalogue and images, or neither, or images
            for a model's name.
        DataError: naming every image that cannot be read.
        RunError: if the run is not finished, or the folder holds something else; the differences
            are named.
    """
    out = Path(out)
    run = _run_of(model)
    data = None if data is None else Catalogue.open(data)
    if (data is None) == (not images) or (run is None and data is None):
        raise SettingsError(
            "Say what to embed: a catalogue (--data DIR) or, with a run, image files and folders."
        )
    if run is not None:
        if pretrained is not False or size is not None:
            raise SettingsError(
                f"{run.folder} is a run, with weights and a size of its own: leave --pretrained "
                "and --size out, or give a model's name."
            )
        network, architecture = factory.load(run.folder)
    elif data is not None:
        network, architecture = _from_name(str(model), data, pretrained, size, listen)
    files = image_files([Path(each) for each in images]) if data is None else []
    identity = {
        "catalogue": data.fingerprint if data else fingerprint([hash_file(each) for each in files]),
        "preprocessing": preprocessing_fingerprint(architecture.images),
        "normalisation": list(map(str, architecture.normalisation)),
        "model": architecture.name,
        "weights": _weights_fingerprint(network),
        "parts": _split_of(run, data) if data else "",
    }
    if _finished(out, identity, fresh, listen):
        return Embeddings.open(out)
    network.to(choose_device(device))
    if data:
        home = cache_home(data, cache_to)
        pixels = cache(data.table, data.root, architecture.images, home, listen=listen)
        rows = pixels.rows(list(data.table["sha256"]))
        table = data.table[["image_id", "target", "lesion_id", "patient_id"]].assign(
            part=_parts(run, data)
        )
    else:
        table = pd.DataFrame({"image_id": [each.stem for each in files]})
        table[["target", "lesion_id", "patient_id", "part"]] = ""
    info: dict[str, Any] = {
        "identity": identity,
        "model": str(run.folder) if run else str(model),
        "pretrained": True if run else pretrained,
        "size": list(architecture.images.size),
        "classes": list(data.classes if data else architecture.classes),
    }
    with new_folder(out) as part:
        if data:
            vectors = embed_rows(network, architecture, pixels.pixels, rows, listen=listen)
        else:
            vectors = _embed_files(network, architecture, files, listen)
        info |= {"images": len(vectors), "features": vectors.shape[1]}
        with replacing(part / VECTORS) as path, path.open("wb") as handle:
            np.save(handle, vectors)
        if run:
            info["head"] = _weights_fingerprint(network, of_head=True)
            with replacing(part / LOGITS) as path, path.open("wb") as handle:
                np.save(handle, _logits_of(network, vectors))
        write_csv(part / TABLE, table)
        write_json(part / INFO, info)
        discard(out)
    return Embeddings.open(out)


def embed_rows(
    network: nn.Module,
    architecture: factory.Architecture,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    *,
    listen: Listener = silent,
) -> NDArray[np.float32]:
    """Embeddings of decoded images.

    Args:
        network: from `factory.build` or `factory.load`; set to evaluation mode here.
        architecture: its normalisation.
        pixels: uint8, shape (images, height, width, 3).
        rows: which of them, shape (n,).
        listen: told of the progress.

    Returns:
        float32, shape (n, features).

    Raises:
        SettingsError: if the network has no pooled features.
    """
    network.eval()
    device = next(network.parameters()).device
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK):
            images = torch.from_numpy(pixels[rows[start : start + CHUNK]]).to(device)
            views = normalise(images, *architecture.normalisation)
            views = views.contiguous(memory_format=torch.channels_last)
            found.append(features_of(network, views, architecture.name).float().cpu().numpy())
            listen(Step("embedding", min(start + CHUNK, len(rows)), len(rows), "images"))
    return np.concatenate(found)


def _embed_files(
    network: nn.Module, architecture: factory.Architecture, files: Sequence[Path], listen: Listener
) -> NDArray[np.float32]:
    reader, faults, found = Reader(Path()), [], []
    for start in range(0, len(files), CHUNK):
        pixels = []
        for path in files[start : start + CHUNK]:
            try:
                pixels.append(reader.pixels(str(path), architecture.images))
            except ImageFault as fault:
                faults.append(str(fault))
        if not faults:
            found.append(
                embed_rows(network, architecture, np.stack(pixels), np.arange(len(pixels)))
            )
        listen(Step("embedding", min(start + CHUNK, len(files)), len(files), "images"))
    if faults:
        raise DataError(
            f"{len(faults)} of {len(files)} images cannot be read: {'; '.join(faults[:10])}"
            f"{'; ...' if len(faults) > 10 else ''}. Leave them out."
        )
    return np.concatenate(found)


def _logits_of(network: nn.Module, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the classifier of a run makes of its features, shape (n, classes)."""
    head = head_of(image_net(network))
    device = next(network.parameters()).device
    shape = (1, 1) if isinstance(head, nn.Conv2d) else ()
    found = []
    with torch.inference_mode():
        for start in range(0, len(vectors), CHUNK):
            features = torch.from_numpy(vectors[start : start + CHUNK]).to(device)
            made = head(features.reshape(*features.shape, *shape))
            found.append(made.flatten(1).float().cpu().numpy())
    return np.concatenate(found)


def features_of(network: nn.Module, images: Tensor, name: str = "the model") -> Tensor:
    """What the classifier of a network gets for images, without any metadata.

    Args:
        network: from images to logits, fused or not.
        images: float32, shape (n, 3, height, width).
        name: what to call the network in messages.

    Returns:
        Shape (n, features).

    Raises:
        SettingsError: if the network has no single classifier, or one that gets a map of features.
    """
    seen: list[Tensor] = []
    handle = head_of(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        network(images)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].flatten(1).shape[1] != seen[0].shape[1]:
        raise SettingsError(
            f"{name} does not end in one classifier of pooled features, so it has no embeddings: "
            "choose another model."
        )
    return seen[0].flatten(1)


def _run_of(model: str | Path | Run) -> Run | None:
    """The finished run that is meant; None for a model's name."""
    if not isinstance(model, Run):
        if not Path(model).exists():
            return None
        model = Run.open(model)
    return Run.finished(model)


def _from_name(
    name: str,
    data: Catalogue,
    pretrained: bool | str,
    size: tuple[int, int] | None,
    listen: Listener,
) -> tuple[nn.Module, factory.Architecture]:
    factory.check_name(name)
    if pretrained is False:
        raise SettingsError(
            f"Random weights of {name} say nothing about an image. Give weights: --pretrained "
            "FILE.safetensors, or --pretrained true for published ones."
        )
    config = timm.get_pretrained_cfg(name)
    _, height, width = config.input_size if config else (3, 224, 224)
    model = Model(name=name, pretrained=pretrained)
    architecture = factory.Architecture.of(
        model, data.classes, Images(size=size or (height, width))
    )
    with torch.random.fork_rng(devices=[]):  # an untrained classifier is drawn, and not used
        return factory.build(architecture, pretrained, listen), architecture


def _weights_fingerprint(network: nn.Module, *, of_head: bool = False) -> str:
    """16 hexadecimal digits over all weights below the classifier, or over the classifier's."""
    network = image_net(network)
    head = {id(each) for each in head_of(network).state_dict(keep_vars=True).values()}
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict(keep_vars=True).items()):
        if (id(value) in head) == of_head:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _finished(out: Path, identity: dict[str, Any], fresh: bool, listen: Listener) -> bool:
    """Whether the folder holds these embeddings; refuses a folder of anything else."""
    if not holds(out, INFO):
        return False
    if fresh:
        listen(Notice(f"Discarding what {out} held."))
        return False
    theirs = Embeddings.open(out).info["identity"]
    refuse_differences(out, identity_differences(theirs, identity))
    listen(Notice(f"{out} is complete: nothing to do. --fresh would compute it again."))
    return True


def _split_of(run: Run | None, data: Catalogue) -> str:
    """Split and fold of a run on this catalogue; "" where there is none."""
    identity = run.info["identity"] if run else {}
    if identity.get("catalogue") != data.fingerprint:
        return ""
    return f"fold {identity['fold']} of split {identity['split']}"


def _parts(run: Run | None, data: Catalogue) -> pd.Series[str] | str:
    """The part of each image in the run's own split; "" where the run knows no part of it."""
    if run is None or not _split_of(run, data):
        return ""
    parts = Split.open(run.folder / SPLIT).parts(run.info["identity"]["fold"])
    return data.table["image_id"].map(parts)
