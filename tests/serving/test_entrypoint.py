"""The entrypoint of the serving image with a real Triton and real packages: what starts, what is refused, and in which words.

The process is the very one of the image; only its address differs, since all tests share this machine's loopback interface.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import build_packages
from loopback import free_address
from pelagos.engines import triton_config
from pelagos_pipelines.serving import entrypoint
from serving.conftest import TRITON

PORTS = (8080, 9000, 8002)
Start = Callable[..., "Pod"]


class Pod:
    """A started entrypoint."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, log: Path) -> None:
        self.process = process
        self.address = address
        self.log = log

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://{self.address}:8080{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                body = answer.read()
                return answer.status, json.loads(body) if body else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_until_ready(self, model: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.words()
            try:
                if self.get(f"/v2/models/{model}/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise TimeoutError(self.words())

    def words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build_packages.build("Detection", build_packages.detector(), tmp_path_factory.mktemp("store"))[0])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the entrypoint for a package; ``changes`` to its environment, None removes a variable."""
    pods: list[Pod] = []

    def begin(folder: Path, module: str = "entrypoint", **changes: str | None) -> Pod:
        config = json.loads((folder / "triton/config.json").read_text()) if folder.exists() else {}
        description = json.loads((folder / "package.json").read_text()) if folder.exists() else {}
        address = free_address(PORTS)
        scratch = tmp_path / f"tmp-{len(pods)}"
        scratch.mkdir()
        variables: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(scratch),
            "PELAGOS_TRITON_HOME": str(TRITON),
            "PELAGOS_LISTEN_ADDRESS": address,
            "PELAGOS_MODEL_NAME": "detector",
            "PELAGOS_PACKAGE": str(folder),
            "PELAGOS_ONNX_SHA256": description.get("onnxSha256", "0"),
            "PELAGOS_TRITON_CONFIG": triton_config.render(config | {"name": "detector"}) or "name: 'x'",
        }
        environment = {name: value for name, value in (variables | changes).items() if value is not None}
        log = tmp_path / f"log-{len(pods)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"pelagos_pipelines.serving.{module}"],
                env=environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        pods.append(Pod(process, address, log))
        return pods[-1]

    yield begin
    for pod in pods:
        if pod.process.poll() is None:
            os.killpg(pod.process.pid, signal.SIGKILL)
            pod.process.wait()
        # Only its own: others serve on this machine too.
        entrypoint.free_shared_memory(settings_of(pod.address))


def settings_of(address: str) -> entrypoint.Settings:
    variables = {"PELAGOS_MODEL_NAME": "detector", "PELAGOS_TRITON_CONFIG": "x", "PELAGOS_ONNX_SHA256": "0"}
    return entrypoint.read(variables | {"PELAGOS_LISTEN_ADDRESS": address})


def altered(package: Path, folder: Path, **contents: bytes) -> Path:
    """A copy with other contents, and the digests for them; names have ``__`` for slashes."""
    shutil.copytree(package, folder)
    description = json.loads((folder / "package.json").read_text())
    for key, content in contents.items():
        name = key.replace("__", "/").replace("_dot_", ".")
        (folder / name).write_bytes(content)
        description["files"][name] = hashlib.sha256(content).hexdigest()
    description["onnxSha256"] = description["files"][entrypoint.GRAPH]
    (folder / "package.json").write_text(json.dumps(description))
    return folder


def test_the_model_is_served_on_the_ports_of_the_contract(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    for port in PORTS:
        socket.create_connection((pod.address, port), timeout=5).close()
    status, config = pod.get("/v2/models/detector/config")
    assert (status, config["name"], config["backend"]) == (200, "detector", "python")
    assert b"nv_inference_request_success" in urllib.request.urlopen(f"http://{pod.address}:8002/metrics").read()


def test_nobody_can_change_what_is_served(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    for path in ("repository/index", "repository/models/detector/unload", "logging", "trace/setting"):
        connection = http.client.HTTPConnection(pod.address, 8080, timeout=5)
        connection.request("POST", f"/v2/{path}", body=b"{}")
        answer = connection.getresponse()
        assert answer.status == 403, (path, answer.read())
        connection.close()
    assert pod.get("/v2/models/detector/ready")[0] == 200


def test_what_is_served_is_a_copy_of_what_was_verified(start: Start, package: Path, tmp_path: Path) -> None:
    folder = altered(package, tmp_path / "package")
    pod = start(folder)
    pod.wait_until_ready("detector")
    (served,) = (tmp_path / "tmp-0").glob("pelagos-*/repository/detector")
    assert not any(path.is_symlink() for path in served.rglob("*"))
    (folder / entrypoint.GRAPH).write_bytes(b"altered later")
    assert hashlib.sha256((served / "1/model.onnx").read_bytes()).hexdigest() == package.name


def test_a_server_ends_when_it_is_told_to(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    pod.process.terminate()
    assert pod.process.wait(20) == 0


def test_a_killed_servers_memory_is_freed_by_the_next_one(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    settings = settings_of(pod.address)
    os.killpg(pod.process.pid, signal.SIGKILL)
    pod.process.wait()
    left = set(Path("/dev/shm").glob(f"{entrypoint.shared_memory_prefix(settings)}*"))
    assert left
    entrypoint.free_shared_memory(settings)
    assert not any(path.exists() for path in left)


def test_a_model_that_does_not_load_ends_the_server_with_the_reason_in_its_last_lines(
    start: Start, package: Path, tmp_path: Path
) -> None:
    pod = start(altered(package, tmp_path / "broken", triton__1__model_dot_onnx=b"no graph"))
    assert pod.process.wait(60) != 0
    # As much as Kubernetes keeps of a container that ended with an error.
    tail = b"\n".join(pod.log.read_bytes().splitlines()[-80:])[-2048:].decode()
    assert "Protobuf parsing failed" in tail, tail


def test_a_file_that_was_altered_is_refused(start: Start, package: Path, tmp_path: Path) -> None:
    folder = altered(package, tmp_path / "package")
    (folder / "triton/1/predictor.py").write_text("import os")
    pod = start(folder)
    assert pod.process.wait(20) == os.EX_DATAERR
    assert "triton/1/predictor.py has been altered: sha256 " in pod.words()
    assert len(pod.words().splitlines()) == 1


def test_another_model_than_the_wanted_one_is_refused(start: Start, package: Path) -> None:
    pod = start(package, PELAGOS_ONNX_SHA256="f" * 64)
    assert pod.process.wait(20) == os.EX_DATAERR
    assert f"the service asks for {'f' * 64}" in pod.words()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../escape", "triton/1/../../../x"])
def test_a_list_of_files_that_leads_out_of_the_package_is_refused(package: Path, tmp_path: Path, name: str) -> None:
    folder = altered(package, tmp_path / "package")
    description = json.loads((folder / "package.json").read_text())
    description["files"][name] = "0"
    (folder / "package.json").write_text(json.dumps(description))
    with pytest.raises(entrypoint.RefusedError, match="leads out of the package"):
        entrypoint.listed_files(folder)


def test_a_link_in_a_package_is_refused(package: Path, tmp_path: Path) -> None:
    folder = altered(package, tmp_path / "package")
    content = (folder / "probe.json").read_bytes()
    (tmp_path / "elsewhere").write_bytes(content)
    (folder / "probe.json").unlink()
    (folder / "probe.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(entrypoint.RefusedError, match=r"probe\.json is missing, or is not a file of the package"):
        entrypoint.verify(folder, package.name)


def test_an_empty_volume_is_said_to_be_empty(start: Start, tmp_path: Path) -> None:
    pod = start(tmp_path / "nothing")
    assert pod.process.wait(20) == os.EX_DATAERR
    assert "there is no model package" in pod.words()


@pytest.mark.parametrize("name", ["PELAGOS_MODEL_NAME", "PELAGOS_TRITON_CONFIG", "PELAGOS_ONNX_SHA256"])
def test_a_variable_that_is_missing_is_named(start: Start, package: Path, name: str) -> None:
    pod = start(package, **{name: None})
    assert pod.process.wait(20) == os.EX_DATAERR
    assert f"{name} is not set" in pod.words()


def test_an_image_without_a_server_is_said_to_be_none(start: Start, package: Path) -> None:
    pod = start(package, PELAGOS_TRITON_HOME=None, PATH="/nowhere")
    assert pod.process.wait(20) == os.EX_DATAERR
    assert "tritonserver is not in PATH" in pod.words()


def test_it_starts_without_the_libraries_of_training() -> None:
    code = (
        "import sys; import pelagos_pipelines.serving.entrypoint, pelagos_pipelines.serving.fetch;"
        "print(sorted({'numpy', 'torch', 'pydantic', 'asyncio', 'obstore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
