"""The shape of what is sent, for OpenAPI and for programs that read it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Reason = Literal[
    "unreadable", "unlike", "malignancy_likely", "malignancy_possible", "benign_undecided", ""
]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorBody(_Closed):
    """Why a request was refused."""

    kind: str = Field(description="A word for programs.", examples=["busy"])
    message: str = Field(description="What to do.", examples=["Ask again in 2 seconds."])


class Error(_Closed):
    """A request that was refused."""

    error: ErrorBody


class ModelName(_Closed):
    """Which model answered."""

    name: str = Field(examples=["mobilenetv4"])
    version: str = Field(examples=["1.0"])
    fingerprint: str = Field(description="16 hexadecimal digits over all of the bundle.")
    precision: str = Field(examples=["int8"])


class Interval(_Closed):
    """A share with its 95 % interval; null where it is not defined."""

    value: float | None = Field(ge=0, le=1)
    low: float | None
    high: float | None


class Quality(_Closed):
    """What an answer of one class is worth, from the model's test."""

    label: str = Field(examples=["mel"])
    name: str = Field(examples=["Melanoma"])
    recall: Interval = Field(description="Of its images, the share that the model calls it.")
    precision: Interval = Field(description="Of those that it calls so, the share that are.")
    share: float = Field(description="How common it was in that test; precision goes with it.")
    text: str


class RiskLimit(_Closed):
    """A threshold of referral and what it promises."""

    name: str = Field(examples=["malignancy"])
    classes: list[str] = Field(description="Whose probabilities add up.")
    threshold: float = Field(description="From it on an image is referred; 0 refers all.")
    miss: float = Field(description="Share of such lesions that go unreferred at most.")
    lesions: int = Field(description="Of these classes, that it was fitted on.")


class ShareMissed(_Closed):
    """Lesions that were left unreferred."""

    lesions: int
    missed: float | None
    low: float | None
    high: float | None


class ShareReferred(_Closed):
    """Lesions that were referred."""

    lesions: int
    referred: float | None
    low: float | None
    high: float | None


class MeasuredReferral(_Closed):
    """What the rule of referral did on the predictions of the model's card."""

    text: str
    malignant: ShareMissed
    melanoma: ShareMissed | None
    benign: ShareReferred


class Referral(_Closed):
    """The rule by which images are referred lest something malignant be missed."""

    promise: str = Field(description="What is promised and to whom, or why nothing is.")
    refers_all: bool
    malignant: list[str] = Field(description="The classes that are malignant.")
    limits: list[RiskLimit] = Field(description="Empty where no risk is stated.")
    points: dict[str, float] = Field(
        description="By malignant class, the probability from which it is referred for itself "
        "alone: the lowest of its operating points, its way into the conformal set, and the "
        "limits of the promise."
    )
    measured: MeasuredReferral | None


class LimitReached(_Closed):
    """A limit of referral and an image."""

    name: str
    probability: float
    threshold: float
    reached: bool


class Malignancy(_Closed):
    """How likely an image shows something malignant."""

    probability: float = Field(ge=0, le=1, description="Of all malignant classes together.")
    limits: list[LimitReached]


class ClassAnswer(_Closed):
    """One class of an image."""

    label: str = Field(examples=["mel"])
    name: str = Field(examples=["Melanoma"])
    probability: float = Field(ge=0, le=1, description="Calibrated; all classes add up to 1.")
    in_set: bool = Field(description="Whether it is in the conformal set.")
    malignant: bool | None = Field(description="null: whether it is was not said.")


class Novelty(_Closed):
    """How unlike the training images an image is."""

    score: float
    threshold: float = Field(description="Above it the image is referred as 'unlike'.")
    unlike: bool


class Threshold(_Closed):
    """An operating point of one class."""

    name: str = Field(examples=["at_90_sensitivity/mel"])
    label: str = Field(examples=["mel"])
    class_name: str = Field(examples=["Melanoma"])
    sensitivity: float | None = Field(description="Share of part val's images that reached it.")
    threshold: float
    reached: bool = Field(description="Whether the class's probability is at least that.")
    text: str


class Map(_Closed):
    """Where the image speaks for a class."""

    label: str
    rows: int
    columns: int
    values: list[float] = Field(
        description="0-1, row by row from the upper left, divided by the map's own maximum."
    )
    blank: bool = Field(description="Nothing speaks for the class; all values are 0.")


