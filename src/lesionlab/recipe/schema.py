"""Recipe: every setting of a training run, as frozen dataclasses, one YAML file and dotted flags.

A recipe says how to train. It never says where data lie or which image is in which part.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lesionlab.errors import SettingsError
from lesionlab.files import fingerprint, write_text
from lesionlab.recipe import validation
from lesionlab.recipe.presets import PRESETS
from lesionlab.recipe.validation import knob as _knob

SCHEMA = 2
"""Raised when a default changes its meaning, so that old fingerprints stay true."""


@dataclass(frozen=True)
class Images:
    """What an image goes through before the network: decoding, upright turn, RGB, resize, light."""

    size: tuple[int, int] = _knob((225, 300), "height and width in pixels", low=16, high=2048)
    fit: Literal["stretch", "crop", "pad"] = _knob(
        "stretch",
        "what to do with an image of another shape: stretch it, crop it, or pad with black",
    )
    colour_constancy: Literal["none", "grey_world", "shades_of_grey", "max_rgb"] = _knob(
        "none", "take the colour of the light out of every image, before scaling"
    )


@dataclass(frozen=True)
class Linear:
    """The architecture's own classifier: one linear layer."""

    kind: Literal["linear"] = "linear"


@dataclass(frozen=True)
class Dense:
    """Pooled features, dense layers with ReLU and dropout, one linear layer."""

    kind: Literal["dense"] = "dense"
    widths: tuple[int, ...] = _knob((512,), "units of each dense layer", low=1, high=8192)
    batch_norm: bool = _knob(False, "batch norm between each dense layer and its ReLU")
    drop: float = _knob(0.5, "dropout after each dense layer", low=0, high=0.95)
    pool: Literal["avg", "max"] = _knob(
        "avg", "how the feature map, or a transformer's patches, are pooled"
    )


@dataclass(frozen=True)
class LogisticProbe:
    """Logistic regression on the frozen backbone's embeddings.

    Not used: loss, phases, average, augment, batch, precision, select.patience, select.keep and
    model.drop.
    """

    kind: Literal["logistic_probe"] = "logistic_probe"
    strength: float = _knob(
        0.0, "inverse regularisation (scikit-learn's C); 0: the best on val of 1e-4 to 1e4", low=0
    )
    balanced: bool = _knob(True, "weigh classes by inverse frequency")


@dataclass(frozen=True)
class NeighboursProbe:
    """Nearest training embeddings by cosine similarity.

    Not used: loss, phases, average, augment, batch, precision, select.patience, select.keep and
    model.drop.
    """

    kind: Literal["neighbours_probe"] = "neighbours_probe"
    neighbours: int = _knob(20, "how many of the nearest vote", low=1, high=10_000)
    temperature: float = _knob(0.07, "votes weigh exp(similarity / temperature)", above=0, high=10)
    balanced: bool = _knob(True, "divide each class's votes by its frequency")


FEATURES: tuple[Literal["age", "sex", "site"], ...] = ("age", "sex", "site")
"""The metadata that a network may see."""


NO_FEATURES = (
    "nothing else may be a feature: dx_type says how a diagnosis was confirmed, which is known "
    "only with the diagnosis; ids, paths and file sizes name an image and say nothing of a patient"
)


_HIDE = "probability that training hides all metadata of an image; each field alone: half of that"


