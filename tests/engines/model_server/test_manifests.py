"""Properties of the objects of model servers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from pelagos.engines.deployment import manifests as deployment_manifests
from pelagos.engines.kserve import manifests as kserve_manifests
from pelagos.engines.model_server import gateway as model_server_gateway
from pelagos.engines.model_server import marks, network, pod_template
from pelagos.engines.model_server.options import Options
from pelagos.ports.errors import RejectedError
from pelagos.ports.placement import Placement, Toleration, tolerated
from pelagos.ports.pods import ServerPods
from pelagos.ports.serving import DesiredService, Scaling
from pelagos.ports.tenants import Tenant
from pelagos.settings import Settings

WANT = DesiredService(
    uid="0f", namespace="lab", name="detector", model_name="detector", package_uri="/objects/packages/ab", onnx_sha256="ab",
    manifest_sha256="cd",
    max_batch_size=4, max_queue_delay=0, instances=2, confidence="0.25", iou="0.7", cpu=2, digest="sha256:1",
)  # fmt: skip
GIVEN = Options(image="serving:1", objects_root="/objects", objects_claim="objects", s3_endpoint="http://minio.s3:9900")
REMOTE = replace(WANT, package_uri="s3://bucket/packages/ab")


@pytest.mark.parametrize("name", ["detector", "a.b", "9-lives", "x" * 253, "a" * 63, "a" * 62 + ".b"])
def test_names_are_labels_and_differ_when_resources_do(name: str) -> None:
    made = marks.object_name(name, 53)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", made)
    assert made == marks.object_name(name, 53)
    assert made != marks.object_name(f"{name}b", 53)
    assert made != marks.object_name(name.replace(".", "-") + "-", 53)


def test_an_allowed_name_stays_as_it_is() -> None:
    assert marks.object_name("detector-2", 53) == "detector-2"


@pytest.mark.parametrize("want", [WANT, REMOTE], ids=["claim", "s3"])
def test_pods_are_allowed_by_the_restricted_pod_security_level(want: DesiredService) -> None:
    spec = deployment_manifests.pod(want, "name: 'x'", GIVEN)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
    assert {kind for volume in spec["volumes"] for kind in volume} <= {"name", "emptyDir", "persistentVolumeClaim"}


def gateway_of(containers: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in containers if each["name"] == "gateway")


def containers_of(engine: str, want: DesiredService) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """The server's container, its gateway's, and the pod's volumes."""
    if engine == "deployment":
        pod = deployment_manifests.pod(want, "name: 'x'", GIVEN)
        return pod["containers"][0], gateway_of(pod["containers"]), pod["volumes"]
    predictor = kserve_manifests.inference_service(want, "name: 'x'", GIVEN)["spec"]["predictor"]
    return predictor["model"], gateway_of(predictor["containers"]), predictor["volumes"]


