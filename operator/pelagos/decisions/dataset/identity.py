"""What a version of a Dataset is made from, and the names and keys that follow from it."""

from __future__ import annotations

from typing import Any

from pelagos.api.dataset import DatasetSpec
from pelagos.decisions import digests
from pelagos.ports.pipelines import RunName
from pelagos.ports.volumes import Fingerprint
from pelagos_contract.dataset import Recipe


def recipe(spec: DatasetSpec) -> dict[str, Any]:
    """The request of the preparation pipeline: what decides the content of a version, and nothing else."""
    decides = set(Recipe.model_fields)
    if spec.class_folder is None:  # One that is not set must not change the names of earlier runs.
        decides.discard("class_folder")
    return spec.model_dump(by_alias=True, mode="json", include=decides)


def inputs_digest(spec: DatasetSpec, fingerprint: Fingerprint) -> str:
    """Key of the one pipeline run for this recipe and source content."""
    return digests.digest({"recipe": recipe(spec), "source": fingerprint.digest})


def name_run(uid: str, digest: str) -> RunName:
    """Name of that run."""
    return digests.run_name("dataset", uid, digest)
