"""How every page is made of its template: escaped, and nothing in it without a value."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template


def template(name: str, *rooms: str) -> Template:
    """A page's template, ready to be rendered.

    Args:
        name: its file.
        rooms: where it and what it includes lie; the first that has a file lends it.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader("lesionlab", room) for room in rooms]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)
