"""Runs the commands of docs/calling-a-model.md verbatim, and other requests of Triton's clients, through the gateway.

Input: the page, a real API server with one ModelService, and the real Triton behind the real Envoy that it names.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from control_plane import ControlPlane, start_control_plane
from local_triton import settled
from model_packages import environments, make_want, packages
from pelagos.engines.triton_local.engine import TritonLocal
from pelagos.ports.serving import DesiredService, ObservedService, ServiceState

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["environments", "make_want", "packages"]

PAGE = Path(__file__).parents[3] / "docs/calling-a-model.md"
NAME = "phytoplankton-detector"
UID = "5f0c5f0c-1111-4000-8000-000000000000"


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, packages: dict[str, tuple[str, str]], environments: Path
) -> Iterator[ObservedService]:
    """A detector behind its gateway."""
    home = tmp_path_factory.mktemp("serving")
    uri, digest = packages["Detection"]
    want = DesiredService(
        uid=UID, namespace="default", name=NAME, model_name=NAME, package_uri=uri, onnx_sha256=digest,
        manifest_sha256=Path(uri).name, max_batch_size=8, max_queue_delay=0, instances=1, confidence="0.25", iou="0.7",
        cpu=1, digest="d",
    )  # fmt: skip

    async def start() -> ObservedService:
        triton = TritonLocal(home, environments)
        await triton.apply(want)
        seen = await settled(triton, UID)
        await triton.close()
        return seen

    async def end() -> None:
        triton = TritonLocal(home, environments)
        await triton.remove(UID)
        await triton.close()

    seen = asyncio.run(start())
    assert seen.state is ServiceState.LOADED, seen
    yield seen
    asyncio.run(end())


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory, served: ObservedService) -> Iterator[Path]:
    """The kubeconfig of an API server that has the ModelService, with the status that the operator writes."""
    plane = start_control_plane(tmp_path_factory.mktemp("plane"))
    try:
        add_service(plane, served)
        yield plane.kubeconfig
    finally:
        plane.stop()


def add_service(plane: ControlPlane, served: ObservedService) -> None:
    plane.apply_crds()
    services = "/apis/pelagos.dev/v1alpha1/namespaces/default/modelservices"
    body = {
        "apiVersion": "pelagos.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": NAME},
        "spec": {"model": {"trainingRunRef": {"name": NAME}}},
    }
    made = plane.request("POST", services, body)
    moment = "2026-01-01T00:00:00Z"
    ready: dict[str, Any] = {"type": "Ready", "status": "True", "reason": "Serving", "message": "it answered right"}
    ready |= {"lastTransitionTime": moment, "observedGeneration": 1}
    status = {
        "url": f"grpc://{served.grpc_url}",
        "endpoints": {"http": served.http_url, "grpc": served.grpc_url, "metrics": served.metrics_url},
        "model": {"name": NAME, "uri": "/models", "onnxSha256": served.onnx_sha256, "source": "TrainingRun"},
        "conditions": [ready],
    }
    plane.request("PUT", f"{services}/{NAME}/status", {**made, "status": status})


def script(page: str) -> str:
    """All commands and programs of the page, in order, separated by a line."""
    parts = ["set -euo pipefail"]
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        parts.append("echo --- ")
        if kind == "python":
            parts.append(f"python - <<'END'\n{block}END")
        else:
            parts += [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    return "\n".join(parts)


def test_the_commands_of_the_page_do_what_it_says(kubeconfig: Path, packages: dict[str, Any], tmp_path: Path) -> None:
    samples = tmp_path / "home/data/samples/phytoplankton-frames/images"
    samples.mkdir(parents=True)
    content = io.BytesIO()
    Image.open(Path(packages["Detection"][0]) / "probe.png").save(content, "JPEG", quality=100, subsampling=0)
    (samples / "frame-0001.jpg").write_bytes(content.getvalue())
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
        "PELAGOS_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
    }

    done = subprocess.run(
        ["bash", "-c", script(PAGE.read_text(encoding="utf-8"))],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    _, _, predicted, curled, described, grpc, http, several = done.stdout.split("---")
    assert "4 detections" in predicted
    told = json.loads(predicted[predicted.index("{") :])
    assert len(told["detections"]) == 4
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.format == "PNG"
    assert json.loads(curled)["detections"] == told["detections"]
    outputs = ["prediction", "error", "count", "boxes", "scores", "class_ids", "cut"]
    assert [output["name"] for output in json.loads(described)["outputs"]] == outputs
    assert str(outputs) in grpc
    assert "Ceratium" in grpc
    assert str(outputs) in http
    assert "4 detections" in http
    assert "found: 4" in several
    assert "refused: the image cannot be decoded" in several


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_clients_of_triton_read_health_and_metadata_and_no_more(served: ObservedService, protocol: str) -> None:
    from tritonclient import grpc, http
    from tritonclient.utils import InferenceServerException

    client: Any
    if protocol == "grpc":
        client, options = grpc.InferenceServerClient(served.grpc_url), {"as_json": True}
    else:
        client, options = http.InferenceServerClient(served.http_url.removeprefix("http://")), {}

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.get_server_metadata(**options)["name"] == "triton"
    for version in ("", "1"):
        metadata = client.get_model_metadata(NAME, version, **options)
        assert metadata["name"] == NAME
        assert [int(side) for side in metadata["inputs"][0]["shape"]] == [-1, 1]
        assert {output["name"] for output in metadata["outputs"]} >= {"prediction", "error", "boxes"}
    for refused in (
        lambda: client.get_model_config(NAME),
        client.get_model_repository_index,
        lambda: client.load_model(NAME),
        lambda: client.get_inference_statistics(NAME),
    ):
        with pytest.raises(InferenceServerException) as caught:
            refused()
        assert "only inference, metadata and health of the served model are allowed" in caught.value.message()
    client.close()
