"""A service reports as many detections per image as its spec says, whatever its model was measured with."""

from __future__ import annotations

from typing import Any

import builders
from builders import MODEL, make_service_observed
from pelagos.decisions.model_service import endpoint
from pelagos.ports.serving import DesiredService


def want(**spec: Any) -> DesiredService:
    return endpoint.wanted(make_service_observed(spec=builders.model_service_spec(**spec)), MODEL)


def test_the_servers_are_reported() -> None:
    assert want(maxDetections=500).max_detections == 500
    assert want().max_detections == 3000


def test_another_number_replaces_the_servers() -> None:
    assert want(maxDetections=500).pod_template_digest != want().pod_template_digest


def test_the_usual_number_replaces_no_server_of_an_earlier_release() -> None:
    assert (
        want(maxDetections=3000).pod_template_digest
        == want().pod_template_digest
        == "sha256:fd0f252dbc7e2ee9e409cdfce15d2533e0f6a71f37a92a4ccc734b335b27f013"
    )