@pytest.mark.parametrize("engine", ["deployment", "Standard", "Knative"])
@pytest.mark.parametrize("want", [WANT, REMOTE], ids=["claim", "s3"])
def test_clients_reach_a_gateway_that_holds_nothing_of_the_server_but_its_sockets(
    engine: str, want: DesiredService
) -> None:
    mode: Any = "Knative" if engine == "Knative" else "Standard"
    given = replace(want, scaling=Scaling(mode=mode), tenant=Tenant(objects_secret="s3-of-the-lab"))
    server, gateway, volumes = containers_of(engine, given)
    ours = {each["name"] for each in server["volumeMounts"]}
    assert {each["name"] for each in gateway["volumeMounts"]} == {"gateway", "sockets"}
    assert ours & {"gateway", "sockets"} == {"sockets"}
    assert {"gateway", "sockets"} <= {each["name"] for each in volumes}
    assert gateway["image"] == server["image"] == GIVEN.image
    assert gateway["securityContext"].items() >= pod_template.container_security().items()
    assert "secret" not in str(gateway["env"]).lower()
    assert gateway["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert ("lifecycle" in gateway) == (mode == "Standard")
    for values in (server, gateway):
        assert {"name": "PELAGOS_SOCKETS", "value": "/run/pelagos"} in values["env"]


def test_the_gateway_opens_the_pods_ports_and_leads_to_sockets_alone() -> None:
    config = json.loads(model_server_gateway.config(WANT))
    resources = config["static_resources"]
    addresses = [each["address"]["socket_address"] for each in resources["listeners"]]
    assert {(each["address"], each["port_value"]) for each in addresses} == {
        ("0.0.0.0", port) for _, port in pod_template.PORTS
    }
    endpoints = [
        each["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        for each in resources["clusters"]
    ]
    assert sorted(each["pipe"]["path"] for each in endpoints) == [
        "/run/pelagos/grpc:1",
        "/run/pelagos/http",
        "/run/pelagos/metrics",
    ]
    assert config["admin"]["address"]["pipe"] == {"path": "/run/pelagos/admin", "mode": 0o600}
    assert len(model_server_gateway.config(WANT)) < 128 * 1024, "what Linux allows for a variable"


def test_on_a_full_node_the_gateway_may_request_no_processor() -> None:
    given = Options.from_settings(Settings(gateway_millicores=0), "/objects")
    made = model_server_gateway.container(WANT, given)
    assert made["resources"]["requests"]["cpu"] == "0m"


def test_a_service_of_plain_pods_leads_to_the_gateway() -> None:
    pod = deployment_manifests.pod(WANT, "", GIVEN)
    assert "ports" not in pod["containers"][0]
    assert {each["containerPort"] for each in gateway_of(pod["containers"])["ports"]} == {8080, 9000, 8002}


def test_a_package_on_a_claim_is_mounted_read_only_and_alone() -> None:
    spec = deployment_manifests.pod(WANT, "", GIVEN)
    assert "initContainers" not in spec
    mount = next(each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "models")
    assert mount == {"name": "models", "mountPath": "/mnt/models", "readOnly": True, "subPath": "packages/ab"}


def test_credentials_of_the_storage_reach_only_what_fetches_the_package() -> None:
    want = replace(REMOTE, tenant=Tenant(objects_secret="s3-of-the-lab"))
    spec = deployment_manifests.pod(want, "", replace(GIVEN, objects_secret="shared"))
    (fetch,) = spec["initContainers"]
    given = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in fetch["env"] if "valueFrom" in each}
    assert given == {
        key: {"name": "s3-of-the-lab", "key": key} for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    }
    assert "envFrom" not in fetch
    assert "s3-of-the-lab" not in str(spec["containers"])
    assert {"name": "AWS_ENDPOINT_URL", "value": "http://minio.s3:9900"} in fetch["env"]


@pytest.mark.parametrize("tenant", [Tenant(), Tenant(ca_config_map="ca-of-the-lab")])
def test_what_fetches_the_package_trusts_the_certificate_authorities_of_the_tenant(tenant: Tenant) -> None:
    spec = deployment_manifests.pod(replace(REMOTE, tenant=tenant), "", replace(GIVEN, ca_config_map="ca"))

    (fetch,) = spec["initContainers"]
    assert {"name": "AWS_CA_BUNDLE", "value": "/etc/pelagos/ca/ca.crt"} in fetch["env"]
    assert {"name": "ca", "mountPath": "/etc/pelagos/ca", "readOnly": True} in fetch["volumeMounts"]
    assert {"name": "ca", "configMap": {"name": tenant.ca_config_map or "ca"}} in spec["volumes"]


def test_without_a_private_authority_pods_trust_those_of_the_system() -> None:
    spec = deployment_manifests.pod(REMOTE, "", GIVEN)

    assert "AWS_CA_BUNDLE" not in {each["name"] for each in spec["initContainers"][0]["env"]}
    assert all("configMap" not in volume for volume in spec["volumes"])


def test_a_folder_that_no_pod_can_reach_is_refused_with_the_settings_that_help() -> None:
    with pytest.raises(RejectedError, match=r"PELAGOS_OBJECTS_URI .* PELAGOS_OBJECTS_CLAIM"):
        deployment_manifests.pod(WANT, "", replace(GIVEN, objects_claim=""))
    with pytest.raises(RejectedError, match=r"not below /objects"):
        kserve_manifests.inference_service(replace(WANT, package_uri="/else/where"), "", GIVEN)


@pytest.mark.parametrize("make", [deployment_manifests.deployment, kserve_manifests.inference_service])
def test_requests_and_limits_stand_apart_in_the_pods(make: Any) -> None:
    placement = Placement(memory="1Gi", memory_limit="2Gi", millicores=250, millicores_limit=1500)
    text = json.dumps(make(replace(REMOTE, placement=placement), "", GIVEN))

    want = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "3", "memory": "2Gi"}}
    assert json.dumps(want) in text


