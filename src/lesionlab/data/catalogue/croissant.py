"""A catalogue described as Croissant, ML Commons' format of data set metadata (JSON-LD)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lesionlab.data.catalogue.catalogue import FILE_NAME, Catalogue
from lesionlab.data.collections.registry import SOURCES
from lesionlab.errors import DataError
from lesionlab.files import hash_file, write_json
from lesionlab.tables import CATALOGUE

CROISSANT = "croissant.json"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that version 1.0 of the format prescribes."""
_ABOUT = {
    "image_id": "unique name of the image",
    "path": "the image's file, relative to the data folder",
    "target": "diagnosis",
    "lesion_id": "images of one lesion share it",
    "patient_id": "images of one patient share it",
    "dx_type": "how the diagnosis was confirmed: histo, follow_up, consensus or confocal",
    "age": "years",
    "sex": "male or female",
    "site": "where on the body",
    "source": "the collection that the image came from",
    "part": "train, val or test of an official split",
    "width": "pixels as stored",
    "height": "pixels as stored",
    "bytes": "size of the file",
    "sha256": "hash of the file, or of the pixels of an array's row",
}


def write_croissant(data: Catalogue) -> Path:
    """Describe a saved catalogue beside its table.

    Returns:
        The file, croissant.json.

    Raises:
        DataError: if the catalogue is only in memory, or the file cannot be written.
    """
    if data.home is None:
        raise DataError("This catalogue is only in memory: save it first, then describe it.")
    table = data.home / FILE_NAME
    names = sorted(set(data.table["source"]) - {""})
    known = [SOURCES[name] for name in names if name in SOURCES]
    numbers = {"age", "width", "height", "bytes"}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"images/{name}",
            "name": name,
            "description": _ABOUT[name],
            "dataType": "sc:Float" if name in numbers else "sc:Text",
            "source": {"fileObject": {"@id": FILE_NAME}, "extract": {"column": name}},
        }
        for name in CATALOGUE
    ]
    described: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "-".join(names) or "skin-lesions",
        "description": f"{len(data):,} images of skin lesions with a diagnosis each "
        f"({', '.join(data.classes)}). {' '.join(data.notes)}".strip(),
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": FILE_NAME,
                "name": FILE_NAME,
                "description": "one row per image",
                "contentUrl": FILE_NAME,
                "encodingFormat": "text/csv",
                "sha256": hash_file(table),
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "description": "images, their diagnoses and what is known of the person",
                "key": {"@id": "images/image_id"},
                "field": fields,
            }
        ],
    }
    if known:
        described["license"] = [source.licence.url for source in known]
        described["citeAs"] = "\n".join(dict.fromkeys(source.citation for source in known))
        described["url"] = known[0].homepage
        described["creator"] = [
            {"@type": "Organization", "name": source.attribution} for source in known
        ]
    path = data.home / CROISSANT
    write_json(path, described)
    return path
