"""The backend on a cluster: a step is a pod. Only this module of the fake server talks to a Kubernetes API."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from kfp_fake_server import pods
from kfp_fake_server.backends import Outcome
from kfp_fake_server.workflows import RUN_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfp_fake_server.backends import Pod, Tell

Struct = dict[str, Any]

POLL_SECONDS = 0.3
RIGHTS = (
    {"verb": "get", "resource": "configmaps", "name": "kfp-launcher"},
    {"verb": "get", "resource": "pods"},
    {"group": "argoproj.io", "verb": "create", "resource": "workflowtaskresults"},
    {"group": "argoproj.io", "verb": "patch", "resource": "workflowtaskresults"},
)
"""Rights that a real server's launcher and executor, which are in the pod of every step, need of the step's service account."""
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/{}/workflows"
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_PASSING = ("connect: connection refused", "i/o timeout", "TLS handshake timeout", "connection reset by peer")
"""Messages of a cluster that cannot reach one of its webhooks, after which Argo tries again."""
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Connection:
    """A Kubernetes API. The token file is read for every request."""

    server: str
    token_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def in_cluster(cls) -> Connection:
        """The connection of the pod that this process runs in."""
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        return cls(f"https://{host}:{port}", _ACCOUNT / "token", _ACCOUNT / "ca.crt")

    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Authorization": f"Bearer {self.token_file.read_text().strip()}"} if self.token_file else {}

    def tls(self) -> ssl.SSLContext | bool:
        """For aiohttp."""
        return ssl.create_default_context(cafile=str(self.ca_file)) if self.ca_file else True


class Kubernetes:
    """Pods of runs without a namespace are created in ``namespace``. Pods that ended are kept until their run is forgotten.

    ``extra`` is added to every pod of a step, see `pods.extend`. ``helpers_image`` has a shell and runs the containers that a
    real server adds; without it, steps run alone, which is quicker.
    """

    def __init__(
        self, connection: Connection, namespace: str, extra: Struct | None = None, helpers_image: str = ""
    ) -> None:
        self._connection = connection
        self._namespace = namespace
        self._extra = extra or {}
        self._helpers_image = helpers_image
        self._session: aiohttp.ClientSession | None = None
        self._has_workflows: bool | None = None
        self._places: dict[str, str] = {}
        self._workflows: dict[str, Callable[[], Struct]] = {}
        self._published: dict[str, Struct] = {}

    async def execute(self, pod: Pod, tell: Tell) -> Outcome:
        """See the protocol."""
        if pod.is_driver and not self._helpers_image:
            return Outcome(succeeded=True)
        namespace = pod.namespace or self._namespace
        self._places[pod.run] = namespace
        self._workflows[pod.run] = pod.workflow
        await self._publish(pod.run)
        lacking = await self._lacking(namespace, pod.service_account)
        if lacking:
            return Outcome(succeeded=False, message=lacking)
        try:
            outcome = None
            while outcome is None:
                outcome = await self._create(pod, namespace, tell) or await self._follow(pod, namespace, tell)
            return outcome
        except asyncio.CancelledError:
            await asyncio.shield(self._end(pod.name, namespace))
            raise

    async def show(self, run: str) -> None:
        """Write the run's final Workflow."""
        await self._publish(run)

    async def forget(self, run: str) -> None:
        """Delete the run's pods and its Workflow."""
        namespace = self._places.pop(run, None)
        self._workflows.pop(run, None)
        self._published.pop(run, None)
        if namespace is not None:
            query = f"?labelSelector={RUN_LABEL.replace('/', '%2F')}%3D{run}"
            await self._ask("DELETE", f"/api/v1/namespaces/{namespace}/pods{query}", {"gracePeriodSeconds": 0})
            if self._has_workflows:
                await self._ask("DELETE", f"{WORKFLOWS.format(namespace)}{query}")

    async def _publish(self, run: str) -> None:
        """Write the run's Workflow if the cluster has such objects; one that somebody deleted is not created again."""
        if run not in self._workflows:
            return
        root = WORKFLOWS.format(self._places[run])
        if self._has_workflows is None:
            status, _ = await self._ask("GET", root)
            # A kind that was just defined is briefly answered with 429.
            self._has_workflows = {200: True, 403: False, 404: False}.get(status)
        if not self._has_workflows:
            return
        document, before = self._workflows[run](), self._published.get(run)
        if document == before:
            return
        if before is None:
            await self._ask("POST", root, document)
        else:
            await self._ask("PATCH", f"{root}/{document['metadata']['name']}", document, "application/merge-patch+json")
        self._published[run] = document

    async def close(self) -> None:
        """Close connections; pods keep running."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _lacking(self, namespace: str, account: str) -> str:
        """The right that the service account lacks, as the error message of a step that fails for it; "" if none."""
        user = f"system:serviceaccount:{namespace}:{account}"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        for right in RIGHTS:
            spec = {"user": user, "groups": groups, "resourceAttributes": right | {"namespace": namespace}}
            status, body = await self._ask("POST", _REVIEWS, {"spec": spec})
            if status != 201 or not body.get("status", {}).get("allowed"):
                what = ".".join(filter(None, (right["resource"], right.get("group"))))
                return f"{what} is forbidden: User {user} cannot {right['verb']} it in the namespace {namespace}"
        return ""

    async def _create(self, pod: Pod, namespace: str, tell: Tell) -> Outcome | None:
        """As Argo does, try again while the refusal may be temporary; fail for any other."""
        manifest = pods.render(pod, namespace, self._helpers_image)
        manifest = manifest if pod.is_driver else pods.extend(manifest, self._extra)
        while True:
            status, body = await self._ask("POST", f"/api/v1/namespaces/{namespace}/pods", manifest)
            if status in (201, 409):
                return None
            message = str(body.get("message", body))
            if _may_pass(status, message):
                tell("Pending", message)
                await self._publish(pod.run)
                await asyncio.sleep(POLL_SECONDS)
                continue
            return Outcome(succeeded=False, message=message)

    async def _follow(self, pod: Pod, namespace: str, tell: Tell) -> Outcome | None:
        """Watch the pod until the step has ended. None: the pod was deleted before it ran, and Argo creates it again."""
        judgement: Outcome | tuple[str, str] = ("Pending", "")
        while True:
            status, body = await self._ask("GET", f"/api/v1/namespaces/{namespace}/pods/{pod.name}")
            if status == 404:
                is_pending = isinstance(judgement, tuple) and judgement[0] == "Pending"
                return None if is_pending else Outcome(succeeded=False, message="pod deleted")
            if status == 200:
                judgement = pods.judge(body.get("status", {}))
                # A pod that is being deleted fails before it disappears.
                if isinstance(judgement, tuple):
                    tell(*judgement)
                elif judgement.succeeded or "deletionTimestamp" not in body["metadata"]:
                    return judgement
            await self._publish(pod.run)
            await asyncio.sleep(POLL_SECONDS)

    async def _end(self, name: str, namespace: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        while True:
            status, body = await self._ask("DELETE", path)
            # A pod without a node disappears at once; any other only when its node confirms.
            if status == 404 or not body.get("metadata", {}).get("deletionTimestamp"):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _ask(
        self, method: str, path: str, body: Struct | None = None, content: str = "application/json"
    ) -> tuple[int, Struct]:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._connection.tls())
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        url, headers = self._connection.server + path, self._connection.headers() | {"Content-Type": content}
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            # A path that is not served is answered in plain text.
            return answer.status, await answer.json() if "json" in answer.content_type else {}


def _may_pass(status: int, message: str) -> bool:
    """Whether Argo expects that a refused pod may be accepted later (its util/errors)."""
    quota = status == 403 and "exceeded quota" in message
    return quota or status in {429, 503, 504} or any(words in message for words in _PASSING)
