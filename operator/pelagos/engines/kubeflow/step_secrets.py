"""The key that the steps of a namespace seal their reports with, as a Secret where their pods are. Called by the engine kubeflow.

It is made before the first run and never read or changed: the operator may create Secrets there, and see none. Its name has a
digest of its content, so that another key of the operator is another Secret, and runs that go on keep theirs. One that somebody
else made, or altered, makes reports that are refused by name.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pelagos.api.meta import GROUP
from pelagos.engines.kubernetes.rest import SYSTEM, KubernetesRest
from pelagos.ports.authority import Authority
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract.sealing import STEP_NAMESPACE_KEY

if TYPE_CHECKING:
    pass

PREFIX = "pelagos-steps"
_EXISTS = 409
_NOT_NOW = frozenset({401, 408, 425})


class StepSecrets:
    """Makes Secrets by ``rest``, with the keys that ``authority`` derives."""

    def __init__(self, rest: KubernetesRest, authority: Authority) -> None:
        self._rest = rest
        self._authority = authority
        self._made: set[tuple[str, str]] = set()

    async def provide(self, namespace: str, where: str) -> str:
        """The name of the Secret in the namespace ``where`` for runs of resources of ``namespace``, which is there afterwards."""
        key = self._authority.namespace_key(namespace)
        digest = hashlib.sha256(f"{namespace}\0{key}".encode()).hexdigest()[:16]
        name = f"{PREFIX}-{digest}"
        # Created without a look, since the operator may not read Secrets: that it exists is as good, because its name says
        # what is in it. Somebody who made another of this name gains nothing: what is sealed with it is not believed.
        if (where, name) not in self._made:
            labels = {"app.kubernetes.io/part-of": "pelagos", "app.kubernetes.io/managed-by": "pelagos-operator"}
            annotations = {f"{GROUP}/about": f"seals the reports of pipeline steps of the namespace {namespace}"}
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": where, "labels": labels, "annotations": annotations},
                "type": "Opaque",
                # Whoever may write Secrets there can still delete it and make another; but nobody alters it by mistake.
                "immutable": True,
                "stringData": {STEP_NAMESPACE_KEY: key},
            }
            answer = await self._rest.ask("POST", f"/api/v1/namespaces/{where}/secrets", body)
            if answer.status >= 300 and answer.status != _EXISTS:
                message = f"the Secret {where}/{name} for the steps' key cannot be made: {answer.message}"
                raise (OutageError if answer.status in _NOT_NOW else RejectedError)(SYSTEM, message)
            # Remembered only now: a request that failed is made again by the next run.
            self._made.add((where, name))
        return name

    def forget(self, name: str) -> None:
        """Make it anew next time: somebody may have deleted it."""
        self._made = {known for known in self._made if known[1] != name}
