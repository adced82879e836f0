"""The serving image's entrypoint with a real Triton and real packages: what starts, what is refused, and with which message.

The process is exactly that of the image. Only its address differs, since all tests share this machine's loopback interface.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import build_packages
from loopback import free_address
from model_packages import altered
from pelagos.engines.envoy import config as envoy_config
from pelagos.engines.envoy.config import Limits, Ports, Service, Upstream
from pelagos.engines.triton import config as triton_config
from pelagos_pipelines.serving import entrypoint, gateway, packages
from pelagos_pipelines.serving.packages import RefusedError
from serving.conftest import TRITON, configured

PORTS = (8080, 9000, 8002)
Start = Callable[..., "Pod"]


class Pod:
    """A started entrypoint and the gateway in front of it; waiting for the model starts the gateway."""

    gateway: subprocess.Popen[bytes]

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        start_gateway: Callable[[], subprocess.Popen[bytes]],
        address: str,
        log: Path,
        sockets: Path,
    ) -> None:
        self.process = process
        self.start_gateway = start_gateway
        self.address = address
        self.log = log
        self.sockets = sockets

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://{self.address}:8080{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
                return answer.status, json.loads(body) if body else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_until_ready(self, model: str) -> None:
        if not hasattr(self, "gateway"):
            self.gateway = self.start_gateway()
        deadline = time.monotonic() + 120
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

    def processes(self) -> list[int]:
        """The processes of both containers."""
        sessions = {str(self.process.pid), str(self.gateway.pid)}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "stat").read_text().rpartition(")")[2].split()[3] in sessions:
                    found.append(int(entry.name))
        return found


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build_packages.build("Detection", build_packages.detector(), tmp_path_factory.mktemp("store"))[0])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the entrypoint for a package, with ``changes`` to its environment; None removes a variable."""
    with starting(tmp_path) as begin:
        yield begin


@pytest.fixture(scope="module")
def served(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """A pod that serves ``package`` from beside its log, for tests that do not end any of its processes."""
    folder = tmp_path_factory.mktemp("served")
    with starting(folder) as begin:
        pod = begin(shutil.copytree(package, folder / "package"))
        pod.wait_until_ready("detector")
        yield pod


@contextlib.contextmanager
def starting(folder_of_logs: Path) -> Iterator[Start]:
    """Yields a function that starts pods; they end with the block."""
    pods: list[Pod] = []

    def begin(folder: Path, module: str = "entrypoint", **changes: str | None) -> Pod:
        config = triton_config.render(configured(folder, "detector")) if folder.exists() else "name: 'x'"
        address = free_address(PORTS)
        scratch = folder_of_logs / f"tmp-{len(pods)}"
        scratch.mkdir()
        # The path of a Unix socket must be short, and pytest's folders have long ones.
        sockets = Path(tempfile.mkdtemp(prefix="pod-"))
        variables: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(scratch),
            "PELAGOS_TRITON_HOME": str(TRITON),
            "PELAGOS_SOCKETS": str(sockets),
            "PELAGOS_MODEL_NAME": "detector",
            "PELAGOS_PACKAGE": str(folder),
            "PELAGOS_MANIFEST_SHA256": digest(folder),
            "PELAGOS_TRITON_CONFIG": config,
        }
        environment = {name: value for name, value in (variables | changes).items() if value is not None}
        log = folder_of_logs / f"log-{len(pods)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"pelagos_pipelines.serving.{module}"],
                env=environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

        def start_gateway() -> subprocess.Popen[bytes]:
            with log.with_name(log.name.replace("log", "gateway")).open("wb") as output:
                return subprocess.Popen(
                    [sys.executable, "-m", "pelagos_pipelines.serving.gateway"],
                    env=environment | {"PELAGOS_GATEWAY_CONFIG": gateway_config(sockets, address)},
                    stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip

        pods.append(Pod(process, start_gateway, address, log, sockets))
        return pods[-1]

    try:
        yield begin
    finally:
        for pod in pods:
            for process in (pod.process, getattr(pod, "gateway", None)):
                if process is not None and process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            # Only its own: other tests' servers run on this machine, too.
            entrypoint.free_shared_memory(settings_of(pod.sockets))
            shutil.rmtree(pod.sockets)


def settings_of(sockets: Path) -> entrypoint.Settings:
    variables = {"PELAGOS_MODEL_NAME": "detector", "PELAGOS_TRITON_CONFIG": "x", "PELAGOS_MANIFEST_SHA256": "0"}
    return entrypoint.read(variables | {"PELAGOS_SOCKETS": str(sockets)})


def gateway_config(sockets: Path, address: str) -> str:
    upstream = Upstream(f"{sockets}/http", f"{sockets}/grpc:1", f"{sockets}/metrics")
    service = Service("server", "detector", address, Ports(*PORTS), upstream, hosts=(), tells_config=True)
    return json.dumps(envoy_config.bootstrap(f"{sockets}/admin", Limits(), services=(service,)))


def with_outside_weights(location: str) -> bytes:
    graph = build_packages.detector()
    weights = next(tensor for tensor in graph.graph.initializer if tensor.name == "zero")
    weights.ClearField("raw_data")
    weights.data_location = weights.EXTERNAL
    weights.external_data.add(key="location", value=location)
    content: bytes = graph.SerializeToString()
    return content


def digest(package: Path) -> str:
    path = package / "package.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0"


def test_the_model_is_served_on_the_ports_of_the_contract(served: Pod) -> None:
    for port in PORTS:
        socket.create_connection((served.address, port), timeout=60).close()
    status, config = served.get("/v2/models/detector/config")
    assert (status, config["name"], config["backend"]) == (200, "detector", "python")
    assert b"nv_inference_request_success" in urllib.request.urlopen(f"http://{served.address}:8002/metrics").read()


def test_nothing_but_the_gateway_listens_for_others(served: Pod) -> None:
    assert listening(served.processes()) == {(served.address, port) for port in PORTS}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in served.sockets.iterdir()}
    assert modes.keys() == {"http", "grpc:1", "metrics", "admin"}
    assert not any(mode & 0o077 for mode in modes.values()), modes


