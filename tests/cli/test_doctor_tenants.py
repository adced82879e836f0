"""What `pelagos doctor` reports about tenants on a real API server: objects that their settings name and that do not exist."""

from __future__ import annotations

from pathlib import Path

from cli.test_doctor import HOME, look, on_cluster, put, states
from control_plane import ControlPlane
from pelagos.cli.diagnosis import control_plane, tenants
from pelagos.cli.diagnosis.sections import examine
from pelagos.engines.diagnosis import DoctorContext, State
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.wiring import Credentials, rest_client
from plane_fixtures import api, plane

__all__ = ["api", "plane"]


async def test_what_a_tenant_names_and_does_not_have(api: KubernetesRest, plane: ControlPlane, tmp_path: Path) -> None:
    plane.create_namespace("poor")
    core = "/api/v1/namespaces/poor"
    data = {
        "serviceAccount": "nobody",
        "queue": "gpu",
        "priorities": "high",
        "objectsClaim": "objects",
        "trackingSecret": "mlflow",
    }
    put(plane, f"/api/v1/namespaces/{HOME}/configmaps", {"metadata": {"name": "pelagos-tenant-poor"}, "data": data})
    put(plane, f"{core}/secrets", {"metadata": {"name": "mlflow"}, "stringData": {"user": "one"}})
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    put(plane, f"{core}/persistentvolumeclaims", {"metadata": {"name": "objects"}, "spec": claim})
    settings = on_cluster(tmp_path, objects_secret="s3")

    findings = await examine(tenants.SECTION, DoctorContext(settings, api, HOME, ("poor",)))

    told = {finding.message: finding for finding in findings}
    assert "the Secret mlflow has the keys user" in told
    assert told["the Secret mlflow has the keys user"].hint.startswith("Put in MLFLOW_TRACKING_PASSWORD")
    assert "the Secret s3 does not exist" in told
    assert "the PersistentVolumeClaim objects is Pending, not Bound" in told
    assert "the ServiceAccount nobody does not exist" in told
    assert "the queue gpu is named, and Kueue is not installed" in told
    assert "priorities are named (high), and Kueue is not installed" in told
    assert "admits pods of level privileged; ours need no more than restricted" in told
    assert states(findings).count(State.FAILURE) == 6


