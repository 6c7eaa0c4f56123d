"""What a form asks: about whom, and with which maps."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, cast

from lesionlab.web.engine import Person
from lesionlab.web.form import Form
from lesionlab.web.refusals import Refusal

if TYPE_CHECKING:
    from lesionlab.prediction.bundle import Bundle

Maps = Literal["none", "predicted", "all"]
MAPS: tuple[Maps, ...] = ("none", "predicted", "all")
OLDEST = 120  # years
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?")


def question(form: Form, bundle: Bundle) -> tuple[Person, Maps]:
    """Whom and which maps a form asks about.

    Raises:
        Refusal: 400 with every fault.
    """
    faults = [_unknown(name) for name in form.fields if name not in ("age", "sex", "site", "maps")]
    if not form.images:
        faults.append("It holds no image: send at least one file as 'images'.")
    for name in ("age", "sex", "site"):
        if name in form.fields and name not in bundle.fields:
            faults.append(f"This model makes no use of {name}: leave it out.")
    age, told = math.nan, form.fields.get("age", "")
    if "age" in form.fields and "age" in bundle.fields:
        age = float(told) if _NUMBER.fullmatch(told) else math.inf
        if not 0 <= age <= OLDEST:
            faults.append(f"age is a number of years from 0 to {OLDEST}; unknown: leave it out.")
    sex, site = (form.fields.get(name, "") for name in ("sex", "site"))
    for name, value, known in (("sex", sex, bundle.sexes), ("site", site, bundle.sites)):
        if value and name in bundle.fields and value not in known:
            faults.append(f"{name} is one of: {', '.join(known)}.")
    maps = form.fields.get("maps", "none")
    if maps not in MAPS:
        faults.append(f"maps is one of: {', '.join(MAPS)}.")
    elif maps != "none" and bundle.map_grid is None:
        faults.append("This model gives no maps: leave maps out.")
    if faults:
        raise Refusal(400, "bad_form", " ".join(faults))
    return Person(age, sex, site), cast(Maps, maps)


def _unknown(name: str) -> str:
    close = get_close_matches(name, ("images", "age", "sex", "site", "maps"), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"There is no field {name[:40]!r}.{hint}"