@dataclass(frozen=True)
class NoFusion:
    """The image alone."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class Concatenation:
    """Embedded metadata beside the image features, before the classifier."""

    kind: Literal["concatenation"] = "concatenation"
    fields: tuple[Literal["age", "sex", "site"], ...] = _knob(
        FEATURES, "which metadata; nothing else may ever be a feature", why=NO_FEATURES
    )
    width: int = _knob(16, "length of each field's embedding", low=1, high=512)
    hide: float = _knob(0.3, _HIDE, low=0, high=1)


@dataclass(frozen=True)
class Gating:
    """Embedded metadata scale the image features (MetaBlock-like; Pacheco and Krohling, 2021)."""

    kind: Literal["gating"] = "gating"
    fields: tuple[Literal["age", "sex", "site"], ...] = _knob(
        FEATURES, "which metadata; nothing else may ever be a feature", why=NO_FEATURES
    )
    width: int = _knob(16, "length of each field's embedding", low=1, high=512)
    hide: float = _knob(0.3, _HIDE, low=0, high=1)


@dataclass(frozen=True)
class NaiveBayes:
    """How much likelier each age, sex and site is in a class, counted in the training part.

    The logarithms are added to the logits. The image network learns by itself, without metadata.
    """

    kind: Literal["naive_bayes"] = "naive_bayes"
    fields: tuple[Literal["age", "sex", "site"], ...] = _knob(
        FEATURES, "which metadata; nothing else may ever be a feature", why=NO_FEATURES
    )
    strength: float = _knob(
        0.5,
        "what the logarithms are multiplied by; 1 takes the fields for independent of the image",
        low=0,
        high=2,
    )

    @property
    def hide(self) -> float:
        """Training hides all metadata: the image network is not to lean on them."""
        return 1.0


Head = Linear | Dense | LogisticProbe | NeighboursProbe


Fusion = NoFusion | Concatenation | Gating | NaiveBayes


@dataclass(frozen=True)
class Model:
    """The network."""

    name: str = _knob("mobilenetv4_conv_small", "a name of `lesionlab models`, or any of timm's")
    pretrained: bool | str = _knob(
        False,
        "true: published weights, from an installed package (lesionlab[weights]), timm's cache or "
        "its hub, whichever has them first; a path: a local .safetensors or .pth file",
    )
    head: Linear | Dense | LogisticProbe | NeighboursProbe = _knob(
        Linear, "what turns features into logits"
    )
    fusion: NoFusion | Concatenation | Gating | NaiveBayes = _knob(
        NoFusion, "age, sex and site as features"
    )
    drop: float = _knob(0.2, "dropout before the head", low=0, high=0.95)
    normalisation: Literal["weights", "training"] = _knob(
        "weights",
        "mean and deviation of each colour channel: those that the weights or the architecture "
        "were made with, or those of the training part's pixels",
    )


@dataclass(frozen=True)
class Augment:
    """Random views of the training images; validation and test images are never changed.

    `augment: NAME` or `augment: {preset: NAME, ...}` starts from one of `presets.PRESETS`.
    """

    flip: Literal["none", "horizontal", "vertical", "both"] = _knob(
        "both", "mirror left-right, top-bottom or both, each with probability 1/2"
    )
    rotate: float = _knob(180.0, "largest rotation, degrees either way", low=0, high=180)
    scale: float = _knob(1.25, "largest zoom factor", low=1, high=4)
    zoom: Literal["both", "in"] = _knob(
        "both", "both: in and out by up to that factor; in: as random central crops do"
    )
    shift: float = _knob(0.1, "largest shift, share of a side", low=0, high=0.5)
    shear: float = _knob(0.0, "largest shear, tangent of the angle", low=0, high=1)
    perspective: float = _knob(
        0.0, "largest perspective tilt (change of viewpoint), share of a side", low=0, high=0.4
    )
    fill: Literal["reflect", "nearest", "black"] = _knob(
        "reflect", "what lies beyond the border of a moved image"
    )
    colour: float = _knob(
        0.2, "largest change of brightness, contrast, saturation", low=0, high=0.9
    )
    hue: float = _knob(0.03, "largest turn of the hue, share of the circle", low=0, high=0.5)
    illumination: float = _knob(
        0.0, "largest change of the light's colour: a gain per channel", low=0, high=0.9
    )
    cutout: float = _knob(
        0.0, "side of the erased square, share of the shorter side", low=0, high=0.9
    )
    own: tuple[str, ...] = _knob((), "augmentations of your own by their names, after all of these")
    mixup: float = _knob(0.0, "alpha of mixup's Beta distribution; 0 = off", low=0, high=8)
    cutmix: float = _knob(0.0, "alpha of cutmix's Beta distribution; 0 = off", low=0, high=8)
    worst_of: int = _knob(
        1,
        "of k random movements of an image, learn from the one with the highest loss; 1 = off; "
        "a step takes about 1 + k/4 times as long (Engstrom et al., ICML 2019)",
        low=1,
        high=32,
    )

    @property
    def moves(self) -> bool:
        """Whether views are moved at all, be their colours changed or not."""
        return (
            self.flip != "none"
            or self.scale > 1
            or any((self.rotate, self.shift, self.shear, self.perspective))
        )


@dataclass(frozen=True)
class Natural:
    """Every training image once per epoch."""

    kind: Literal["natural"] = "natural"


@dataclass(frozen=True)
class Balanced:
    """Classes drawn evenly, with repetition: an epoch has as many draws as training images."""

    kind: Literal["balanced"] = "balanced"


@dataclass(frozen=True)
class SquareRoot:
    """Classes drawn by the square root of their frequency: between natural and balanced."""

    kind: Literal["sqrt"] = "sqrt"


@dataclass(frozen=True)
class Oversampled:
    """Images of chosen classes several times per epoch, each time as another random view."""

    kind: Literal["oversampled"] = "oversampled"
    times: dict[str, int] = _knob(
        dict, "how often an epoch shows each image of a class, such as {df: 5}", low=1, high=1000
    )


@dataclass(frozen=True)
class Capped:
    """At most so many training images of each class, the same ones in every epoch."""

    kind: Literal["capped"] = "capped"
    images: int = _knob(50, "images per class", low=1)


@dataclass(frozen=True)
class Smote:
    """Synthetic embeddings of rare classes (Chawla et al., 2002); for probes only, experimental."""

    kind: Literal["smote"] = "smote"
    neighbours: int = _knob(5, "neighbours between which points are drawn", low=1)


@dataclass(frozen=True)
class SmoteTomek:
    """SMOTE, then Tomek links removed; for probes only, experimental."""

    kind: Literal["smote_tomek"] = "smote_tomek"
    neighbours: int = _knob(5, "neighbours between which points are drawn", low=1)


@dataclass(frozen=True)
class SmoteEnn:
    """SMOTE, then edited nearest neighbours; for probes only, experimental."""

    kind: Literal["smote_enn"] = "smote_enn"
    neighbours: int = _knob(5, "neighbours between which points are drawn", low=1)


Sampling = Natural | Balanced | SquareRoot | Oversampled | Capped | Smote | SmoteTomek | SmoteEnn


Weights = Literal["none", "inverse", "sqrt", "effective", "median"]


_WEIGHTS = (
    "class weights from the training part: inverse frequency, its square root, effective number "
    "(Cui et al., CVPR 2019) or median frequency; mean 1"
)


_BETA = "effective number's beta: nearer 1 is nearer inverse frequency"


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, plain or weighted by class."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    weights: Weights = _knob("none", _WEIGHTS)
    beta: float = _knob(0.999, _BETA, low=0, high=0.999999)
    smoothing: float = _knob(0.0, "label smoothing", low=0, high=0.5)


@dataclass(frozen=True)
class Focal:
    """Focal loss for several classes (Lin et al., ICCV 2017); gamma 0 is cross-entropy."""

    kind: Literal["focal"] = "focal"
    gamma: float = _knob(2.0, "how far easy images are discounted", low=0, high=10)
    weights: Weights = _knob("none", _WEIGHTS)
    beta: float = _knob(0.999, _BETA, low=0, high=0.999999)
    smoothing: float = _knob(0.0, "label smoothing", low=0, high=0.5)


@dataclass(frozen=True)
class Ldam:
    """Label-distribution-aware margins: wider for rarer classes (Cao et al., NeurIPS 2019)."""

    kind: Literal["ldam"] = "ldam"
    margin: float = _knob(0.5, "margin of the rarest class", low=0, high=10)
    scale: float = _knob(1.0, "what logits are multiplied by after the margin", above=0, high=100)
    weights: Weights = _knob("none", _WEIGHTS)
    beta: float = _knob(0.999, _BETA, low=0, high=0.999999)


@dataclass(frozen=True)
class LogitAdjusted:
    """Cross-entropy on logits shifted by tau x log class frequency (Menon et al., ICLR 2021)."""

    kind: Literal["logit_adjusted"] = "logit_adjusted"
    tau: float = _knob(1.0, "strength; 1 aims at balanced accuracy", low=0, high=4)
    smoothing: float = _knob(0.0, "label smoothing", low=0, high=0.5)


@dataclass(frozen=True)
class OwnLoss:
    """A loss of your own, see `lesionlab.plugins.register_loss`."""

    kind: Literal["own"] = "own"
    name: str = _knob("", "the name that it was registered under")


Loss = CrossEntropy | Focal | Ldam | LogitAdjusted | OwnLoss


_LAYER_DECAY = "learning rate of each group of layers, as a share of that of the group above it"


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: float = _knob(1e-3, "learning rate", above=0, high=10)
    weight_decay: float = _knob(
        0.05, "decay of weights; biases and norms are spared", low=0, high=1
    )
    amsgrad: bool = _knob(False, "keep the largest second moment (Reddi et al., ICLR 2018)")
    layer_decay: float = _knob(1.0, _LAYER_DECAY, above=0, high=1)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, ICLR 2015)."""

    kind: Literal["adam"] = "adam"
    lr: float = _knob(1e-3, "learning rate", above=0, high=10)
    amsgrad: bool = _knob(False, "keep the largest second moment (Reddi et al., ICLR 2018)")
    layer_decay: float = _knob(1.0, _LAYER_DECAY, above=0, high=1)


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = _knob(0.05, "learning rate", above=0, high=100)
    momentum: float = _knob(0.9, "momentum", low=0, high=0.999)
    nesterov: bool = _knob(True, "Nesterov's momentum")
    weight_decay: float = _knob(5e-4, "L2 penalty; biases and norms are spared", low=0, high=1)
    layer_decay: float = _knob(1.0, _LAYER_DECAY, above=0, high=1)