def test_no_command_line_holds_a_secret(served: Pod) -> None:
    """There are no secrets to pass: what must stay closed is not reachable at all."""
    commands = b"".join(Path(f"/proc/{process}/cmdline").read_bytes() for process in served.processes())
    assert b"tritonserver" in commands
    assert b"envoy" in commands
    for word in (b"secret", b"restricted", b"token", b"password", b"key="):
        assert word not in commands.lower()


def test_a_request_in_progress_is_finished_before_the_gateway_ends(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    image = (package / "probe.png").read_bytes()
    blob = len(image).to_bytes(4, "little") + image
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": False}}).encode()
    body = header + blob
    with socket.create_connection((pod.address, 8080), timeout=60) as client:
        lines = [
            "POST /v2/models/detector/infer HTTP/1.1",
            "Host: detector",
            f"Content-Length: {len(body)}",
            f"Inference-Header-Content-Length: {len(header)}",
        ]
        client.sendall("\r\n".join([*lines, "", ""]).encode() + body[:-1])
        time.sleep(0.5)
        command = [sys.executable, "-m", "pelagos_pipelines.serving.gateway", "drain"]
        draining = subprocess.Popen(command, env={"PELAGOS_SOCKETS": str(pod.sockets)})
        with pytest.raises(subprocess.TimeoutExpired):
            draining.wait(gateway.DRAIN_SECONDS + 2)
        client.sendall(body[-1:])
        answer = b""
        while block := client.recv(65536):
            answer += block
        assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
        assert b"Ceratium" in answer
        assert draining.wait(60) == 0


def test_a_server_that_was_killed_listens_again_where_the_gateway_looks(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    os.killpg(pod.process.pid, signal.SIGKILL)
    pod.process.wait()
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"http://{pod.address}:8080/v2/health/live", timeout=60).read()
    again = start(package, PELAGOS_SOCKETS=str(pod.sockets))
    again.address, again.gateway = pod.address, pod.gateway
    again.wait_until_ready("detector")


def listening(processes: list[int]) -> set[tuple[str, int]]:
    """The addresses on which these processes listen for TCP."""
    inodes = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(descriptor.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                host, _, port = fields[1].partition(":")
                found.add((socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16)))
    return found


def test_nobody_can_change_what_is_served(served: Pod) -> None:
    for path in ("repository/index", "repository/models/detector/unload", "logging", "trace/setting"):
        connection = http.client.HTTPConnection(served.address, 8080, timeout=60)
        connection.request("POST", f"/v2/{path}", body=b"{}")
        answer = connection.getresponse()
        assert answer.status == 403, (path, answer.read())
        connection.close()
    assert served.get("/v2/models/detector/ready")[0] == 200


def test_what_is_served_is_a_copy_of_what_was_verified(served: Pod, package: Path) -> None:
    (copy,) = (served.log.parent / "tmp-0").glob("pelagos-*/repository/detector")
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    (served.log.parent / "package/model.onnx").write_bytes(b"altered later")
    assert (copy / "1/model.onnx").read_bytes() == (package / "model.onnx").read_bytes()
    ours = Path(packages.__file__).parents[1]
    assert (copy / "1/model.py").read_bytes() == (ours / "serving/model.py").read_bytes()


def test_a_server_ends_when_it_is_told_to(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    # The gateway must end without waiting for open connections, idle ones included.
    pod.gateway.terminate()
    assert pod.gateway.wait(60) == 0
    pod.process.terminate()
    assert pod.process.wait(60) == 0


def test_a_killed_servers_memory_is_freed_by_the_next_one(start: Start, package: Path) -> None:
    pod = start(package)
    pod.wait_until_ready("detector")
    settings = settings_of(pod.sockets)
    os.killpg(pod.process.pid, signal.SIGKILL)
    pod.process.wait()
    left = set(Path("/dev/shm").glob(f"{entrypoint.shared_memory_prefix(settings)}*"))
    assert left
    entrypoint.free_shared_memory(settings)
    assert not any(path.exists() for path in left)


def test_a_model_that_does_not_load_ends_the_server_with_the_reason_in_its_last_lines(
    start: Start, package: Path, tmp_path: Path
) -> None:
    altered(package, tmp_path / "broken", {"model.onnx": b"no graph"})
    pod = start(tmp_path / "broken")
    assert pod.process.wait(60) != 0
    # As much as Kubernetes keeps of the log of a container that ended with an error.
    tail = b"\n".join(pod.log.read_bytes().splitlines()[-80:])[-2048:].decode()
    assert "protobuf parsing failed" in tail, tail


def test_a_graph_whose_weights_lie_in_other_files_ends_the_server(start: Start, package: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.ones(4, np.float32).tobytes())
    altered(package, tmp_path / "outside", {"model.onnx": with_outside_weights(str(tmp_path / "weights.bin"))})
    pod = start(tmp_path / "outside")
    assert pod.process.wait(60) != 0
    assert "External data path validation failed" in pod.words()


@pytest.mark.parametrize("name", ["model.onnx", "probe.png", "probe.json"])
def test_a_file_that_was_altered_is_refused(start: Start, package: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(package, tmp_path / "package")
    (folder / name).write_bytes(b"x")
    pod = start(folder)
    assert pod.process.wait(60) == os.EX_DATAERR
    assert f"{name} has been altered: sha256 2d711642" in pod.words()
    assert len(pod.words().splitlines()) == 1


def test_a_package_that_attests_itself_is_another_than_the_wanted_one(
    start: Start, package: Path, tmp_path: Path
) -> None:
    altered(package, tmp_path / "package", {"probe.json": b"{}"})
    pod = start(tmp_path / "package", PELAGOS_MANIFEST_SHA256=package.name)
    assert pod.process.wait(60) == os.EX_DATAERR
    assert "package.json has been altered, or belongs to another package: sha256 " in pod.words()
    assert f"instead of {package.name}" in pod.words()


def test_a_package_of_an_earlier_version_is_refused_with_the_next_step(package: Path, tmp_path: Path) -> None:
    manifest, _ = altered(package, tmp_path / "package", {}, schemaVersion=1)
    with pytest.raises(RefusedError, match="older packages contain code; train or export the model again"):
        packages.verify(tmp_path / "package", manifest)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../escape", "model.py", "triton/1/model.py"])
def test_a_description_that_lists_more_than_a_package_holds_is_refused(
    package: Path, tmp_path: Path, name: str
) -> None:
    description = json.loads((package / "package.json").read_text())
    altered(package, tmp_path / "package", {}, files=description["files"] | {name: "0" * 64})
    with pytest.raises(RefusedError, match=r"'files' must list model\.onnx, probe\.png, probe\.json and nothing else"):
        packages.verify(tmp_path / "package", digest(tmp_path / "package"))


def test_a_link_in_a_package_is_refused(package: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(package, tmp_path / "package")
    (folder / "probe.json").rename(tmp_path / "elsewhere")
    (folder / "probe.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match=r"probe\.json cannot be read as a file of a package"):
        packages.verify(folder, package.name)


def test_a_pipe_in_a_package_is_refused_and_not_waited_for(package: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(package, tmp_path / "package")
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(RefusedError, match=r"model\.onnx is not a plain file"):
        packages.verify(folder, package.name)


def test_an_empty_volume_is_said_to_be_empty(start: Start, tmp_path: Path) -> None:
    pod = start(tmp_path / "nothing")
    assert pod.process.wait(60) == os.EX_DATAERR
    assert "there is no model package" in pod.words()


@pytest.mark.parametrize("name", ["PELAGOS_MODEL_NAME", "PELAGOS_TRITON_CONFIG", "PELAGOS_MANIFEST_SHA256"])
def test_a_variable_that_is_missing_is_named(start: Start, package: Path, name: str) -> None:
    pod = start(package, **{name: None})
    assert pod.process.wait(60) == os.EX_DATAERR
    assert f"{name} is not set" in pod.words()


def test_an_image_without_a_server_is_said_to_be_none(start: Start, package: Path) -> None:
    pod = start(package, PELAGOS_TRITON_HOME=None, PATH="/nowhere")
    assert pod.process.wait(60) == os.EX_DATAERR
    assert "tritonserver is not in PATH" in pod.words()


def test_it_starts_without_the_libraries_of_training() -> None:
    code = (
        "import sys; import pelagos_pipelines.serving.entrypoint, pelagos_pipelines.serving.fetch;"
        "print(sorted({'numpy', 'torch', 'pydantic', 'asyncio', 'obstore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
