"""Our objects for KServe conform to its full definitions. No node is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster import definitions
from model_packages import MakeWant
from pelagos.engines.kserve.manifests import inference_service
from serving_clusters import RUNTIME, everything, options


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_everything_that_can_be_asked_for_is_allowed_by_the_full_definition(make_want: MakeWant, mode: str) -> None:
    made = inference_service(everything(make_want(), mode), "name: 'x'", options(Path("/objects")))
    validate = definitions.inference_service_validator()

    validate(made)
    with pytest.raises(ValueError, match="colour"):
        validate(made | {"spec": made["spec"] | {"colour": "blue"}})


def test_a_package_on_object_storage_is_allowed_by_the_full_definition(make_want: MakeWant) -> None:
    want = make_want(package_uri="s3://bucket/package")
    made = inference_service(want, "name: 'x'", options(Path("/objects")), storage_container=True)

    definitions.inference_service_validator()(made)
    assert made["spec"]["predictor"]["storageContainerName"] == "pelagos"


@pytest.mark.parametrize(
    "name", ["clusterservingruntime", "servingruntime", "clusterstoragecontainer/clusterstoragecontainer"]
)
def test_what_we_add_to_kserve_is_allowed_by_the_full_definitions(name: str) -> None:
    folder, _, kind = name.rpartition("/")
    body = yaml.safe_load((RUNTIME.parent / f"{kind}.yaml").read_text(encoding="utf-8"))

    definitions.validator(definitions.KSERVE / folder / f"serving.kserve.io_{kind}s.yaml", "v1alpha1")(body)
