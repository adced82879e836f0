"""Run by the interpreter of the environment metadata: reads documents with libraries of the projects that define or use them.

Argument: a folder with all documents. Prints one JSON object: what each library found, or why it refuses.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

FOLDER = Path(sys.argv[1])


def ifdo() -> Any:
    from ifdo import iFDO

    found = iFDO.load(FOLDER / "ifdo.json").to_dict()
    return {"header": found["image-set-header"], "items": found["image-set-items"]}


def croissant() -> Any:
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=FOLDER / "croissant.json")
    issues = dataset.metadata.ctx.issues
    records = {each.id: list(dataset.records(each.id)) for each in dataset.metadata.record_sets}
    return {
        "problems": [*issues.errors, *issues.warnings],
        "files": [each.id for each in dataset.metadata.distribution],
        "records": json.loads(json.dumps(records, default=lambda value: value.decode())),
    }


def datacite() -> Any:
    from datacite import schema45

    found = json.loads((FOLDER / "datacite.json").read_bytes())
    return {"problems": [error.message for error in schema45.validator.iter_errors(found)]}


def darwin_core() -> Any:
    from dwca.read import DwCAReader

    with DwCAReader(str(FOLDER / "dwca.zip")) as archive:
        rows = [(row.id, row.data, [(each.rowtype, each.data) for each in row.extensions]) for row in archive]
        title = archive.metadata.find("dataset/title").text
        return {"core": archive.descriptor.core.type, "title": title, "rows": rows}


def ro_crate() -> Any:
    from rocrate.rocrate import ROCrate

    warnings.simplefilter("error")
    crate = ROCrate(FOLDER)
    files = [each.id for each in crate.data_entities]
    missing = [name for name in files if not (FOLDER / unquote(name)).exists()]
    # An entity that is referred to but missing is read as its id.
    dangling = [
        (each.id, name)
        for each in crate.get_entities()
        for name, value in each.items()
        if name not in {"@id", "@type", "conformsTo"}
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str) and name in {"creator", "license", "publisher", "affiliation", "hasPart", "funder"}
    ]
    root = crate.root_dataset
    return {
        "name": root["name"],
        "license": root["license"].id,
        "files": [*map(unquote, files)],
        "missing": missing,
        "dangling": dangling,
    }


def schema_org() -> Any:
    """Types and properties that the vocabulary lacks, or that no class of the entity has."""
    vocabulary = json.loads((resources.files("rocrate") / "data" / "schema.jsonld").read_bytes())["@graph"]
    known = {each["@id"].partition(":")[2]: each for each in vocabulary}
    strange: list[str] = []

    def look(entity: Any) -> None:
        if isinstance(entity, list):
            for each in entity:
                look(each)
        elif isinstance(entity, dict):
            if entity.get("@type") not in known:
                strange.append(str(entity.get("@type")))
            for name, value in entity.items():
                if not name.startswith("@"):
                    strange.extend([name] if name not in known else [])
                    look(value)

    found = json.loads((FOLDER / "schema.jsonld").read_bytes())
    look(found)
    return {"strange": strange, "document": found}


def told(check: Any) -> Any:
    try:
        return check()
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}


CHECKS = (ifdo, croissant, datacite, darwin_core, ro_crate, schema_org)
print(json.dumps({check.__name__: told(check) for check in CHECKS}, default=str))