@dataclass(frozen=True)
class Constant:
    """One learning rate after the warm-up."""

    kind: Literal["constant"] = "constant"
    warmup: float = _knob(0.0, "share of the phase spent warming up", low=0, high=0.5)


@dataclass(frozen=True)
class Cosine:
    """Warm-up, then half a cosine down to `floor` times the learning rate."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = _knob(0.05, "share of the phase spent warming up", low=0, high=0.5)
    floor: float = _knob(0.0, "last learning rate, as a share of the first", low=0, high=1)


@dataclass(frozen=True)
class Plateau:
    """Warm-up, then multiply by `factor` when a figure of val stops getting better."""

    kind: Literal["plateau"] = "plateau"
    warmup: float = _knob(0.0, "share of the phase spent warming up", low=0, high=0.5)
    factor: float = _knob(0.5, "what the learning rate is multiplied by", above=0, high=0.99)
    patience: int = _knob(3, "epochs without a better value before that", low=1)
    cooldown: int = _knob(
        0, "epochs of rest after that; as in Keras, the last of them counts towards patience", low=0
    )
    floor: float = _knob(0.001, "smallest learning rate, as a share of the first", low=0, high=1)
    metric: Literal["selection", "accuracy", "loss"] = _knob(
        "selection", "which figure of the whole val part: selection's own, accuracy, or loss"
    )


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own depth, optimiser and schedule."""

    depth: str = _knob(
        "all",
        "what learns: all, head, or the name of the first layer group that learns "
        "(`lesionlab models NAME` lists them); the rest is frozen, batch norm included",
    )
    norms: Literal["with_group", "all"] = _knob(
        "with_group", "batch norms of frozen groups: frozen with them, or all learn"
    )
    epochs: int = _knob(30, "how often the training part is gone through", low=1, high=10_000)
    optim: AdamW | Adam | Sgd = _knob(AdamW, "the optimiser")
    schedule: Cosine | Plateau | Constant = _knob(Cosine, "the learning rate over time")
    clip: float = _knob(0.0, "largest norm of the gradient; 0 = any", low=0)


