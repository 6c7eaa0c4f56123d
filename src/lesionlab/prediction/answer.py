"""Answer: what a model says about one image, with what that is worth, shown in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from lesionlab.disclaimer import NOTICE
from lesionlab.display import Result, html_image, html_table, percent
from lesionlab.errors import SettingsError
from lesionlab.prediction.bundle import Bundle
from lesionlab.prediction.predictor import NOT_REFERRED, Answers, reason_text
from lesionlab.taxonomy import full_name

WITHOUT_RULE = (
    "This run has no rule of referral and its probabilities are not calibrated: "
    "`lesionlab export` makes a bundle of it, which has both."
)
_OVERLAY = 0.5  # how much of a picture is the map's colour, the rest being the image


@dataclass(frozen=True, eq=False, repr=False)
class Answer(Result):
    """What a model says about one image.

    Attributes:
        name: of the image.
        model: name, version and fingerprint of the bundle, or the run's folder.
        classes: a row per class, the likeliest first: index class, columns name, probability (0-1),
            in_set (of the conformal set) and malignant (None: nobody said). A run has neither
            conformal sets nor a rule of what is malignant: both are None there.
        refer: whether the image should go to a person; None: a run has no rule of referral.
        reason: why, a key of `predictor.REASONS`; "" where nothing malignant is suspected.
        text: the reason in words.
        malignancy: probability of all malignant classes together; nan where there is none.
        promise: what the rule of referral promises, and to whom.
        quality: of the likeliest class, how often the model finds it and is right, in its test.
        warnings: what a reader must know.
        pixels: the image as the model sees it, uint8, shape (height, width, 3).
        maps: Grad-CAM of every class in the model's order, shape (k, rows, columns), all >= 0;
            None where the model gives none.
    """

    name: str
    model: str
    classes: pd.DataFrame
    refer: bool | None
    reason: str
    text: str
    malignancy: float
    promise: str
    quality: str
    warnings: tuple[str, ...]
    pixels: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]] | None

    @property
    def predicted(self) -> str:
        """The likeliest class."""
        return str(self.classes.index[0])

    @property
    def probability(self) -> float:
        """The probability of the likeliest class, 0-1."""
        return float(self.classes["probability"].iloc[0])

    def map(self, label: str | None = None) -> Image.Image:
        """The image under its class activation map (Grad-CAM), warm where it speaks for the class.

        Args:
            label: of the class; None: the likeliest.

        Raises:
            SettingsError: if the model gives no maps, or there is no such class.
        """
        label = label or self.predicted
        if self.maps is None:
            raise SettingsError(f"{self.model} gives no maps. For a run: lesionlab.explain.")
        if label not in self.maps:
            raise SettingsError(f"There is no class {label!r}. Choose of {', '.join(self.maps)}.")
        grid = self.maps[label]
        most = float(grid.max())
        shares = grid / most if most > 0 else np.zeros_like(grid)
        height, width = self.pixels.shape[:2]
        spread = np.asarray(
            Image.fromarray(shares.astype(np.float32)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        import matplotlib  # here: it takes a tenth of a second, and few answers are drawn

        warm = matplotlib.colormaps["turbo"](np.clip(spread, 0, 1), bytes=True)[..., :3]
        mixed = (1 - _OVERLAY) * self.pixels + _OVERLAY * warm
        return Image.fromarray(mixed.round().astype(np.uint8))

    def shown(self) -> Sequence[tuple[str, pd.DataFrame]]:
        """The classes, as `Result.shown` says."""
        columns = ["name", "probability", *(["in_set"] if self.refer is not None else [])]
        table = self.classes[columns].reset_index()
        table["probability"] = table["probability"].map(percent)
        return [(f"{self.name}: {self._verdict}", table.rename(columns={"in_set": "in set"}))]

    @property
    def _verdict(self) -> str:
        refer = {True: "refer", False: "not referred", None: "no rule of referral"}[self.refer]
        return f"{self.classes['name'].iloc[0]} {percent(self.probability)}, {refer}"

    @property
    def _lines(self) -> list[str]:
        malignancy = ""
        if not math.isnan(self.malignancy):
            malignancy = f"All malignant classes together: {percent(self.malignancy)}."
        lines = [self.text, malignancy, self.quality, self.promise, f"Model: {self.model}", NOTICE]
        return [line for line in lines if line]

    def __repr__(self) -> str:
        return f"<Answer about {self.name}: {self._verdict}>"

    def __str__(self) -> str:
        return "\n".join([super().__str__(), "", *self._lines])

    def _repr_html_(self) -> str:
        title, table = self.shown()[0]
        pictures = html_image(self.pixels, f"{self.name} as the model sees it")
        if self.maps is not None:
            seen = f"where {self.name} speaks for {self.classes['name'].iloc[0]} (Grad-CAM)"
            pictures += " " + html_image(np.asarray(self.map()), seen)
        lines = "".join(f"<p>{escape(line)}</p>" for line in (*self.warnings, *self._lines))
        return f'<div class="lesionlab">{pictures}{html_table(table, title)}{lines}</div>'


def answer_of_bundle(
    bundle: Bundle, answers: Answers, name: str, pixels: NDArray[np.uint8]
) -> Answer:
    """The answer about the only image of `answers`.

    Args:
        bundle: that answered.
        answers: of one image.
        name: of the image.
        pixels: as the network got it.
    """
    rule, reason = bundle.referral, answers.reasons[0]
    quality = bundle.quality.get(answers.predicted[0])
    rows = {
        "name": [bundle.full_names[label] for label in bundle.classes],
        "probability": answers.probabilities[0],
        "in_set": answers.sets[0],
        "malignant": [rule.is_malignant(label) for label in bundle.classes],
    }
    maps = None
    if answers.maps is not None:
        maps = dict(zip(bundle.classes, answers.maps[0], strict=True))
    return Answer(
        name=name,
        model=f"{bundle.name} {bundle.version}, {bundle.precision}, {bundle.fingerprint}",
        classes=_ranked(bundle.classes, rows),
        refer=reason not in NOT_REFERRED,
        reason=reason,
        text=reason_text(reason, rule),
        malignancy=float(answers.malignancy[0]),
        promise=rule.promise,
        quality=quality.text if quality else "",
        warnings=(),
        pixels=pixels,
        maps=maps,
    )


def answer_of_run(
    model: str, classes: Sequence[str], row: pd.Series, pixels: NDArray[np.uint8]
) -> Answer:
    """The answer about an image that a run has predicted.

    Args:
        model: the run's folder.
        classes: of the run.
        row: image_id and p_<class>... of the image.
        pixels: as the network got it.
    """
    rows = {
        "name": [full_name(label) for label in classes],
        "probability": [float(row[f"p_{label}"]) for label in classes],
        "in_set": None,
        "malignant": None,
    }
    return Answer(
        name=str(row["image_id"]),
        model=model,
        classes=_ranked(classes, rows),
        refer=None,
        reason="",
        text="",
        malignancy=math.nan,
        promise="",
        quality="",
        warnings=(WITHOUT_RULE,),
        pixels=pixels,
        maps=None,
    )


def _ranked(classes: Sequence[str], rows: dict[str, object]) -> pd.DataFrame:
    table = pd.DataFrame(rows, index=pd.Index(classes, name="class"))
    return table.sort_values("probability", ascending=False, kind="stable")
