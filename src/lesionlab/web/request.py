"""What a form asks: about whom, and with which maps."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, cast

from lesionlab.data.sources.patient_metadata import read_age, read_person
from lesionlab.prediction.predictor import faults_of
from lesionlab.recipe.schema import FEATURES
from lesionlab.web.batching_engine import Person
from lesionlab.web.messages import Refusal
from lesionlab.web.request_body import FIELDS, IMAGES, Form

if TYPE_CHECKING:
    from lesionlab.prediction.bundle import Bundle

Maps = Literal["none", "predicted", "all"]
MAPS: tuple[Maps, ...] = ("none", "predicted", "all")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?")


def question(form: Form, bundle: Bundle) -> tuple[Person, Maps]:
    """Whom and which maps a form asks about.

    Raises:
        Refusal: 400 with every fault.
    """
    faults = [_unknown(name) for name in form.fields if name not in FIELDS]
    faults += form.faults
    if not form.images and not form.faults:
        faults.append("It holds no image: send at least one file as 'images'.")
    told: dict[str, Any] = {  # an empty field is what a form sends of an unknown value
        name: form.fields[name].strip() for name in FEATURES if form.fields.get(name, "").strip()
    }
    if "age" in told:
        plain = _NUMBER.fullmatch(told["age"])
        age = float(told["age"]) if plain else read_age(told["age"])
        told["age"] = math.inf if math.isnan(age) else age
    told = {name: value for name, value in read_person(told).items() if value != ""}
    faults += faults_of(bundle, told)
    maps = form.fields.get("maps", "none")
    if maps not in MAPS:
        faults.append(f"maps is one of: {', '.join(MAPS)}.")
    elif maps != "none" and bundle.map_grid is None:
        faults.append("This model gives no maps: leave maps out.")
    if faults:
        raise Refusal(400, "bad_form", " ".join(faults))
    return Person(**told), cast(Maps, maps)


def _unknown(name: str) -> str:
    close = get_close_matches(name, (IMAGES, *FIELDS), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"There is no field {name[:40]!r}.{hint}"