def test_what_whole_cores_are_recorded_as_is_what_it_was_before_there_were_fractions() -> None:
    fields = {"memory", "gpus", "gpu_product", "shared_memory", "node_selector", "tolerations", "queue"}
    apart = replace(WANT, placement=Placement(millicores=500, millicores_limit=1500, memory_limit="2Gi"))

    # KServe copies annotations to the pods, and would replace all of them.
    assert json.loads(marks.record(WANT)[marks.WANT_ANNOTATION])["placement"].keys() == fields
    assert marks.recorded({"metadata": {"annotations": marks.record(apart)}}) == apart


def test_a_limit_below_what_is_requested_is_refused_with_both_values() -> None:
    placement = Placement(memory="2Gi", memory_limit="2000Mi")

    with pytest.raises(
        RejectedError, match=r"spec.resources.limits.memory is 2000Mi, below spec.resources.memory \(2Gi\)"
    ):
        deployment_manifests.pod(replace(WANT, placement=placement), "", GIVEN)


ADDED = ServerPods.model_validate(
    {
        "labels": {"example.org/mesh": "off"},
        "annotations": {"example.org/note": "n"},
        "env": {"HTTPS_PROXY": "http://proxy:3128", "PELAGOS_MODEL_NAME": "another"},
        "nodeSelector": {"zone": "b", "pool": "serving"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "serving",
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    }
)


@pytest.mark.parametrize("user", ["20000", ""], ids=["another user", "whom the cluster gives"])
def test_pods_run_as_the_user_that_the_platform_says_or_says_none(user: str) -> None:
    given = replace(GIVEN, user=user)
    want = {"runAsUser": int(user), "runAsGroup": int(user)} if user else {}
    inference_service = kserve_manifests.inference_service(REMOTE, "", given)

    for spec in (deployment_manifests.pod(REMOTE, "", given), inference_service["spec"]["predictor"]):
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} | want
    knative = kserve_manifests.inference_service(replace(REMOTE, scaling=Scaling(mode="Knative")), "", given)
    assert ("runAsUser" in json.dumps(knative)) is bool(user)


def test_what_a_platform_adds_is_in_the_pods_of_both_engines_and_takes_nothing_of_ours() -> None:
    given, want = replace(GIVEN, pods=ADDED), replace(REMOTE, placement=Placement(node_selector={"zone": "a"}))
    template = deployment_manifests.deployment(want, "", given)["spec"]["template"]
    predictor = kserve_manifests.inference_service(want, "", given)["spec"]["predictor"]

    for metadata, spec in ((template["metadata"], template["spec"]), (predictor, predictor)):
        assert metadata["labels"].items() >= ({"example.org/mesh": "off"} | marks.selector(want)).items()
        assert metadata["annotations"]["example.org/note"] == "n"
        assert spec["nodeSelector"] == {"zone": "a", "pool": "serving"}
        assert {"key": "dedicated", "operator": "Exists"} in spec["tolerations"]
        assert (spec["priorityClassName"], spec["affinity"]) == ("serving", {"nodeAffinity": {}})
        (spread,) = spec["topologySpreadConstraints"]
        assert spread["labelSelector"] == {"matchLabels": marks.selector(want)}
    server = template["spec"]["containers"][0]
    variables = {each["name"]: each["value"] for each in server["env"]}
    assert (variables["HTTPS_PROXY"], variables["PELAGOS_MODEL_NAME"]) == ("http://proxy:3128", "detector")
    assert "HTTPS_PROXY" in {each["name"] for each in template["spec"]["initContainers"][0]["env"]}