@dataclass(frozen=True)
class NoAverage:
    """The weights as they are after each step."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of the weights; it is what gets validated and kept."""

    kind: Literal["ema"] = "ema"
    decay: float = _knob(
        0.998,
        "decay per step, reached gradually: min(decay, (1 + t) / (10 + t))",
        low=0,
        high=0.99999,
    )


@dataclass(frozen=True)
class Swa:
    """Stochastic weight averaging (Izmailov et al., UAI 2018): the mean over the last epochs."""

    kind: Literal["swa"] = "swa"
    start: float = _knob(0.75, "share of the phase before the mean begins", low=0, high=0.99)


@dataclass(frozen=True)
class Select:
    """Which epoch is kept, and when to stop early."""

    metric: Literal["balanced_accuracy", "macro_auroc"] = _knob(
        "balanced_accuracy",
        "measured on the validation part after every epoch",
    )
    patience: int = _knob(0, "stop after so many epochs without a better value; 0 = never", low=0)
    keep: Literal["best", "last"] = _knob(
        "best", "which epoch is kept; with the last, val stays unseen for whatever is fitted later"
    )


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Example:
        >>> Recipe().but({"model.name": "resnet18", "phases.0.epochs": 5}).model.name
        'resnet18'
    """

    images: Images = _knob(Images, "decoding and size")
    model: Model = _knob(Model, "the network")
    augment: Augment = _knob(Augment, "random views of training images")
    sampling: (
        Natural | Balanced | SquareRoot | Oversampled | Capped | Smote | SmoteTomek | SmoteEnn
    ) = _knob(Natural, "which images an epoch shows")
    loss: CrossEntropy | Focal | Ldam | LogitAdjusted | OwnLoss = _knob(
        CrossEntropy, "what is minimised"
    )
    phases: tuple[Phase, ...] = _knob(
        lambda: (Phase(),), "stretches of training, one after another"
    )
    average: NoAverage | Ema | Swa = _knob(Ema, "averaging of the weights")
    select: Select = _knob(Select, "which epoch is kept")
    batch: int = _knob(64, "images per step", low=2, high=65_536)
    precision: Literal["auto", "float32", "bf16"] = _knob(
        "auto", "auto: bf16 where the card has it, or where a long run is faster with it; run.json"
    )
    seed: int = _knob(0, "seed of every random draw", low=0, high=2**31 - 1)

    @property
    def probing(self) -> bool:
        """Whether the head is fitted on embeddings, in place of phases."""
        return isinstance(self.model.head, LogisticProbe | NeighboursProbe)

    @classmethod
    def load(cls, path: Recipe | str | Path) -> Recipe:
        """Read a recipe from a YAML file; what the file leaves out keeps its default.

        A recipe is returned as it is, so that what takes a recipe takes its file as well.

        Raises:
            SettingsError: naming every mistyped key and wrong value at once.
        """
        return path if isinstance(path, Recipe) else cls.load_with(path, {})

    @classmethod
    def load_with(cls, path: str | Path, changes: Mapping[str, Any]) -> Recipe:
        """Read a recipe from a YAML file and change some settings, as `but` does.

        Raises:
            SettingsError: naming every fault of the file and of the changes at once.
        """
        faults: list[str] = []
        values = _resolved(validation.read_yaml(Path(path)), faults)
        return cls._changed(values, changes, str(path), faults)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
        """Build a recipe from nested plain values.

        Raises:
            SettingsError: naming every mistyped key and wrong value at once.
        """
        faults: list[str] = []
        return cls._changed(_resolved(values, faults), {}, origin, faults)

    @classmethod
    def _changed(
        cls, values: dict[str, Any], changes: Mapping[str, Any], origin: str, faults: list[str]
    ) -> Recipe:
        changes = dict(changes)
        for key in ("augment", "augment.preset"):
            if isinstance(changes.get(key), str | dict):
                values["augment"] = _from_preset(changes.pop(key), faults)
        # a kind before its knobs: it would drop one that is set to the old kind's default
        ordered = sorted(changes.items(), key=lambda each: each[0].removesuffix(".kind").count("."))
        faults += [
            fault for key, value in ordered if (fault := validation.put(cls, values, key, value))
        ]
        recipe = validation.build(cls, values, "", faults)
        if not faults:
            faults += _contradictions(recipe)
        if not faults and "model.name" in changes:
            faults += validation.unknown_network(recipe.model.name)
        if faults:
            listed = "\n".join(f"  {fault}" for fault in faults)
            raise SettingsError(
                f"{origin} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}\n"
                "`lesionlab train --help` lists every setting with its range.",
                faults,
            )
        return typing.cast("Recipe", recipe)

    def to_dict(self) -> dict[str, Any]:
        """All settings as nested plain values, defaults included."""
        return typing.cast("dict[str, Any]", validation.plain(self))

    def save(self, path: str | Path) -> None:
        """Write all settings to a YAML file, defaults included."""
        write_text(Path(path), self.to_yaml())

    def to_yaml(self) -> str:
        """All settings as YAML, defaults included."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=100)

    def but(self, changes: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
        """Return a copy with some settings changed.

        Args:
            changes: values by dotted key: {"model.name": "resnet18", "phases.0.epochs": 5}, in
                any order. A new `kind` starts from that kind's defaults and keeps, of the knobs
                that both kinds have, those that differ from the old kind's default.
            origin: what to call the result in messages.

        Raises:
            SettingsError: naming every mistyped key and wrong value at once.
        """
        return self._changed(self.to_dict(), changes, origin, [])

    def fingerprint(self) -> str:
        """16 hexadecimal digits; equal for recipes that mean the same, however written."""
        return fingerprint(
            {"schema": SCHEMA, "recipe": validation.without_defaults(self, type(self)())}
        )

    def differences(self, other: Recipe) -> list[str]:
        """What differs from `other`, one line per setting: "model.name: resnet18 -> resnet50"."""
        mine, theirs = (
            dict(validation.leaves(self.to_dict())),
            dict(validation.leaves(other.to_dict())),
        )
        keys = [*mine, *(key for key in theirs if key not in mine)]
        return [
            f"{key}: {mine.get(key, '(absent)')} -> {theirs.get(key, '(absent)')}"
            for key in keys
            if mine.get(key) != theirs.get(key)
        ]


def _resolved(given: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Nested values with the defaults of what they leave out, presets of augmentation expanded."""
    given = dict(given)
    if isinstance(given.get("augment"), str | dict):
        given["augment"] = _from_preset(given["augment"], faults)
    return validation.merged(Recipe().to_dict(), given)


def _from_preset(given: str | Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Augmentation's values from a preset's name, alone or as `preset` among other knobs."""
    rest = {"preset": given} if isinstance(given, str) else dict(given)
    name = rest.pop("preset", "default")
    if not isinstance(name, str) or name not in PRESETS:
        faults.append(f"augment.preset: {name!r} is not one of {', '.join(PRESETS)}")
        name = "default"
    return {**validation.plain(Augment()), **PRESETS[name], **rest}


def _contradictions(recipe: Recipe) -> list[str]:
    """What is wrong between the parts of a recipe, each part being right by itself."""
    faults = []
    if not recipe.phases:
        faults.append("phases: needs at least one phase")
    if isinstance(recipe.sampling, Smote | SmoteTomek | SmoteEnn) and not recipe.probing:
        faults.append(
            f"sampling.kind: {recipe.sampling.kind} makes points between embeddings, which are no "
            "images: it needs a head that learns from embeddings, logistic_probe or "
            "neighbours_probe. For images take balanced, sqrt or oversampled"
        )
    if isinstance(recipe.sampling, Oversampled) and not recipe.sampling.times:
        faults.append(
            "sampling.times: oversampled needs the classes that are shown more often, such as "
            "{df: 10, vasc: 10}; without any, kind natural"
        )
    if isinstance(recipe.sampling, Balanced | SquareRoot | Oversampled) and recipe.probing:
        faults.append(
            f"sampling.kind: {recipe.sampling.kind} repeats images, which adds nothing to "
            "a probe: set model.head.balanced instead"
        )
    if not isinstance(recipe.model.fusion, NoFusion) and recipe.probing:
        faults.append("model.fusion: a probe learns from image embeddings alone")
    given = () if isinstance(recipe.model.fusion, NoFusion) else recipe.model.fusion.fields
    if not isinstance(recipe.model.fusion, NoFusion) and not given:
        faults.append("model.fusion.fields: needs one of age, sex, site; without any, kind none")
    if len(set(given)) < len(given):
        faults.append(f"model.fusion.fields: {', '.join(given)} names a field twice")
    learnt = given and not isinstance(recipe.model.fusion, NaiveBayes)
    if learnt and (recipe.augment.mixup > 0 or recipe.augment.cutmix > 0):
        faults.append(
            "model.fusion.kind: mixup and cutmix make one image of two patients, of whom nobody "
            "knows one age. Set augment.mixup and augment.cutmix to 0, or the kind to none"
        )
    if recipe.augment.mixup > 0 and recipe.augment.cutmix > 0:
        faults.append("augment.cutmix: mixup and cutmix cannot both be on")
    if recipe.augment.worst_of > 1 and not recipe.augment.moves:
        faults.append(
            "augment.worst_of: chooses among movements of an image, and nothing moves it. Set "
            "flip, rotate, scale, shift, shear or perspective, or augment.worst_of to 1"
        )
    return faults
