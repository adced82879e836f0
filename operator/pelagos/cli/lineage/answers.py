"""Whether a saved prediction is from the model of a lineage: by the digest of the graph that it names."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelagos.cli.lineage.bundle import BundleError
from pelagos.cli.lineage.records import Link, Record, same
from pelagos_contract.text import shown

LARGEST = 256 << 20
"""Largest file with a prediction, in bytes."""
_GRAPH = "onnxSha256"


def link(record: Record, file: Path) -> Link:
    """The link from the graph to a prediction. Raises BundleError when the file cannot be read or names no graph."""
    known = record.service or record.training
    if known is None:
        raise BundleError(f"the bundle is of a Dataset only: no model made {shown(file.name)}")
    content = _read(file)
    answer = content.get("prediction", content)
    named = answer.get(_GRAPH) if isinstance(answer, Mapping) else None
    if not isinstance(named, str):
        raise BundleError(
            f"{shown(str(file))} does not say which graph it is from: it has no {_GRAPH}; ask the model with the parameter "
            "raw: true, and save the text of its output prediction as a file"
        )
    return same(f"graph → prediction {file.name}", named, known.model.onnx_sha256, "the graph that it names")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        # O_NONBLOCK, so as not to wait for the other end of a pipe.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise BundleError(f"{shown(str(file))} is not a file")
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise BundleError(f"{shown(str(file))} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST:
        raise BundleError(f"{shown(str(file))} has more than {LARGEST >> 20} MiB; a prediction of one image is smaller")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{shown(str(file))} is not JSON") from error
    if not isinstance(found, dict):
        raise BundleError(f"{shown(str(file))} is not a prediction: a JSON object was expected")
    return found