class ImageError(_Closed):
    """Why an image cannot be read."""

    kind: str = Field(examples=["truncated"])
    message: str


class Case(_Closed):
    """A known image of another lesion."""

    image_id: str
    target: str = Field(description="Its diagnosis.", examples=["mel"])
    name: str = Field(examples=["Melanoma"])
    confirmed: str = Field(description="How; empty: unknown.", examples=["histo"])
    distance: float = Field(description="0: the same, 2: the opposite.")
    picture: str = Field(description="A small JPEG in base64.")


class Similar(_Closed):
    """The known cases nearest to an image, each of another lesion."""

    cases: list[Case] = Field(description="The nearest first.")
    nearest: str = Field(description="The commonest diagnosis of the 15 nearest lesions.")
    nearest_name: str
    share: float = Field(description="Of these lesions, that have it.")
    agree: bool = Field(description="Whether it is the model's likeliest class.")


class Result(_Closed):
    """What is answered about one image."""

    name: str = Field(description="The file's name as it was sent, without folders.")
    width: int | None = Field(description="In pixels, as it is seen upright.")
    height: int | None
    error: ImageError | None
    predicted: str | None = Field(description="The likeliest class.")
    classes: list[ClassAnswer] = Field(description="All of them, the likeliest first.")
    set: list[str] = Field(description="Conformal set: holds the true class as often as promised.")
    refer: bool = Field(description="Whether a person should decide instead.")
    reason: Reason = Field(
        description="What comes of it; of benign_undecided and an empty one the image is not "
        "referred."
    )
    reason_text: str
    malignancy: Malignancy | None
    quality: Quality | None = Field(description="What an answer of the likeliest class is worth.")
    novelty: Novelty | None
    thresholds: list[Threshold]
    maps: list[Map]
    similar: Similar | None = Field(description="null: the server has no index of cases.")


class Prediction(_Closed):
    """Answers about the images of a question, in their order."""

    model: ModelName
    notice: str
    coverage: float = Field(description="How often a set holds the true class, as promised.")
    referral: Referral
    results: list[Result]


class ClassName(_Closed):
    """A class, its full name, and what an answer of it is worth."""

    label: str = Field(examples=["mel"])
    name: str = Field(examples=["Melanoma"])
    malignant: bool | None
    quality: Quality | None


class Input(_Closed):
    """What an image is resized to."""

    height: int
    width: int
    fit: str = Field(examples=["stretch"])


class Difference(_Closed):
    """A figure or a difference with its 95 % interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class Paired(_Closed):
    """A figure with age, sex and site, without, and the paired difference."""

    known: Difference
    unknown: Difference
    difference: Difference


class MetadataWorth(_Closed):
    """What age, sex and site are worth to the model, on the predictions of its card."""

    fields: list[str] = Field(description="Which of the three it takes.")
    text: str
    images: int
    lesions: int
    balanced_accuracy: Paired
    macro_auroc: Paired


class DriftOfImages(_Closed):
    """How far the last images are from what the model was made for."""

    images: int = Field(description="That were compared.")
    distances: dict[str, float] = Field(
        description="Of novelty and of the likeliest class's probability, 0-1; empty below 100 "
        "images."
    )
    drifted: bool = Field(description="Whether one of them is beyond chance, and far.")


class Model(ModelName):
    """What the model is and takes."""

    classes: list[ClassName]
    fields: list[str] = Field(description="Which of age, sex and site it makes use of.")
    sites: list[str]
    sexes: list[str]
    input: Input
    coverage: float
    referral: Referral
    thresholds: dict[str, float]
    metadata_worth: MetadataWorth | None = Field(
        description="null: it takes none of them, or nobody measured it."
    )
    maps: bool = Field(description="Whether it can say where an image speaks for a class.")
    licence: str
    notice: str
    card: dict[str, Any] | None
    audit_days: int | None = Field(
        description="Days that answers stay in the audit log; null: none is kept."
    )
    drift: DriftOfImages | None = Field(description="null: it is not measured.")


class Health(_Closed):
    """Whether the server runs, or takes questions."""

    status: str = Field(examples=["ok"])
