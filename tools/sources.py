"""Write docs/sources.md from the headers of recipes/*.yaml: what was reported, what we measured.

    python tools/sources.py           write it
    python tools/sources.py --check   exit 1 if it is not up to date

A header is a block of comments: the command, an empty comment, then `Key: text` entries whose
further lines are indented. Keys: Source, Reported (what stands in the source), Reading (what we
infer from it), Split, Unstated, Here, Measured.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "sources.md"
KEYS = ("Source", "Reported", "Reading", "Split", "Unstated", "Here", "Measured")
NOT_YET = "not yet measured"
_NOTES = {"Reading": "Our reading", "Unstated": "Left unstated", "Here": "Different here"}

TITLES = {
    "A": 'A: "Deep Learning Notes: Skin Cancer Classification using DenseNets and ResNets"',
    "B": 'B: D. Prabhu, "Skin Cancer Classification Using Deep Learning"',
    "C": "C: ashishpatel26/Skin-Lesions-Detection-Deep-learning",
    "D": 'D: "Skin Cancer Classification Using CNN", a notebook',
    "E": 'E: Mazumder et al., "Skin Lesion Classification - An Educational Guide"',
    "lesionlab": "Ours",
}

INTRODUCTION = """# The sources' systems, and what we measured

One recipe per system of five public write-ups. The numbers of B, C, D and E come from splits in
which images of one lesion stand on both sides, A does not tell its split, and most are accuracy on
a set of which two thirds are nevi: they are quoted for orientation and **must not be compared**
with ours. Our numbers are those of the test part of a lesion-disjoint split, with 95 % intervals
from a bootstrap over lesions. "Not yet measured" means just that. This page is made from the
headers of the recipes by `tools/sources.py`.
"""


def header_of(path: Path) -> dict[str, str]:
    """The entries of a recipe's header, by key; "command" is its first line.

    Raises:
        ValueError: if the header has no command, an unknown key or lacks one that it must have.
    """
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" "))
    if not lines or not lines[0].startswith("lesionlab "):
        raise ValueError(f"{path.name}: the first line is no lesionlab command")
    found = {"command": lines[0]}
    key = ""
    for line in lines[1:]:
        if match := re.match(r"([A-Z][a-z]+): (.*)", line):
            key = match[1]
            if key not in KEYS or key in found:
                raise ValueError(f"{path.name}: key {key!r} is unknown or stands twice")
            found[key] = match[2]
        elif line.startswith("  ") and key:
            found[key] += " " + line.strip()
        elif line.strip():
            raise ValueError(f"{path.name}: {line!r} belongs to no key")
    if lacking := [each for each in ("Source", "Measured") if each not in found]:
        raise ValueError(f"{path.name} lacks {', '.join(lacking)}")
    return found


def page() -> str:
    """The whole page as Markdown."""
    headers = {path.stem: header_of(path) for path in sorted((ROOT / "recipes").glob("*.yaml"))}
    parts = [INTRODUCTION]
    for letter, title in TITLES.items():
        chosen = {k: h for k, h in headers.items() if h["Source"].split(",")[0] == letter}
        parts.append(f"\n## {title}\n")
        for name, header in chosen.items():
            parts.append(f"### [{name}](../recipes/{name}.yaml)\n")
            what = header["Source"].removeprefix(f"{letter}, ")
            parts.append(f"{what[0].upper()}{what[1:]}.\n")
            if "Reported" in header:
                parts.append("| | reported | measured here |\n|---|---|---|")
                parts.append(f"| figures | {header['Reported']} | {header['Measured']} |")
                parts.append(f"| split | {header['Split']} | by lesion |\n")
            else:
                parts.append(f"Measured: {header['Measured']}\n")
            for key, said in _NOTES.items():
                if key in header:
                    parts.append(f"{said}: {header[key]}.\n")
        if letter == "B":
            parts.append(_gaps(chosen))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip()
    return "\n".join(_wrapped(line) for line in text.split("\n")) + "\n"


def _wrapped(line: str) -> str:
    """A line of at most 140 columns, unless it is a table's or a heading."""
    if line.startswith(("|", "#")):
        return line
    return textwrap.fill(line, 140, break_long_words=False, break_on_hyphens=False)


def _gaps(chosen: dict[str, dict[str, str]]) -> str:
    """B's table of train against validation per technique, from the figures in its headers."""
    rows = []
    for name, header in chosen.items():
        match = re.match(r"MCA ([\d.]+) % on train, ([\d.]+) % on val", header["Reported"])
        if match:
            gap = float(match[1]) - float(match[2])
            rows.append((header["Source"], name, match[1], match[2], gap, header["Measured"]))
    rows.sort(key=lambda row: ("table" not in row[0], row[0]))
    lines = [
        "### B's table: train against validation, technique by technique\n",
        '"MCA" is B\'s mean class accuracy, written as a mean of precisions (M10), '
        "on a split by image; from row 3 on, copies made before the split leak too (M2).\n",
        "| system | train MCA % | val MCA % | gap | measured here |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {n} | {t} | {v} | {gap:.2f} | {ours} |" for _, n, t, v, gap, ours in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or check it."""
    made = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != made:
            print("docs/sources.md is not up to date: python tools/sources.py")
            return 1
        return 0
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
