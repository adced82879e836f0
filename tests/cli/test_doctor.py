"""`pelagos doctor` with a real API server, and servers that answer like Kubeflow Pipelines and MLflow, well or badly.

In: what is installed. Out: findings with what to do, the exit code, and JSON.
"""

from __future__ import annotations

import contextlib
import json
import urllib.error
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner, Result

from control_plane import ControlPlane
from model_packages import ENVIRONMENTS
from object_storage import ObjectStorage
from pelagos.api.admission import POLICIES
from pelagos.cli.diagnosis import control_plane, engines, nodes
from pelagos.cli.diagnosis.sections import Section, examine
from pelagos.cli.main import app
from pelagos.engines.diagnosis import DoctorContext, Finding, State
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.triton_local import records
from pelagos.engines.triton_local.records import Server
from pelagos.settings import Settings
from plane_fixtures import api, plane

__all__ = ["api", "plane"]

HOME = "default"
"""The operator's namespace."""
Serve = Callable[[dict[str, tuple[int, str]]], Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that answers paths, with or without their query, with a status and a text; any other path with 404."""
    runners: list[web.AppRunner] = []

    async def start(answers: dict[str, tuple[int, str]]) -> str:
        async def answer(request: web.Request) -> web.Response:
            status, text = answers.get(request.path_qs) or answers.get(request.path, (404, "not found"))
            return web.Response(status=status, text=text)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def on_cluster(tmp_path: Path, **more: Any) -> Settings:
    given = {"home": tmp_path, "pipelines_engine": "kubeflow", "serving_engine": "deployment", "leader_election": True}
    return Settings(**{**given, "kubeflow_url": "http://127.0.0.1:9", "tracking_uri": "http://127.0.0.1:9", **more})


async def look(section: Section, subject: str, context: DoctorContext) -> list[Finding]:
    """The findings of one check."""
    return [finding for finding in await examine(section, context) if finding.subject == subject]


def states(findings: list[Finding]) -> list[State]:
    return [finding.state for finding in findings]


def put(plane: ControlPlane, path: str, body: dict[str, Any]) -> None:
    try:
        plane.request("POST", path, body)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.__notes__) from error


async def test_kinds_rights_and_leader_of_a_fresh_cluster(api: KubernetesRest, tmp_path: Path) -> None:
    context = DoctorContext(on_cluster(tmp_path), api, "pelagos-system")

    assert states(await look(control_plane.SECTION, "kinds", context)) == [State.OK]
    (rights,) = await look(control_plane.SECTION, "rights", context)
    assert rights.state is State.OK
    assert "the user who runs this command has all" in rights.message
    (leader,) = await look(control_plane.SECTION, "leader", context)
    assert leader.message == "there is no Lease pelagos-system/pelagos-operator: no operator has ever led"


async def test_rights_that_the_operators_account_lacks_are_named_with_why(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.create_namespace("powerless")
    plane.request("POST", "/api/v1/namespaces/powerless/serviceaccounts", {"metadata": {"name": "pelagos-operator"}})

    findings = await look(control_plane.SECTION, "rights", DoctorContext(on_cluster(tmp_path), api, "powerless"))

    assert set(states(findings)) == {State.FAILURE}
    first = findings[0].message
    assert first.startswith(
        "system:serviceaccount:powerless:pelagos-operator may not get datasets, list datasets, watch datasets"
    )
    assert first.endswith(
        "(pelagos.dev): Read resources, check right before a launch that they still exist, and set their finalizer."
    )
    assert any("create leases" in finding.message for finding in findings)
    assert "kubectl apply --validate=false -k manifests/overlays/cluster" in findings[0].hint


async def test_a_leader_that_does_not_renew_is_a_warning(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.create_namespace("stale")
    spec = {"holderIdentity": "gone", "leaseDurationSeconds": 12, "renewTime": "2020-01-01T00:00:00.000000Z"}
    body = {"metadata": {"name": "pelagos-operator"}, "spec": spec}
    plane.request("POST", "/apis/coordination.k8s.io/v1/namespaces/stale/leases", body)

    (leader,) = await look(control_plane.SECTION, "leader", DoctorContext(on_cluster(tmp_path), api, "stale"))

    assert leader.state is State.WARNING
    assert leader.message.startswith("gone has not renewed the Lease stale/pelagos-operator for ")


async def test_a_server_without_admission_policies_is_no_problem(api: KubernetesRest, tmp_path: Path) -> None:
    (admission,) = await look(control_plane.SECTION, "admission", DoctorContext(on_cluster(tmp_path), api, "default"))

    assert admission.state is State.NOTE
    assert len(POLICIES) == 2


HEALTH, MANY = "/apis/v2beta1/healthz", '{"multi_user": true}'
RUNS = {"/apis/v2beta1/runs": (200, "{}")}


@pytest.mark.parametrize(
    ("answers", "namespace", "wanted", "words"),
    [
        ({HEALTH: (200, MANY), **RUNS}, "", [State.OK] * 2, "Kubeflow Pipelines (v2beta1)"),
        ({HEALTH: (200, "{}"), **RUNS}, "kubeflow", [State.OK] * 2, "Kubeflow Pipelines (v2beta1)"),
        ({HEALTH: (200, "{}"), **RUNS}, "", [State.OK, State.WARNING, State.OK], "single-user"),
        ({HEALTH: (200, MANY), **RUNS}, "one", [State.OK, State.WARNING, State.OK], "multi-user"),
        ({HEALTH: (200, "{}")}, "kubeflow", [State.OK, State.FAILURE], "may not list runs: 404 not found"),
        ({"/apis/v2beta1/healthz": (401, "who?")}, "", [State.FAILURE], "answers 401: who?"),
        ({}, "", [State.FAILURE], "answers 404"),
    ],
)
async def test_the_pipelines_server(  # noqa: PLR0917 - fixtures and parameters
    api: KubernetesRest,
    serve: Serve,
    tmp_path: Path,
    answers: dict[str, tuple[int, str]],
    namespace: str,
    wanted: list[State],
    words: str,
) -> None:
    url = await serve(answers)
    settings = on_cluster(tmp_path, kubeflow_url=url, kubeflow_namespace=namespace)

    findings = await look(engines.SECTION, "pipelines", DoctorContext(settings, api, "default"))

    assert states(findings) == wanted
    assert words in " ".join(finding.message for finding in findings)
    assert all(finding.hint for finding in findings if finding.state is not State.OK)


async def test_a_namespace_in_which_the_operator_may_not_see_runs_is_named(
    api: KubernetesRest, serve: Serve, tmp_path: Path
) -> None:
    runs = "/apis/v2beta1/runs?page_size=1&namespace="
    url = await serve({HEALTH: (200, MANY), f"{runs}reef": (200, "{}"), f"{runs}kelp": (403, "User cannot list runs")})
    context = DoctorContext(on_cluster(tmp_path, kubeflow_url=url), api, "default", ("reef", "kelp"))

    healthy, refused = await look(engines.SECTION, "pipelines", context)

    assert (healthy.state, refused.state) == (State.OK, State.FAILURE)
    assert refused.message == "the operator may not list runs in namespace kelp: 403 User cannot list runs"
    assert "kubeflow-edit in namespace kelp" in refused.hint


async def test_what_steps_need_in_their_namespace_is_looked_for(
    api: KubernetesRest, plane: ControlPlane, serve: Serve, tmp_path: Path
) -> None:
    plane.create_namespace("steps")
    core = "/api/v1/namespaces/steps"
    url = await serve({HEALTH: (200, MANY), **RUNS})
    context = DoctorContext(on_cluster(tmp_path, kubeflow_url=url), api, "default", ("steps",))

    async def told() -> dict[State, str]:
        found = await look(engines.SECTION, "steps", context)
        return {state: "; ".join(each.message for each in found if each.state is state) for state in State}

    bare = await told()
    assert (
        "the Secret mlpipeline-minio-artifact for artifacts at minio-service.kubeflow:9000 does not exist"
        in bare[State.FAILURE]
    )
    assert "the ServiceAccount default-editor" in bare[State.WARNING]

    credentials = {"secretRef": {"secretName": "store", "accessKeyKey": "a", "secretKeyKey": "k"}}
    providers = yaml.safe_dump({"minio": {"default": {"endpoint": "store.other:9000", "credentials": credentials}}})
    put(plane, f"{core}/configmaps", {"metadata": {"name": "kfp-launcher"}, "data": {"providers": providers}})
    put(plane, f"{core}/secrets", {"metadata": {"name": "store"}, "stringData": {"a": "one"}})
    put(plane, f"{core}/serviceaccounts", {"metadata": {"name": "default-editor"}})
    put(plane, f"{core}/resourcequotas", {"metadata": {"name": "two"}, "spec": {"hard": {"requests.cpu": "2"}}})
    half = await told()
    assert "the Secret store for artifacts at store.other:9000 has no key k" in half[State.FAILURE]
    assert "ResourceQuota two allows requests.cpu: 2 in all, and one step asks for 2" in half[State.WARNING]

    plane.request("DELETE", f"{core}/resourcequotas/two")
    plane.request("DELETE", f"{core}/secrets/store")
    put(plane, f"{core}/secrets", {"metadata": {"name": "store"}, "stringData": {"a": "one", "k": "two"}})
    whole = await told()
    assert (whole[State.FAILURE], whole[State.WARNING]) == ("", "")
    assert "artifacts go to store.other:9000 by the Secret store" in whole[State.OK]


async def test_a_data_volume_on_object_storage_is_looked_at(
    api: KubernetesRest, bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    there = on_cluster(tmp_path, data_uri=f"s3://{bucket}/data", s3_endpoint=object_storage.url)
    lost = on_cluster(tmp_path, data_uri="s3://no-such-bucket/data", s3_endpoint=object_storage.url)

    (found,) = await look(engines.SECTION, "data", DoctorContext(there, api, "default"))
    (missing,) = await look(engines.SECTION, "data", DoctorContext(lost, api, "default"))

    assert found.state is State.OK
    assert missing.state is State.FAILURE
    assert "no-such-bucket" in missing.message
    assert "PELAGOS_DATA_URI" in missing.hint


async def test_a_server_that_is_not_there_fails_in_bounded_time(api: KubernetesRest, tmp_path: Path) -> None:
    context = DoctorContext(on_cluster(tmp_path), api, "default")

    for subject in ("pipelines", "tracking"):
        (finding,) = await look(engines.SECTION, subject, context)
        assert finding.state is State.FAILURE
        assert "http://127.0.0.1:9" in finding.message


SEARCH = "/api/2.0/mlflow/experiments/search"


@pytest.mark.parametrize(
    ("answers", "wanted", "words"),
    [
        (
            {"/version": (200, "3.17.2"), SEARCH: (401, ""), "/api/2.0/mlflow/model-versions/get": (404, "{}")},
            State.OK,
            "MLflow 3.17.2",
        ),
        (
            {"/version": (200, "3.17.2"), SEARCH: (200, "{}")},
            State.WARNING,
            "everybody who can reach it may read and write",
        ),
        (
            {"/version": (200, "3.9.0"), SEARCH: (401, "")},
            State.WARNING,
            "versions before 3.16.1 have known vulnerabilities",
        ),
        ({"/version": (403, "Invalid Host header")}, State.FAILURE, "answers 403: Invalid Host header"),
        ({"/version": (200, "<html>")}, State.FAILURE, "says that its version is '<html>'"),
    ],
)
async def test_the_tracking_server(
    api: KubernetesRest,
    serve: Serve,
    tmp_path: Path,
    answers: dict[str, tuple[int, str]],
    wanted: State,
    words: str,
) -> None:
    settings = on_cluster(tmp_path, tracking_uri=await serve(answers))

    findings = await look(engines.SECTION, "tracking", DoctorContext(settings, api, "default"))

    (told,) = [finding for finding in findings if words in finding.message]
    assert told.state is wanted


async def test_an_embedded_tracking_server_without_a_login_is_a_warning(
    api: KubernetesRest, serve: Serve, tmp_path: Path
) -> None:
    uri = await serve({"/version": (200, "3.17.2"), SEARCH: (200, "{}")})
    context = DoctorContext(Settings(home=tmp_path, tracking_uri=uri), api, "default")

    findings = await look(engines.SECTION, "tracking", context)

    assert State.WARNING in {one.state for one in findings if "everybody who can reach it may read" in one.message}


@pytest.mark.parametrize(("mode", "state"), [(0o700, State.OK), (0o755, State.FAILURE), (0o710, State.FAILURE)])
async def test_a_home_that_others_may_look_into_is_reported(
    api: KubernetesRest, tmp_path: Path, mode: int, state: State
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(mode)
    context = DoctorContext(Settings(home=tmp_path / "home"), api, "default")

    (finding,) = await look(engines.SECTION, "home", context)

    assert finding.state is state


async def test_the_envoy_before_local_model_servers_is_looked_at(api: KubernetesRest, tmp_path: Path) -> None:
    async def told(environments: Path) -> tuple[State, str]:
        context = DoctorContext(Settings(home=tmp_path, environments=environments), api, "default")
        (finding,) = await look(engines.SECTION, "gateway", context)
        return finding.state, finding.message

    assert await told(ENVIRONMENTS) == (State.OK, "Envoy; no model is served")
    assert await told(tmp_path) == (State.FAILURE, "Envoy is missing in the environment triton")
    server = Server(1, "detector", "digest", 0, datetime.now(UTC), None)
    (tmp_path / "services" / "uid").mkdir(parents=True)
    records.write(tmp_path / "services" / "uid", records.State(server))
    assert await told(ENVIRONMENTS) == (State.FAILURE, "no Envoy runs in front of 1 model server")


async def test_without_kserve_the_other_engine_is_named(api: KubernetesRest, tmp_path: Path) -> None:
    settings = on_cluster(tmp_path, serving_engine="kserve", objects_uri="s3://bucket/prefix")

    (finding,) = await look(engines.SECTION, "serving", DoctorContext(settings, api, "default"))

    assert finding.state is State.FAILURE
    assert "PELAGOS_SERVING_ENGINE=deployment" in finding.hint


async def test_settings_that_contradict_each_other_are_reported(api: KubernetesRest, tmp_path: Path) -> None:
    context = DoctorContext(on_cluster(tmp_path, serving_engine="kserve"), api, "default")

    (finding,) = await look(engines.SECTION, "settings", context)

    assert finding.state is State.FAILURE
    assert "PELAGOS_OBJECTS_URI" in finding.message


async def test_without_the_metrics_server_scaling_is_a_warning(api: KubernetesRest, tmp_path: Path) -> None:
    (finding,) = await look(engines.SECTION, "scaling", DoctorContext(on_cluster(tmp_path), api, "default"))

    assert finding.state is State.WARNING


async def test_a_policy_that_cuts_the_operator_off_is_reported(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    endpoints = {
        "metadata": {"name": "kubernetes"},
        "subsets": [{"addresses": [{"ip": "10.1.0.1"}], "ports": [{"port": 6443}]}],
    }
    with contextlib.suppress(urllib.error.HTTPError):  # The server itself creates one, a moment after its start.
        plane.request("POST", "/api/v1/namespaces/default/endpoints", endpoints)
    found = plane.request("GET", "/api/v1/namespaces/default/endpoints/kubernetes")["subsets"][0]
    address, port = found["addresses"][0]["ip"], found["ports"][0]["port"]
    plane.create_namespace("closed")
    context = DoctorContext(on_cluster(tmp_path), api, "closed")
    path = "/apis/networking.k8s.io/v1/namespaces/closed/networkpolicies"

    def allow(cidr: str) -> None:
        to = {"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": port, "protocol": "TCP"}]}
        spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [to]}
        put(plane, path, {"metadata": {"name": "pelagos-operator"}, "spec": spec})

    (none,) = await look(control_plane.SECTION, "network", context)
    assert (none.state, none.message) == (State.NOTE, "no NetworkPolicy closes the namespace closed")
    allow("192.0.2.1/32")
    (told,) = await look(control_plane.SECTION, "network", context)
    assert told.state is State.FAILURE
    assert f"does not let the operator reach the API server at {address}:{port}" in told.message
    assert "networkPolicies.apiServer" in told.hint
    plane.request("DELETE", f"{path}/pelagos-operator")
    allow(f"{address}/32")
    (well,) = await look(control_plane.SECTION, "network", context)
    assert well.state is State.OK


@pytest.mark.parametrize(
    ("endpoint", "peers", "state", "words"),
    [
        ("", "", State.FAILURE, "where that of AWS is cannot be determined"),
        ("https://s3.example.org", "", State.FAILURE, "where https://s3.example.org is cannot be determined"),
        ("http://minio.minio:9000", "", State.OK, "may reach only the object storage (minio) and DNS"),
        ("", '{"peers": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}', State.OK, "(203.0.113.0/24)"),
    ],
)
async def test_where_model_servers_fetch_packages_is_reported(
    api: KubernetesRest, tmp_path: Path, endpoint: str, peers: str, state: State, words: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if peers:
            patch.setenv("PELAGOS_STORAGE_PEERS", peers)
        settings = on_cluster(tmp_path, objects_uri="s3://bucket/objects", s3_endpoint=endpoint)

    (found,) = await look(engines.SECTION, "network", DoctorContext(settings, api, "default"))

    assert found.state is state
    assert words in found.message


async def test_gpus_are_counted_by_product(api: KubernetesRest, plane: ControlPlane, tmp_path: Path) -> None:
    context = DoctorContext(on_cluster(tmp_path), api, "default")
    (none,) = await look(nodes.SECTION, "GPUs", context)
    assert none.state is State.WARNING

    for name, gpus in (("one", "4"), ("two", "2")):
        labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}
        put(plane, "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        status = {"status": {"allocatable": {"nvidia.com/gpu": gpus}, "capacity": {"nvidia.com/gpu": gpus}}}
        plane.request("PATCH", f"/api/v1/nodes/{name}/status", status, kind="application/merge-patch+json")

    (found,) = await look(nodes.SECTION, "GPUs", context)
    assert (found.state, found.message) == (State.OK, "6 NVIDIA-A100-SXM4-40GB")


async def test_a_check_that_breaks_spoils_no_other(api: KubernetesRest, tmp_path: Path) -> None:
    async def broken(context: DoctorContext) -> list[Finding]:
        raise KeyError(context.home)

    async def fine(context: DoctorContext) -> list[Finding]:
        return [Finding("fine", State.OK, context.home)]

    context = DoctorContext(on_cluster(tmp_path), api, "default")
    found = await examine(Section("Both", (("broken", broken), ("fine", fine))), context)

    assert [(finding.subject, finding.state) for finding in found] == [("broken", State.FAILURE), ("fine", State.OK)]


def run(monkeypatch: pytest.MonkeyPatch, kubeconfig: Path, home: Path, *arguments: str) -> Result:
    monkeypatch.setenv("PELAGOS_HOME", str(home))
    monkeypatch.setenv("PELAGOS_KUBECONFIG", str(kubeconfig))
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_the_command_tells_failures_and_their_remedies(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(monkeypatch, plane.kubeconfig, tmp_path)

    assert found.exit_code == 1
    assert "✘ tracking" in found.stdout
    assert "→ Set it, for example to http://mlflow.mlflow:5000" in found.stdout
    assert "✔ kinds" in found.stdout
    assert found.stdout.rstrip().splitlines()[-1].split(",")[0].endswith(("failure", "failures"))


def test_json_is_for_programs(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, plane.kubeconfig, tmp_path, "-o", "json")

    document = json.loads(found.stdout)
    assert document["server"] == plane.url
    failing = [each for each in document["findings"] if each["state"] == "failure"]
    assert document["failures"] == len(failing) > 0
    assert all(each["hint"] for each in failing)
    assert found.exit_code == 1


def test_a_server_that_is_away_is_one_finding(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = plane.kubeconfig.read_text(encoding="utf-8").replace(plane.url, "https://127.0.0.1:9")
    elsewhere = tmp_path / "kubeconfig"
    elsewhere.write_text(text, encoding="utf-8")

    found = run(monkeypatch, elsewhere, tmp_path)

    assert found.exit_code == 1
    assert "✘ server" in found.stdout
    assert "1 failure, no warnings" in found.stdout


def test_without_any_cluster_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, tmp_path / "none", tmp_path)

    assert found.exit_code == 1
    assert "no cluster is known" in str(found.exception)


async def test_the_client_of_weights_and_biases_is_optional(api: KubernetesRest, tmp_path: Path) -> None:
    context = DoctorContext(Settings(home=tmp_path, environments=tmp_path), api, "default")

    (missing,) = await look(engines.SECTION, "weights and biases", context)

    assert (missing.state, missing.hint) == (State.NOTE, "make wandb")
    (tmp_path / "wandb" / "bin").mkdir(parents=True)
    (tmp_path / "wandb" / "bin" / "python").touch()
    assert states(await look(engines.SECTION, "weights and biases", context)) == [State.OK]


@pytest.mark.parametrize(
    ("status", "text", "state", "words"),
    [
        (401, '{"error": "No credentials came with the request"}', State.OK, "the gateway checks who calls"),
        (404, '{"error": "default/pelagos-doctor is not served"}', State.OK, "the gateway checks who calls"),
        (404, "not found", State.FAILURE, "which the gateway would not"),
        (200, "welcome", State.FAILURE, "which the gateway would not"),
        (503, '{"error": "Who may call cannot be determined now"}', State.FAILURE, "nobody can call models"),
    ],
)
async def test_the_gateway_is_asked_as_a_stranger_would(
    api: KubernetesRest, serve: Serve, status: int, text: str, state: State, words: str
) -> None:
    url = await serve({"/default/pelagos-doctor/v2": (status, text)})
    context = DoctorContext(Settings(gateway_http=url), api, HOME, ("default",))
    (found,) = await engines.models(context)
    assert (found.subject, found.state) == ("models", state)
    assert words in found.message


async def test_where_there_is_no_gateway_nothing_is_said_of_one(api: KubernetesRest) -> None:
    assert await engines.models(DoctorContext(Settings(), api, HOME)) == []


@pytest.mark.parametrize(
    ("key", "state", "words"),
    [
        (b"k" * 32, State.OK, "the operator recognises the Trials that the hub created"),
        (b"short", State.FAILURE, "has 5 bytes"),
        (None, State.FAILURE, "there is no key"),
    ],
    ids=["there", "short", "absent"],
)
async def test_without_the_key_of_the_hub_its_trials_count_as_handwritten_ones(
    api: KubernetesRest, tmp_path: Path, key: bytes | None, state: State, words: str
) -> None:
    file = tmp_path / "signing-key"
    if key is not None:
        file.write_bytes(key)
    (found,) = await engines.trials(DoctorContext(Settings(hub_signing_key_file=file), api, HOME))
    assert (found.subject, found.state) == ("trials", state)
    assert words in found.message
    assert await engines.trials(DoctorContext(Settings(), api, HOME)) == []
