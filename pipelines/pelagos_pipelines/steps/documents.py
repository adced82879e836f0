"""Writes the documents of a packaged model: report, card, and entries for catalogues. Called by the step export.

They are kept beside the package in the store, and among the artifacts of the tracked run. No training fails if they cannot be
written.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pelagos_contract import disk
from pelagos_contract.cost import Cost
from pelagos_contract.model_card import (
    AI4_METADATA,
    CARD,
    CARD_FOLDER,
    LARGEST,
    MLDCAT_AP,
    REPORT,
    REPORT_FOLDER,
    Document,
    folder_of,
)
from pelagos_contract.tags import ENVIRONMENT_TAGS
from pelagos_pipelines.steps import evaluate, seeds, train

if TYPE_CHECKING:
    from pelagos_pipelines.describing.facts import Facts
    from pelagos_pipelines.export.package import Written
    from pelagos_pipelines.steps.runs import Run
    from pelagos_pipelines.training.tracking import Tracker

STATE = "documents"
FAILED = "the report and the card of this model could not be made, and the log of the step says why; the model is as it would be"


@dataclass(frozen=True)
class Made:
    """The written documents, and warnings about those that could not be written."""

    documents: Sequence[Document] = ()
    warnings: Sequence[str] = ()


def write(run: Run, written: Written, labels: Sequence[str], warnings: Sequence[str], tracker: Tracker) -> Made:
    """Write a package's documents to the store and to MLflow. A repeated step writes the same bytes."""
    noted = _noted(run, written)
    try:
        folder = written.folder.with_name(folder_of(written.folder.name))
        made = []
        for name, content in _rendered(run, _facts(run, written, labels, warnings, noted)).items():
            if len(content) > LARGEST:
                raise ValueError(f"{name} would have {len(content)} bytes, and {LARGEST} are allowed")
            disk.write_atomically(folder / name, content, parents=True)
            tracker.file(folder / name, REPORT_FOLDER if name == REPORT else CARD_FOLDER)
            made.append(Document(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))
        return Made(made)
    except Exception:  # documents are for people; an error in them must not fail the model, which is already written
        logging.getLogger(__name__).exception("The documents of the model could not be written")
        return Made(warnings=[FAILED])


def _rendered(run: Run, facts: Facts) -> dict[str, bytes]:
    from pelagos_pipelines.describing import card, catalogues, page

    texts = {REPORT: page.made(facts, seeds.model_of(run).figures), CARD: card.written(facts)}
    if not catalogues.lacking(facts):
        texts[AI4_METADATA] = catalogues.ai4_metadata(facts)
    texts[MLDCAT_AP] = json.dumps(catalogues.mldcat_ap(facts), indent=2, ensure_ascii=False) + "\n"
    return {name: text.encode() for name, text in texts.items()}


def _facts(
    run: Run, written: Written, labels: Sequence[str], warnings: Sequence[str], noted: Mapping[str, Any]
) -> Facts:
    from pelagos_pipelines.describing.facts import Facts

    model = seeds.model_of(run)
    return Facts(
        request=run.request,
        labels=labels,
        state=run.read(evaluate.STEP),
        trained=model.read(train.STEP) | run.read(train.STEP),
        warnings=warnings,
        cost=Cost.model_validate(noted["cost"]),
        package=written.manifest_sha256,
        onnx=written.onnx_sha256,
        environment=noted["environment"],
        counts=model.read(evaluate.MEASUREMENT).get("counts") or {},
        run=run.tracking_run,
    )


def _noted(run: Run, written: Written) -> dict[str, Any]:
    """Values that change over time, such as the cost: kept before they are used, so that a repeated step uses the same."""
    from pelagos_pipelines.training import environment
    from pelagos_pipelines.training.families import offered

    if run.finished(STATE):
        found: dict[str, Any] = run.read(STATE)
        if found.get("package") == written.manifest_sha256:
            return found
    tags = environment.record(run.places.scratch / "packages.txt", offered(run.request).packages)
    state = {
        "package": written.manifest_sha256,
        "cost": run.meter.total().model_dump(by_alias=True),
        "environment": {name.removeprefix(ENVIRONMENT_TAGS): value for name, value in tags.items()},
    }
    run.finish(STATE, state)
    return state
