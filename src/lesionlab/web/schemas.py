"""The shape of what is sent, for OpenAPI and for programs that read it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


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


class ClassAnswer(_Closed):
    """One class of an image."""

    label: str = Field(examples=["mel"])
    name: str = Field(examples=["Melanoma"])
    probability: float = Field(ge=0, le=1, description="Calibrated; all classes add up to 1.")
    in_set: bool = Field(description="Whether it is in the conformal set.")


class Novelty(_Closed):
    """How unlike the training images an image is."""

    score: float
    threshold: float = Field(description="Above it the image is referred as 'unlike'.")
    unlike: bool


class Threshold(_Closed):
    """An operating point of one class."""

    name: str = Field(examples=["at_90_sensitivity/mel"])
    label: str = Field(examples=["mel"])
    threshold: float
    reached: bool = Field(description="Whether the class's probability is at least that.")


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
    reason: str = Field(description='Why: "unlike", "unsure", "unreadable", or "".')
    reason_text: str
    novelty: Novelty | None
    thresholds: list[Threshold]
    maps: list[Map]


class Prediction(_Closed):
    """Answers about the images of a question, in their order."""

    model: ModelName
    notice: str
    coverage: float = Field(description="How often a set holds the true class, as promised.")
    results: list[Result]


class ClassName(_Closed):
    """A class and its full name."""

    label: str = Field(examples=["mel"])
    name: str = Field(examples=["Melanoma"])


class Input(_Closed):
    """What an image is resized to."""

    height: int
    width: int
    fit: str = Field(examples=["stretch"])


class Model(ModelName):
    """What the model is and takes."""

    classes: list[ClassName]
    fields: list[str] = Field(description="Which of age, sex and site it makes use of.")
    sites: list[str]
    sexes: list[str]
    input: Input
    coverage: float
    thresholds: dict[str, float]
    maps: bool = Field(description="Whether it can say where an image speaks for a class.")
    licence: str
    notice: str
    card: dict[str, Any] | None


class Health(_Closed):
    """Whether the server runs, or takes questions."""

    status: str = Field(examples=["ok"])
