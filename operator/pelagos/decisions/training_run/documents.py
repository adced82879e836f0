"""Where the model's documents are."""

from __future__ import annotations

import re

from pelagos.api.training_run import DocumentStatus, TrainingRunStatus
from pelagos.decisions.chains import Passed
from pelagos.decisions.training_run.observed import Observed
from pelagos_contract.model_card import CARD_FOLDER, DOCUMENTS, REPORT, REPORT_FOLDER, folder_of

_SHA256 = re.compile(r"[0-9a-f]{64}")


def published(seen: Observed) -> Passed | None:
    """Publishes the documents, which are beside the package, whose place was checked. None: an earlier release wrote none."""
    folder, found = folder_of(seen.result["model"]["uri"]), list[DocumentStatus]()
    for stated in seen.result.get("documents") or ():
        name, sha256 = stated.get("name"), str(stated.get("sha256"))
        if name in DOCUMENTS and _SHA256.fullmatch(sha256):
            url = f"{seen.tracked.url}/artifacts/{_artifact(name)}" if seen.tracked is not None else None
            found.append(DocumentStatus(name=name, uri=f"{folder}/{name}", sha256=sha256, url=url))
    return Passed(status=TrainingRunStatus(documents=found)) if found else None


def _artifact(name: str) -> str:
    return f"{REPORT_FOLDER if name == REPORT else CARD_FOLDER}/{name}"
