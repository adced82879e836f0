"""Models called through the gateway of `pelagos up`: as clients do, while models change, and while parts of it are killed."""

from __future__ import annotations

import base64
import json
import queue
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

import model_clients
import model_packages
from installations import ENVIRONMENTS, Installation, service
from model_packages import packages

__all__ = ["packages"]

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (ENVIRONMENTS / "gateway").is_dir(), reason="the environment gateway is not installed"),
]
IN_ORDER = True
"""The tests of this module build on each other."""
NAME = "called"


@dataclass
class Called:
    """A service behind the gateway."""

    site: Installation
    image: bytes
    packages: list[dict[str, str]]
    """Two sources of its model, as spec.model has them."""

    @property
    def http(self) -> str:
        return str(self.site.get("modelservice", NAME)["status"]["endpoints"]["gatewayHttp"])

    @property
    def grpc(self) -> str:
        return str(self.site.get("modelservice", NAME)["status"]["endpoints"]["gatewayGrpc"])

    def client(self, kind: str) -> Any:
        """A client that sends the image and returns the objects found."""
        address = self.http.removeprefix("http://") if kind == "http" else self.grpc
        headers = {} if kind == "http" else {"pelagos-service": f"default/{NAME}"}
        return model_clients.asking(kind, address, NAME, self.image, headers)


@pytest.fixture(scope="module")
def called(site: Installation, packages: dict[str, tuple[str, str]]) -> Iterator[Called]:
    made = Path(packages["Detection"][0])
    store = site.home / "objects" / "models" / "default"
    store.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, store / made.name)
    scratch = store / "scratch"
    other, _ = model_packages.altered(made, scratch, {}, dataset={"name": "colours", "version": "sha256:1"})
    scratch.rename(store / other)
    site.close_to_others(store)
    sources = [{"uri": str(store / name), "manifestSha256": name} for name in (made.name, other)]
    site.apply(service(NAME, sources[0], deletionPolicy="Delete"))
    site.wait_ready("modelservice", NAME, 120)
    yield Called(site, (made / "probe.png").read_bytes(), sources)
    site.kubectl("delete", "modelservice", NAME)


def test_the_usual_clients_get_the_answers_of_the_service_itself(called: Called) -> None:
    told = called.site.get("modelservice", NAME)["status"]["endpoints"]
    direct = tritonclient.grpc.InferenceServerClient(told["grpc"])
    given = tritonclient.grpc.InferInput("image", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[called.image]], dtype=np.object_))
    want = json.loads(direct.infer(NAME, [given]).as_numpy("prediction")[0, 0])
    assert want["detections"] != []
    assert called.client("http")() == want
    assert called.client("grpc")() == want