async def test_what_kserve_needs_to_fetch_packages_is_looked_for(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.create_namespace("served")
    core, merge = "/api/v1/namespaces/served", "application/merge-patch+json"
    data = {"serviceAccount": "lab", "objectsSecret": "s3"}
    put(plane, f"/api/v1/namespaces/{HOME}/configmaps", {"metadata": {"name": "pelagos-tenant-served"}, "data": data})
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    put(plane, f"{core}/secrets", {"metadata": {"name": "s3"}, "stringData": keys})
    put(plane, f"{core}/serviceaccounts", {"metadata": {"name": "lab"}})
    storage = {"objects_uri": "s3://b/objects", "s3_endpoint": "http://store:9000", "s3_region": "us-east-1"}
    settings = on_cluster(tmp_path, serving_engine="kserve", **storage)

    async def told() -> str:
        findings = await examine(tenants.SECTION, DoctorContext(settings, api, HOME, ("served",)))
        return next(f"{each.message} → {each.hint}" for each in findings if "KServe" in each.message)

    assert "the ServiceAccount lab does not list the Secret s3" in await told()
    plane.request("PATCH", f"{core}/serviceaccounts/lab", {"secrets": [{"name": "s3"}]}, kind=merge)
    command = (await told()).partition("→ kubectl -n served annotate --overwrite secret s3 ")[2].split()
    assert command == [
        "serving.kserve.io/s3-endpoint=store:9000",
        "serving.kserve.io/s3-usehttps=0",
        "serving.kserve.io/s3-region=us-east-1",
    ]
    notes = dict(each.split("=") for each in command)
    plane.request("PATCH", f"{core}/secrets/s3", {"metadata": {"annotations": notes}}, kind=merge)
    assert (await told()).startswith("KServe finds the credentials of the storage (lab, s3)")


async def test_certificate_authorities_of_a_tenant_are_looked_for(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    settings = on_cluster(tmp_path, ca_config_map="private-ca")
    path = "/api/v1/namespaces/distrusting/configmaps"
    plane.create_namespace("distrusting")

    async def told() -> dict[str, State]:
        findings = await examine(tenants.SECTION, DoctorContext(settings, api, "pelagos-system", ("distrusting",)))
        return {finding.message: finding.state for finding in findings if "private-ca" in finding.message}

    fail = "pods that need its certificate authorities fail"
    assert await told() == {f"the ConfigMap private-ca does not exist: {fail}": State.FAILURE}
    put(plane, path, {"metadata": {"name": "private-ca"}, "data": {"ca.pem": "x"}})
    assert await told() == {f"the ConfigMap private-ca has no key ca.crt: {fail}": State.FAILURE}
    plane.request("PATCH", f"{path}/private-ca", {"data": {"ca.crt": "x"}}, kind="application/merge-patch+json")
    assert await told() == {"ConfigMap private-ca (ca.crt)": State.OK}


async def test_bad_tenant_settings_of_a_tenant_are_reported(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.create_namespace("wrong")
    body = {"metadata": {"name": "pelagos-tenant-wrong"}, "data": {"storagePrefix": "../other"}}
    put(plane, f"/api/v1/namespaces/{HOME}/configmaps", body)

    (finding,) = await examine(tenants.SECTION, DoctorContext(on_cluster(tmp_path), api, HOME, ("wrong",)))

    assert finding.state is State.FAILURE
    assert "storagePrefix is '../other'; allowed is" in finding.message
    assert finding.hint == f"kubectl -n {HOME} edit configmap pelagos-tenant-wrong"


async def test_what_a_tenant_wrote_where_it_is_not_read_any_more_is_reported(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.create_namespace("late")
    body = {"metadata": {"name": "pelagos-config"}, "data": {"storagePrefix": "institute"}}
    put(plane, "/api/v1/namespaces/late/configmaps", body)

    (finding,) = await examine(tenants.SECTION, DoctorContext(on_cluster(tmp_path), api, HOME, ("late",)))

    assert finding.state is State.FAILURE
    assert "the ConfigMap pelagos-config of namespace late is no longer read" in finding.message
    assert finding.hint == "kubectl -n late get configmap pelagos-config -o yaml"


async def test_a_namespace_that_nobody_has_made_a_tenant_is_told_with_the_command(
    plane: ControlPlane, tmp_path: Path
) -> None:
    stranger = rest_client(Credentials(plane.url, None, str(plane.authority), None))

    (finding,) = await examine(tenants.SECTION, DoctorContext(on_cluster(tmp_path), stranger, HOME, ("reef",)))

    assert finding.state is State.FAILURE
    assert "kubectl create rolebinding pelagos-operator --namespace reef" in finding.message
    await stranger.close()


async def test_rights_are_asked_for_in_the_namespaces_of_tenants(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    """For the operator's own account, which has no rights here."""
    put(plane, f"/api/v1/namespaces/{HOME}/serviceaccounts", {"metadata": {"name": "pelagos-operator"}})

    findings = await look(control_plane.SECTION, "rights", DoctorContext(on_cluster(tmp_path), api, HOME, ("reef",)))

    told = {finding.message: finding.hint for finding in findings}
    make = next(hint for message, hint in told.items() if "get deployments (apps) in the namespace reef" in message)
    assert "kubectl create rolebinding pelagos-operator --namespace reef" in make
    kinds = next(hint for message, hint in told.items() if "list datasets" in message)
    assert kinds.startswith("Apply the roles")


async def test_registers_that_are_asked_for_taxa_are_told_with_what_the_platform_has_to_allow(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.create_namespace("naming")
    for name, taxonomy in (
        ("public", {}),
        ("mirror", {"url": "http://worms.lab.example/rest"}),
        ("table", {"table": "a.csv"}),
    ):
        labels = {"taxonomy": {"authority": "WoRMS", **taxonomy}}
        body = {
            "apiVersion": "pelagos.dev/v1alpha1",
            "kind": "Dataset",
            "metadata": {"name": name},
            "spec": {"source": {"volume": {"path": "fish"}}, "task": "Detection", "labels": labels},
        }
        put(plane, "/apis/pelagos.dev/v1alpha1/namespaces/naming/datasets", body)
    asked = " is asked which taxa classes are (labels.taxonomy)"

    for hosts in ("", "http://worms.lab.example"):
        settings = on_cluster(tmp_path).model_copy(update={"source_hosts": hosts})
        findings = await examine(tenants.SECTION, DoctorContext(settings, api, HOME, ("naming",)))
        told = {finding.message: finding.hint for finding in findings}
        assert f"https://www.marinespecies.org/rest{asked}" in told
        if hosts:
            assert f"http://worms.lab.example/rest{asked}" in told
        else:
            hint = next(hint for message, hint in told.items() if "which sourceHosts does not allow" in message)
            assert hint == "Use https, or add http://worms.lab.example to sourceHosts of pelagos-tenant-naming."


async def test_secrets_of_sources_and_repositories_are_looked_for(
    api: KubernetesRest, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.create_namespace("fetching")
    source = {"http": {"url": "https://data.example/reef.zip", "secretRef": {"name": "reef"}}}
    body = {
        "apiVersion": "pelagos.dev/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "reef"},
        "spec": {"source": source, "task": "Detection", "publish": {"zenodo": {"secretRef": {"name": "zenodo"}}}},
    }
    put(plane, "/apis/pelagos.dev/v1alpha1/namespaces/fetching/datasets", body)
    settings = on_cluster(tmp_path).model_copy(update={"source_hosts": "10.20.0.0/16"})
    for made, message in (
        (None, "the Secret reef does not exist"),
        ({"password": "x"}, "the Secret reef has the keys password"),
    ):
        if made is not None:
            secret = {"metadata": {"name": "reef"}, "stringData": made}
            put(plane, "/api/v1/namespaces/fetching/secrets", secret)
        findings = await examine(tenants.SECTION, DoctorContext(settings, api, HOME, ("fetching",)))
        told = [finding.message for finding in findings]
        assert message in told
        assert "the Secret zenodo does not exist" in told
        assert (
            "sources and repositories are at public addresses over https, and from 10.20.0.0/16 (sourceHosts)" in told
        )
