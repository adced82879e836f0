"""EcoTaxa: TSV files of an export with images, or in the form of an import; one per project or one per sample.

Source: ecotaxa/ecotaxa_back, ``py/API_operations/exports/ForProject.py``, and the import instructions on ecotaxa.obs-vlfr.fr.
Only annotations that a person has validated count: EcoTaxa's own predictions would teach a model the output of another model.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from pelagos_contract.formats import ECOTAXA
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".tsv" or _is_text(path)]


def _is_text(path: str) -> bool:
    """Whether it is a text file with a name that EcoTaxa accepts."""
    return suffix(path) == ".txt" and PurePosixPath(path).name.lower().startswith("ecotaxa")


def recognises(tree: SourceFiles) -> bool:
    """Whether there are TSV files of EcoTaxa."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


TOOL = Tool(
    ECOTAXA,
    _files,
    "pelagos_pipelines.annotations.ecotaxa_document",
    said={
        "predicted": "objects are predicted but were not validated, and are left out",
        "dubious": "objects are dubious, and are left out",
        "open": "objects have neither been predicted nor validated, and are left out",
        "further": "images are additional ones of their object (img_rank above 0), and are read as images of its class",
    },
)
FORMAT = Format(ECOTAXA, recognises, TOOL.read, evidence=TOOL.evidence)
