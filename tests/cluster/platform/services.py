"""MLflow, object storage and the pipeline server as pods of one namespace. The first two are the real programs (moto for S3)."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.harness import machine
from cluster.harness.cluster import Cluster
from cluster.platform.environments import TRAINER, Mounted, serve
from kfp_fake_server import workflow_kind
from object_storage import KEY, SECRET, ObjectStorage

NAMESPACE = "platform"
BUCKET = "pelagos"
MLFLOW = f"http://mlflow.{NAMESPACE}:5000"
STORAGE = f"http://storage.{NAMESPACE}:9000"
PIPELINES = f"http://ml-pipeline.{NAMESPACE}:8888"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
_TESTS = machine.ROOT / "tests"


@dataclass(frozen=True)
class Platform:
    """The running services."""

    cluster: Cluster

    @classmethod
    def start(cls, cluster: Cluster, *, helpers: bool = False) -> Platform:
        """Start all; returns when they listen. ``helpers``: whether steps get all pods and containers of a real server."""
        serve_workflows(cluster)
        cluster.create_namespace(NAMESPACE)
        grant_everything(cluster, NAMESPACE)
        _start_storage(cluster)
        _start_mlflow(cluster)
        _start_pipelines(cluster, cluster.images.base() if helpers else "")
        platform = cls(cluster)
        platform.storage().make_bucket(BUCKET)
        return platform

    def storage(self) -> ObjectStorage:
        """The object storage, as reached from outside."""
        return ObjectStorage(f"http://127.0.0.1:{self.cluster.forward_service('storage', 9000, NAMESPACE)}")

    def upload(self, folder: Path, prefix: str) -> None:
        """Copy a folder to the object storage."""
        storage = self.storage()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                storage.put(BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def tracked_runs(self) -> list[Mapping[str, Any]]:
        """All runs in MLflow."""
        found = self._mlflow("experiments/search", {"max_results": 100})["experiments"]
        identifiers = [entry["experiment_id"] for entry in found]
        return list(self._mlflow("runs/search", {"experiment_ids": identifiers, "max_results": 100}).get("runs", []))

    def pipeline_runs(self, namespace: str) -> list[Mapping[str, Any]]:
        """All runs of a namespace on the pipeline server."""
        port = self.cluster.forward_service("ml-pipeline", 8888, NAMESPACE)
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/apis/v2beta1/runs?namespace={namespace}&page_size=200", timeout=20
        ) as answer:
            return list(json.load(answer).get("runs", []))

    def epochs(self, namespace: str, pipeline_run: str) -> list[int]:
        """Epochs of a training in a namespace, in the order in which they ended."""
        content = self.storage().get(BUCKET, f"objects/{namespace}/workspaces/{pipeline_run}/history.json")
        return [row["number"] for row in sorted(json.loads(content), key=lambda row: row["at"])]

    def _mlflow(self, path: str, body: Mapping[str, Any]) -> Any:
        port = self.cluster.forward_service("mlflow", 5000, NAMESPACE)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def serve_workflows(cluster: Cluster) -> None:
    """Define the kind Workflow, as on a cluster with Argo."""
    cluster.apply(workflow_kind.DEFINITION)
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{workflow_kind.DEFINITION['metadata']['name']}")


def grant_everything(cluster: Cluster, namespace: str) -> None:
    """Give fake servers the rights of the controllers that they replace."""
    account = f"--serviceaccount={namespace}:default"
    cluster.kubectl("create", "clusterrolebinding", f"everything-{namespace}", "--clusterrole=cluster-admin", account)


def start_locked_storage(cluster: Cluster, name: str) -> None:
    """Start an object storage that refuses all keys."""
    _start_storage(cluster, name, INITIAL_NO_AUTH_ACTION_COUNT="0")


def _start_storage(cluster: Cluster, name: str = "storage", **settings: str) -> None:
    command = ("-c", "from moto.server import main; main(['-H', '0.0.0.0', '-p', '9000'])")
    # moto would otherwise take the first part of the Service's name for a bucket.
    settings["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
    serve(cluster, name, NAMESPACE, 9000, command, Mounted(("object-storage",)), **settings)


def _start_mlflow(cluster: Cluster) -> None:
    hosts = f"mlflow.{NAMESPACE}:5000,127.0.0.1:*"
    command = (
        *(
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri=sqlite:////tmp/mlflow.db",
            "--artifacts-destination=/tmp/artifacts",
        ),
        *("--serve-artifacts", "--host=0.0.0.0", "--port=5000", "--workers=1", f"--allowed-hosts={hosts}"),
    )
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    serve(cluster, "mlflow", NAMESPACE, 5000, command, Mounted(("tracking",)), **settings)


def _start_pipelines(cluster: Cluster, helpers_image: str) -> None:
    """The fake server for a Kubeflow Pipelines server, which creates a pod for every step."""
    steps = cluster.folder / "steps"
    steps.mkdir()
    steps.chmod(0o755)
    (steps / "extra.json").write_text(json.dumps(TRAINER.as_extra()))
    mounted = Mounted(("dev",), code=(_TESTS,), data=(steps,))
    command = (
        *("-m", "kfp_fake_server", "--host=0.0.0.0", "--port=8888", "--multi-user"),
        *("pods", f"--extra={steps / 'extra.json'}", f"--helpers-image={helpers_image}"),
    )
    serve(cluster, "ml-pipeline", NAMESPACE, 8888, command, mounted)
