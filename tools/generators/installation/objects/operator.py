"""The operator itself: its namespace, identity, Deployment and the Service of its metrics."""

from __future__ import annotations

from typing import Any

from generators.installation.nodes import (
    All,
    Any_,
    AppVersion,
    Choice,
    Condition,
    Digits,
    Each,
    Equal,
    First,
    Given,
    Item,
    Json,
    Not,
    Release,
    Text,
    Value,
    When,
)
from generators.installation.objects import common
from pelagos.api import meta

_HOME = "/var/lib/pelagos"
MOUNTS = "/etc/pelagos"
"""Folder of credentials and certificates."""
AUTHORITY = "authority"
OBJECTS_FOLDER, DATA_FOLDER = "/pelagos/objects", "/pelagos/data"
_BASIC: Condition = Equal(Value("tracking.auth"), "Basic")
_TOKEN: Condition = Equal(Value("tracking.auth"), "Token")
_OBJECTS_ON_S3: Condition = Given(Value("storage.objects"))
_DATA_ON_S3: Condition = Given(Value("storage.data"))
_OBJECTS_ON_CLAIM: Condition = All((Not(_OBJECTS_ON_S3), Given(Value("storage.objectsClaim"))))
_IS_PAIR: Condition = Equal(Digits(Value("operator.replicas")), "2")
_DATA_ON_CLAIM: Condition = All((Not(_DATA_ON_S3), Given(Value("storage.dataClaim"))))


def namespace() -> Any:
    """The operator's namespace, in which only restricted pods run."""
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": Release("Namespace"), "labels": common.labels("namespace") | common.RESTRICTED},
    }
    return When(Given(Value("createNamespace")), body)


def service_account() -> Any:
    """The operator's identity. Only its own pod asks for a token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": common.metadata(common.NAME, "operator"),
        "automountServiceAccountToken": False,
    }


def service() -> Any:
    """Where Prometheus finds the metrics."""
    port = {"name": "metrics", "port": common.METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": common.metadata(common.NAME, "operator"),
        "spec": {"type": "ClusterIP", "selector": common.selector("operator"), "ports": [port]},
    }


def deployments() -> list[Any]:
    """One for all resources, or one for each shard of them."""
    return [When(Not(common.IS_SHARDED), _deployment(None)), Each("operator.shards", (_deployment(Item("selector")),))]


def _deployment(watched: Item | None) -> dict[str, Any]:
    """One replica is replaced: the old one ends, and releases the Lease, before the new one starts. Of two, one waits for it."""
    name = common.NAME if watched is None else common.SHARD_NAME
    shard = {} if watched is None else {meta.SHARD_LABEL: Item("name")}
    template = {
        "metadata": {
            "labels": common.labels("operator") | shard,
            "annotations": When(Given(Value("operator.podAnnotations")), Value("operator.podAnnotations")),
        },
        "spec": _pod(name, watched) | {"topologySpreadConstraints": When(_IS_PAIR, [_apart(shard)])},
    }
    metadata = common.metadata(name, "operator")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata | {"labels": metadata["labels"] | shard},
        "spec": {
            "replicas": Value("operator.replicas"),
            "revisionHistoryLimit": 3,
            "strategy": {
                "type": Choice(_IS_PAIR, "RollingUpdate", "Recreate"),
                "rollingUpdate": When(_IS_PAIR, {"maxUnavailable": 0, "maxSurge": 1}),
            },
            "selector": {"matchLabels": common.selector("operator") | shard},
            "template": template,
        },
    }


def _apart(shard: dict[str, Any]) -> dict[str, Any]:
    """Two replicas on one node would go with it."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": common.selector("operator") | shard},
    }


def _pod(lease: Any, watched: Item | None) -> dict[str, Any]:
    def given(key: str) -> When:
        return When(Given(Value(key)), Value(key))

    return {
        "serviceAccountName": common.NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "priorityClassName": given("operator.priorityClassName"),
        "nodeSelector": given("operator.nodeSelector"),
        "tolerations": given("operator.tolerations"),
        "affinity": given("operator.affinity"),
        "imagePullSecrets": given("image.pullSecrets"),
        "securityContext": common.POD_SECURITY,
        "containers": [_container(_environment(lease, watched))],
        "volumes": _volumes(),
    }


def _container(environment: list[Any]) -> dict[str, Any]:
    by_tag = Text("%s:%s", (Value("image.repository"), First(Value("image.tag"), AppVersion())))
    by_digest = Text("%s@%s", (Value("image.repository"), Value("image.digest")))
    return {
        "name": "operator",
        "image": Choice(Given(Value("image.digest")), by_digest, by_tag),
        "imagePullPolicy": Value("image.pullPolicy"),
        "ports": [{"name": "metrics", "containerPort": common.METRICS_PORT, "protocol": "TCP"}],
        "env": environment,
        "resources": Value("operator.resources"),
        "securityContext": common.CONTAINER_SECURITY,
        # Starting takes seconds; what is slow is a cluster whose API server is.
        "startupProbe": _probe("/healthz", period=2, failures=60),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=10, failures=3),
        "volumeMounts": _mounts(),
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "metrics", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": failures,
    }


