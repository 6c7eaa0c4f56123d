"""Write docs/data-sets.md from what is written down of the known collections.

python tools/data_sets.py
"""

from __future__ import annotations

from pathlib import Path

from lesionlab.data.collections.registry import SOURCES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data-sets.md"


def page() -> str:
    """The page: a table of all collections, and a section for each."""
    lines = [
        "# Collections",
        "",
        "Each is read by `lesionlab catalogue FOLDER` alone, as its download unpacks; for a",
        "table of your own see [columns of a catalogue](data-dictionary.md). `lesionlab fetch`",
        "downloads what can be had without an account, and says where to ask for the others.",
        "Checksums are those that the publishers print. A `-` below is a size that is not printed.",
        "Addresses, columns and licences of those without checksums are from their papers, their",
        "authors' own code and public code that reads them; what these do not settle stands under",
        "`Not confirmed`.",
        "",
        "| collection | what it is | `fetch` | size, about | licence | skin tones | labelled |",
        "|---|---|---|---|---|---|---|",
    ]
    for source in SOURCES.values():
        size = sum(file.about_bytes or 0 for file in source.files if not file.optional)
        shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size else "-"
        lines.append(
            f"| [`{source.key}`](#{source.key}) | {source.title} | {'no' if source.ask else 'yes'} "
            f"| {shown} | [{source.licence.key}]({source.licence.url}) | {source.skin_tones} "
            f"| {source.labelled} |"
        )
    for source in SOURCES.values():
        lines += ["", f"## {source.title} {{#{source.key}}}", ""]
        if source.ask:
            lines += [f"Where from: {source.ask}."]
        else:
            lines += ["```sh", f"lesionlab fetch {source.key} --to data/{source.key}", "```"]
        lines += ["", source.notes, ""] if source.notes else [""]
        lines += [f"- Published: <{source.homepage}>"]
        lines += [f"- Licence: {source.licence.name}. {source.licence.summary}"]
        lines += [f"- Credit: {source.attribution}"]
        lines += [f"- Cite: {each}" for each in source.citation.split("\n")]
        lines += [f"- Skin tones: {source.skin_tones}", f"- Labelled: {source.labelled}"]
        if source.unconfirmed:
            lines += [f"- Not confirmed: {source.unconfirmed}"]
        if optional := [f"`{file.name}`" for file in source.files if file.optional]:
            lines += [f"- Only where named: {', '.join(optional)}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
