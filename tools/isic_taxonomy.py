"""Bring our mapping of the ISIC Archive's diagnoses up to date with its taxonomy.

    python tools/isic_taxonomy.py

Needs `isic-metadata` (pip install '.[dev]'), whose `DiagnosisEnum` has every node. A diagnosis
that the table has keeps its class; a new one takes the class of the node above it, and is printed:
look at it before it is committed.
"""

from __future__ import annotations

import csv
from pathlib import Path

from isic_metadata.diagnosis_hierarchical import DiagnosisEnum

TABLE = Path(__file__).resolve().parents[1] / "src/lesionlab/data/collections/isic_diagnoses.csv"


def merged(nodes: list[str], known: dict[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Every node with its class, and the nodes that are new."""
    classes = dict(known)
    fresh = []
    for node in sorted(nodes):  # a node comes behind the one above it
        if node not in classes:
            classes[node] = classes.get(node.rpartition(":")[0], "")
            fresh.append(node)
    return [(node, classes[node]) for node in sorted(nodes)], fresh


def main() -> None:
    """Write the table and print what is new in it."""
    known: dict[str, str] = {}
    if TABLE.is_file():
        with TABLE.open(encoding="utf-8", newline="") as handle:
            known = {row["diagnosis"]: row["class"] for row in csv.DictReader(handle)}
    rows, fresh = merged([each.value for each in DiagnosisEnum], known)
    with TABLE.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("diagnosis", "class"))
        writer.writerows(rows)
    given = dict(rows)
    for node in fresh:
        print(f"new: {node} -> {given[node] or 'none of our classes'}")
    print(f"{len(rows)} diagnoses, {sum(bool(label) for _, label in rows)} of them in a class")


if __name__ == "__main__":
    main()