def _environment(lease: Any, watched: Item | None) -> list[Any]:
    """Settings stand in the pod itself, so that the operator starts anew when one changes."""
    own = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    fixed = {
        "PELAGOS_HOME": _HOME,
        "PELAGOS_LISTEN_ADDRESS": "0.0.0.0",
        "PELAGOS_METRICS_PORT": str(common.METRICS_PORT),
        "PELAGOS_LEADER_ELECTION": "true",
        "PELAGOS_LEASE_NAME": lease,
        "PELAGOS_PIPELINES_ENGINE": "kubeflow",
        "PELAGOS_AUTHORITY_FOLDER": f"{MOUNTS}/{AUTHORITY}",
    }
    return [
        *({"name": name, "value": value} for name, value in fixed.items()),
        {"name": "PELAGOS_LEASE_NAMESPACE", "valueFrom": own},
        *([] if watched is None else [{"name": "PELAGOS_WATCH_SELECTOR", "value": watched}]),
        *_chosen(),
        *_credentials(),
    ]


def _chosen() -> list[Any]:
    always = {
        "PELAGOS_LEASE_SECONDS": Digits(Value("operator.leaseSeconds")),
        "PELAGOS_CONCURRENT_RECONCILES": Digits(Value("operator.concurrentReconciles")),
        "PELAGOS_PROBE_INTERVAL": Digits(Value("operator.probeInterval")),
        "PELAGOS_MAX_IMAGE_MEGAPIXELS": Digits(Value("ceilings.imageMegapixels")),
        "PELAGOS_MAX_IMAGE_MEBIBYTES": Digits(Value("ceilings.imageMebibytes")),
        "PELAGOS_MAX_IMAGE_MEMORY": Digits(Value("ceilings.imageMemory")),
        "PELAGOS_MAX_IMAGE_SECONDS": Digits(Value("ceilings.imageSeconds")),
        "PELAGOS_MAX_CHECKPOINT_MEBIBYTES": Digits(Value("ceilings.checkpointMebibytes")),
        "PELAGOS_MAX_ANNOTATION_MEBIBYTES": Digits(Value("ceilings.annotationMebibytes")),
        "PELAGOS_MAX_ANNOTATIONS": Digits(Value("ceilings.annotations")),
        "PELAGOS_MAX_ANNOTATION_SECONDS": Digits(Value("ceilings.annotationSeconds")),
        "PELAGOS_SERVING_ENGINE": Value("engines.serving"),
        "PELAGOS_TRAINER_IMAGE": Value("engines.trainerImage"),
        "PELAGOS_SERVING_IMAGE": Value("engines.servingImage"),
        "PELAGOS_IMAGE_PULL_POLICY": Value("image.pullPolicy"),
        "PELAGOS_GATEWAY_MILLICORES": Digits(Value("engines.gatewayMillicores")),
        "PELAGOS_KUBEFLOW_URL": Value("kubeflow.url"),
        "PELAGOS_TRACKING_URI": Value("tracking.url"),
        "PELAGOS_MONITORING_NAMESPACE": Value("networkPolicies.monitoringNamespace"),
        "PELAGOS_MODEL_CLIENTS": Json(Value("networkPolicies.clients")),
        "PELAGOS_DNS_PEERS": Json(Value("networkPolicies.dns")),
    }
    where_given = {
        "PELAGOS_ALLOWED_HOSTS": "operator.allowedHosts",
        "PELAGOS_KUBEFLOW_PUBLIC_URL": "kubeflow.publicUrl",
        "PELAGOS_KUBEFLOW_NAMESPACE": "kubeflow.namespace",
        "PELAGOS_TRACKING_PUBLIC_URL": "tracking.publicUrl",
        "PELAGOS_TRACKING_SECRET": "tracking.tenantSecret",
        "PELAGOS_CA_CONFIG_MAP": "engines.ca",
        "PELAGOS_OBJECTS_URI": "storage.objects",
        "PELAGOS_DATA_URI": "storage.data",
    }
    on_s3 = {"PELAGOS_S3_REGION": "storage.region", "PELAGOS_OBJECTS_SECRET": "storage.tenantSecret"}
    some_on_s3 = Any_((_OBJECTS_ON_S3, _DATA_ON_S3))
    return [
        When(Not(common.IS_CLUSTERWIDE), {"name": "PELAGOS_NAMESPACE", "value": common.WATCHED}),
        *({"name": name, "value": value} for name, value in always.items()),
        *(When(Given(Value(path)), {"name": name, "value": Value(path)}) for name, path in where_given.items()),
        *(When(some_on_s3, {"name": name, "value": Value(path)}) for name, path in on_s3.items()),
        When(
            All((some_on_s3, Given(Value("storage.endpoint")))),
            {"name": "PELAGOS_S3_ENDPOINT", "value": Value("storage.endpoint")},
        ),
        When(
            Given(Value("networkPolicies.storage.peers")),
            {"name": "PELAGOS_STORAGE_PEERS", "value": Json(Value("networkPolicies.storage"))},
        ),
        *_claims(),
    ]


