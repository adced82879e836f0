"""A real Triton process serving real model packages; nothing is replaced.

Input: packages as `export.package` writes them. Output: what the server answers over HTTP. The server runs in an
separate environment, whose numpy and OpenCV differ from those of the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopback import free_port
from pelagos.engines.triton import config as triton_config
from pelagos.engines.triton.package import Manifest
from pelagos.ports.serving import DesiredService
from pelagos_pipelines.serving import packages

TRITON = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[2] / ".venvs")) / "triton"


@dataclass(frozen=True)
class Server:
    """A running server with an empty model repository."""

    address: str
    repository: Path
    metrics: str

    def load(self, package: Path, name: str, **parameters: str) -> None:
        """Put a package into the repository and load it; ``parameters`` override those that follow from it."""
        target = self.repository / name
        (target / "1").mkdir(parents=True)
        packages.verify(package, package.name, target / "1", kept=[packages.GRAPH])
        packages.install_code(target / "1")
        config = configured(package, name)
        config["parameters"] |= {key: {"string_value": value} for key, value in parameters.items()}
        (target / "config.pbtxt").write_text("")
        self._post(
            f"/v2/repository/models/{name}/load", json.dumps({"parameters": {"config": json.dumps(config)}}).encode()
        )

    def infer(
        self, name: str, images: Sequence[bytes], *, raw: bool = False, confidence: object = None
    ) -> dict[str, Any]:
        """One request with ``images`` as its batch; arrays by output name. ``raw`` also requests the network's own outputs, and
        ``confidence`` sets the threshold of this request."""
        blob = b"".join(struct.pack("<I", len(image)) + image for image in images)
        tensor = {
            "name": "image",
            "shape": [len(images), 1],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(blob)},
        }
        asked = ({"raw": True} if raw else {}) | ({} if confidence is None else {"confidence": confidence})
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": False} | asked}).encode()
        answer = self._post(f"/v2/models/{name}/infer", header + blob, len(header))
        return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in answer["outputs"]}

    def refused(self, name: str) -> float:
        """How many images of a model were refused, according to Triton's own metrics endpoint."""
        return self.counted("pelagos_refused_images_total", name)

    def counted(self, metric: str, name: str) -> float:
        """The value of one of our counters for a model."""
        with urllib.request.urlopen(self.metrics, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith(f"{metric}{{") and f'model="{name}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def _post(self, path: str, body: bytes, header: int | None = None) -> Any:
        headers = {} if header is None else {"Inference-Header-Content-Length": str(header)}
        request = urllib.request.Request(self.address + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(error.read().decode()) from None
        return json.loads(text) if text else None


def configured(package: Path, name: str) -> dict[str, Any]:
    """The Triton configuration of a package as the control plane renders it."""
    want = DesiredService(
        uid="u", namespace="n", name=name, model_name=name, package_uri=str(package), onnx_sha256="",
        manifest_sha256=hashlib.sha256((package / "package.json").read_bytes()).hexdigest(), max_batch_size=8,
        max_queue_delay=2000, instances=1, confidence="0.25", iou="0.7", cpu=1, digest="d",
    )  # fmt: skip
    manifest = Manifest.model_validate_json((package / "package.json").read_bytes())
    return triton_config.for_service(manifest, want)


def backend_folder(folder: Path, site: Path) -> Path:
    """Links to the parts of the Python backend in one folder, where the server looks for them; the wheel scatters them."""
    parts = site / "pytriton" / "tritonserver"
    python = folder / "python"
    python.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (python / name).symlink_to(parts / "backends" / "python" / name)
    stub = parts / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    (python / "triton_python_backend_stub").symlink_to(stub)
    return folder


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, with its log beside its repository."""
    folder = tmp_path_factory.mktemp("triton")
    site = TRITON / "lib" / "python3.11" / "site-packages"
    repository = folder / "models"
    repository.mkdir()
    http, grpc, metrics = free_port(), free_port(), free_port()
    command = [
        site / "pytriton" / "tritonserver" / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backend_folder(folder / 'backends', site)}",
        f"--cache-directory={site / 'pytriton' / 'tritonserver' / 'caches'}",
        *("--http-address=127.0.0.1", f"--http-port={http}"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={grpc}"),
        *("--metrics-address=127.0.0.1", f"--metrics-port={metrics}"),
        *("--allow-gpu-metrics=false", "--model-control-mode=explicit", "--exit-timeout-secs=3"),
    ]
    environment = {
        "PATH": f"{TRITON / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
        "PELAGOS_MAX_IMAGE_SECONDS": "3",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{http}"
        wait_until_live(address, process, folder / "log")
        yield Server(address, repository, f"http://127.0.0.1:{metrics}/metrics")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            # The whole session: the Python backend's processes would outlive a killed server.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_live(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers; fail with its log if it does not."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/v2/health/live", timeout=10):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Triton did not start:\n{log.read_text(errors='replace')[-3000:]}")
