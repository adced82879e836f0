"""Writes the outcome of a pipeline run: either result.json or failure.json in its report folder, atomically.

Steps write it, sealed (see sealing) if they have the key of their run; the operator reads it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pelagos_contract import disk, sealing

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from pelagos_contract.failures import Failure

RESULT, FAILURE = "result.json", "failure.json"


def report_result(folder: Path, result: BaseModel) -> None:
    """Write ``result.json``, sealed if this process has a key."""
    disk.write_atomically(folder / RESULT, _sealed(result), parents=True)


def report_failure(folder: Path, failure: Failure) -> None:
    """Write ``failure.json``, sealed if this process has a key."""
    disk.write_atomically(folder / FAILURE, rendered(failure), parents=True)


def rendered(failure: Failure) -> bytes:
    """The content of ``failure.json``."""
    return _sealed(failure).encode()


def _sealed(message: BaseModel) -> str:
    document = sealing.sealed(json.loads(message.model_dump_json(by_alias=True)))
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