def _claims() -> list[Any]:
    return [
        When(condition, {"name": name, "value": value})
        for condition, claim, folder, prefix in (
            (_OBJECTS_ON_CLAIM, Value("storage.objectsClaim"), OBJECTS_FOLDER, "PELAGOS_OBJECTS"),
            (_DATA_ON_CLAIM, Value("storage.dataClaim"), DATA_FOLDER, "PELAGOS_DATA"),
        )
        for name, value in ((f"{prefix}_CLAIM", claim), (f"{prefix}_ROOT", folder))
    ]


def _credentials() -> list[Any]:
    files = (
        (Given(Value("kubeflow.token")), "PELAGOS_KUBEFLOW_TOKEN_FILE", "kubeflow-token/token"),
        (Given(Value("kubeflow.ca")), "PELAGOS_KUBEFLOW_CA_FILE", "kubeflow-ca/ca.crt"),
        (_BASIC, "PELAGOS_TRACKING_USERNAME_FILE", "tracking/username"),
        (_BASIC, "PELAGOS_TRACKING_PASSWORD_FILE", "tracking/password"),
        (_TOKEN, "PELAGOS_TRACKING_TOKEN_FILE", "tracking/token"),
        (Given(Value("tracking.ca")), "PELAGOS_TRACKING_CA_FILE", "tracking-ca/ca.crt"),
        (Given(Value("storage.ca")), "PELAGOS_S3_CA_FILE", "storage-ca/ca.crt"),
    )
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    on_s3 = All((Any_((_OBJECTS_ON_S3, _DATA_ON_S3)), Given(Value("storage.secret"))))
    return [
        *(When(condition, {"name": name, "value": f"{MOUNTS}/{file}"}) for condition, name, file in files),
        # The client library of S3 takes them from the environment.
        *(
            When(on_s3, {"name": key, "valueFrom": {"secretKeyRef": {"name": Value("storage.secret"), "key": key}}})
            for key in keys
        ),
    ]


def _mounted() -> list[tuple[Condition, str, dict[str, Any]]]:
    """Condition, name, and source of what is mounted below MOUNTS."""
    token = {
        "serviceAccountToken": {"path": "token", "audience": Value("kubeflow.tokenAudience"), "expirationSeconds": 3600}
    }
    mode = 0o440
    return [
        (
            Given(Value("authority.secret")),
            AUTHORITY,
            # Without it the operator starts, and says what is missing in status.
            {"secret": {"secretName": Value("authority.secret"), "defaultMode": mode, "optional": True}},
        ),
        (Given(Value("kubeflow.token")), "kubeflow-token", {"projected": {"defaultMode": mode, "sources": [token]}}),
        (
            Any_((_BASIC, _TOKEN)),
            "tracking",
            {"secret": {"secretName": Value("tracking.secret"), "defaultMode": mode}},
        ),
        *(
            (
                Given(Value(f"{part}.ca")),
                f"{part}-ca",
                {"configMap": {"name": Value(f"{part}.ca"), "defaultMode": mode}},
            )
            for part in ("kubeflow", "tracking", "storage")
        ),
    ]


def _volumes() -> list[Any]:
    claims: tuple[tuple[Condition, str, str, dict[str, Any]], ...] = (
        (_OBJECTS_ON_CLAIM, "objects", "storage.objectsClaim", {}),
        # The users' own files: not even their group is changed.
        (_DATA_ON_CLAIM, "data", "storage.dataClaim", {"readOnly": True}),
    )
    return [
        {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        *(When(condition, {"name": name} | source) for condition, name, source in _mounted()),
        *(
            When(condition, {"name": name, "persistentVolumeClaim": {"claimName": Value(path)} | more})
            for condition, name, path, more in claims
        ),
    ]


def _mounts() -> list[Any]:
    return [
        {"name": "home", "mountPath": _HOME},
        {"name": "tmp", "mountPath": "/tmp"},
        *(
            When(condition, {"name": name, "mountPath": f"{MOUNTS}/{name}", "readOnly": True})
            for condition, name, _ in _mounted()
        ),
        When(_OBJECTS_ON_CLAIM, {"name": "objects", "mountPath": OBJECTS_FOLDER}),
        When(_DATA_ON_CLAIM, {"name": "data", "mountPath": DATA_FOLDER, "readOnly": True}),
    ]