def test_gpus_are_asked_for_with_the_nodes_that_have_them() -> None:
    placement = Placement(memory="16Gi", gpus=1, gpu_product="NVIDIA-L4", node_selector={"zone": "a"})
    spec = deployment_manifests.pod(replace(WANT, placement=placement), "", GIVEN)
    resources = spec["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"} == resources["requests"]
    assert spec["nodeSelector"] == {"zone": "a", "nvidia.com/gpu.product": "NVIDIA-L4"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_an_autoscaler_alone_decides_about_replicas() -> None:
    fixed = deployment_manifests.deployment(replace(WANT, scaling=Scaling(minimum=2, maximum=2)), "", GIVEN)
    assert fixed["spec"]["replicas"] == 2
    scaled = deployment_manifests.deployment(replace(WANT, scaling=Scaling(minimum=2, maximum=5)), "", GIVEN)
    assert "replicas" not in scaled["spec"]


def test_the_digest_alone_changes_the_pods() -> None:
    one, other = (deployment_manifests.deployment(replace(WANT, digest=digest), "", GIVEN) for digest in ("1", "2"))
    assert one["spec"]["template"] != other["spec"]["template"]
    assert one["spec"]["selector"] == other["spec"]["selector"]


def test_the_want_is_known_again_from_what_was_made_for_it() -> None:
    want = replace(WANT, scaling=Scaling(maximum=3), placement=Placement(tolerations=(Toleration("a"),)))
    made = deployment_manifests.deployment(want, "", GIVEN)
    assert marks.recorded(made) == want
    assert marks.recorded({"metadata": {"annotations": {"pelagos.dev/want": "{"}}}) is None


def test_restarts_are_forgotten_with_the_want_that_they_were_for() -> None:
    annotations = {"pelagos.dev/restarts": "3 old digest", "pelagos.dev/digest": "old digest"}
    assert marks.restarts({"metadata": {"annotations": annotations}}) == 3
    assert marks.restarts({"metadata": {"annotations": annotations | {"pelagos.dev/digest": "new"}}}) == 0


def admitted(given: Options) -> list[tuple[str, str, list[int]]]:
    """Who may reach which ports: namespace, pod name, ports. Empty: the server's own namespace, any name."""
    made = []
    for rule in network.network_policy(WANT, given, "x")["spec"]["ingress"]:
        for peer in rule["from"]:
            namespace = peer.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": ""}})
            name = peer["podSelector"].get("matchLabels", {"app.kubernetes.io/name": ""})
            ports = [each["port"] for each in rule["ports"]]
            made.append(
                (namespace["matchLabels"]["kubernetes.io/metadata.name"], name["app.kubernetes.io/name"], ports)
            )
    return made


def test_nobody_reaches_a_server_by_the_name_of_a_pod_in_another_namespace() -> None:
    inside = replace(GIVEN, operator_namespace="pelagos-system")
    neighbours, operator = ("", "", [8080, 9000]), ("pelagos-system", "pelagos-operator", [8002, 8080, 9000])
    assert admitted(inside) == [neighbours, operator, ("pelagos-system", "prometheus", [8002])]
    watched = replace(inside, monitoring_namespace="monitoring")
    assert admitted(watched) == [neighbours, operator, ("monitoring", "prometheus", [8002])]
    # An operator outside of the cluster is not a pod.
    assert admitted(GIVEN) == [neighbours]


def test_the_policy_knows_the_namespaces_of_the_settings() -> None:
    settings = Settings(serving_image="i", lease_namespace="own", monitoring_namespace="metrics")
    given = Options.from_settings(settings, "/objects")
    assert (given.operator_namespace, given.monitoring_namespace) == ("own", "metrics")


VOID = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}


@pytest.mark.parametrize(("gpus", "hidden"), [(0, True), (1, False)])
def test_only_a_server_that_asked_for_gpus_sees_any(gpus: int, hidden: bool) -> None:
    want = replace(REMOTE, placement=Placement(gpus=gpus))
    spec = deployment_manifests.pod(want, "", GIVEN)
    assert (VOID in spec["containers"][0]["env"]) is hidden
    assert VOID in spec["initContainers"][0]["env"]
    made = kserve_manifests.inference_service(want, "", GIVEN)
    assert (VOID in made["spec"]["predictor"]["model"]["env"]) is hidden


def test_whoever_uses_gpus_tolerates_their_nodes_and_nobody_else_does() -> None:
    lab = Toleration(key="lab", operator="Exists")
    placement = Placement(gpus=1, tolerations=(lab,))
    assert tolerated(placement, 1) == (lab, Toleration("nvidia.com/gpu", "Exists", "", "NoSchedule"))
    assert tolerated(placement, 0) == (lab,)
    own = (Toleration("nvidia.com/gpu", "Equal", "shared", "NoExecute"),)
    assert tolerated(Placement(gpus=1, tolerations=own), 1) == own