def test_an_image_in_base64_within_json_is_answered_in_json(called: Called) -> None:
    value = base64.b64encode(called.image + bytes(20_000)).decode()
    body = {"inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [value]}]}
    request = urllib.request.Request(
        f"{called.http}/v2/models/{NAME}/infer", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        outputs = {output["name"]: output["data"] for output in json.load(answer)["outputs"]}
    assert outputs["error"] == [""]
    assert json.loads(outputs["prediction"][0]) == called.client("grpc")()


def test_metadata_and_health_hold_through_the_gateway(called: Called) -> None:
    http = tritonclient.http.InferenceServerClient(called.http.removeprefix("http://"))
    assert http.is_server_ready()
    assert http.is_model_ready(NAME)
    assert "image" in {each["name"] for each in http.get_model_metadata(NAME)["inputs"]}
    rpc = tritonclient.grpc.InferenceServerClient(called.grpc)
    assert rpc.is_model_ready(NAME, headers={"pelagos-service": f"default/{NAME}"})
    with pytest.raises(tritonclient.utils.InferenceServerException, match="This is closed"):
        http.unload_model(NAME)


def test_a_stream_has_an_answer_for_each_image(called: Called) -> None:
    want, answers = called.client("grpc")(), queue.SimpleQueue[Any]()
    with tritonclient.grpc.InferenceServerClient(called.grpc) as client:
        client.start_stream(
            lambda result, error: answers.put(error or result), headers={"pelagos-service": f"default/{NAME}"}
        )
        for number, image in enumerate((called.image, b"no image", called.image)):
            given = tritonclient.grpc.InferInput("image", [1, 1], "BYTES")
            given.set_data_from_numpy(np.array([[image]], dtype=np.object_))
            client.async_stream_infer(NAME, [given], request_id=str(number))
        first, second, third = (answers.get(timeout=60) for _ in range(3))
    assert isinstance(second, tritonclient.utils.InferenceServerException), "the server has no word for it but an error"
    for number, answer in ((0, first), (2, third)):
        assert answer.get_response().id == str(number)
        assert json.loads(answer.as_numpy("prediction")[0, 0]) == want


@dataclass
class Loop:
    """Sends requests without a pause until it is stopped."""

    ask: Any
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ends.is_set():
            try:
                self.ask()
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.answers += 1


def test_a_change_of_the_model_loses_no_request(called: Called) -> None:
    loops = [Loop(called.client(kind)) for kind in ("http", "grpc")]
    threads = [threading.Thread(target=loop.run) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        called.site.apply(service(NAME, called.packages[1], deletionPolicy="Delete"))
        uri = called.packages[1]["uri"]
        called.site.wait(
            "the other model answers",
            lambda: called.site.get("modelservice", NAME)["status"]["model"]["uri"] == uri,
        )
        called.site.wait_ready("modelservice", NAME, 120)
        time.sleep(1)
    finally:
        for loop, thread in zip(loops, threads, strict=True):
            loop.ends.set()
            thread.join()
    assert [loop.errors for loop in loops] == [[], []]
    assert all(loop.answers > 20 for loop in loops)


def status_of(called: Called, token: str, service: str = NAME) -> int:
    """The HTTP status of a request with the token of a trial."""
    url = called.http.replace(f"/{NAME}", f"/{service}") + "/v2/health/ready"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_token_of_a_trial_opens_its_service_until_it_is_stopped(called: Called) -> None:
    site = called.site
    body = {
        "apiVersion": "pelagos.dev/v1alpha1",
        "kind": "Trial",
        "metadata": {"name": "mine"},
        "spec": {"modelServiceRef": {"name": NAME}, "user": "ada", "duration": "5m"},
    }
    site.apply(body)
    site.wait("the trial is open", lambda: site.get("trial", "mine").get("status", {}).get("phase") == "Open")
    secret = site.get("secret", site.get("trial", "mine")["status"]["tokenSecretRef"]["name"])
    token = base64.b64decode(secret["data"]["token"]).decode()
    site.wait("the token is good", lambda: status_of(called, token) == 200)
    assert status_of(called, token, "another") == 403
    assert status_of(called, token[:-1] + ("a" if token[-1] != "a" else "b")) == 401
    site.kill(site.running("operator"))
    assert status_of(called, token) == 200
    site.kubectl("delete", "trial", "mine", "--wait=false")
    site.wait("the token is good no more", lambda: status_of(called, token) == 401)


@pytest.mark.parametrize("what", ["pelagos_gateway", "front/bootstrap.json"])
def test_what_is_killed_of_the_gateway_is_back_at_the_same_addresses(called: Called, what: str) -> None:
    ask = called.client("grpc")
    ask()
    addresses = called.http, called.grpc
    (killed,) = [pid for pid in called.site.processes(what) if "wrapper" not in _command(pid)]
    called.site.kill(killed)

    def answers() -> bool:
        try:
            return bool(ask()["detections"])
        except tritonclient.utils.InferenceServerException:
            return False

    called.site.wait("another one answers", lambda: killed not in called.site.processes(what) and answers())
    assert (called.http, called.grpc) == addresses


def test_models_answer_while_the_operator_and_the_api_server_are_away(called: Called) -> None:
    ask = called.client("http")
    for part in ("operator", "apiserver"):
        called.site.kill(called.site.running(part))
    assert ask()["detections"] != []
    called.site.wait(
        "the API server is back", lambda: "ok" in called.site.kubectl("get", "--raw", "/readyz", check=False)
    )
    called.site.wait_ready("modelservice", NAME, 120)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{called.http.replace(NAME, 'nobody')}/v2", timeout=60)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
