"""The key with which the steps of a namespace seal their reports, in a Secret next to their pods. Called by the engine kubeflow.

The Secret is created before the first run and never read or changed: the operator may create Secrets there, but not read them.
Its name contains a digest of its content, so a new key of the operator gives a new Secret, and running steps keep theirs. Reports
sealed with a Secret that somebody else created or altered are refused.
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
    """Creates Secrets through ``rest``, with keys that ``authority`` derives."""

    def __init__(self, rest: KubernetesRest, authority: Authority) -> None:
        self._rest = rest
        self._authority = authority
        self._made: set[tuple[str, str]] = set()

    async def provide(self, namespace: str, where: str) -> str:
        """Make the Secret for runs of resources in ``namespace`` exist in the namespace ``where``; returns its name.

        Raises OutageError and RejectedError.
        """
        key = self._authority.namespace_key(namespace)
        digest = hashlib.sha256(f"{namespace}\0{key}".encode()).hexdigest()[:16]
        name = f"{PREFIX}-{digest}"
        # Created without reading first, since the operator may not read Secrets. "Already exists" is success, because the name
        # is derived from the content. An attacker's Secret with this name is useless: its seals are not accepted.
        if (where, name) not in self._made:
            labels = {"app.kubernetes.io/part-of": "pelagos", "app.kubernetes.io/managed-by": "pelagos-operator"}
            annotations = {f"{GROUP}/about": f"seals the reports of pipeline steps of the namespace {namespace}"}
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": where, "labels": labels, "annotations": annotations},
                "type": "Opaque",
                # Anyone who may write Secrets there can still replace it, but nobody can alter it by mistake.
                "immutable": True,
                "stringData": {STEP_NAMESPACE_KEY: key},
            }
            answer = await self._rest.ask("POST", f"/api/v1/namespaces/{where}/secrets", body)
            if answer.status >= 300 and answer.status != _EXISTS:
                message = f"the Secret {where}/{name} for the steps' key cannot be created: {answer.message}"
                raise (OutageError if answer.status in _NOT_NOW else RejectedError)(SYSTEM, message)
            # Remembered only after success: the next run repeats a request that failed.
            self._made.add((where, name))
        return name

    def forget(self, name: str) -> None:
        """Create the Secret again for the next run, because somebody may have deleted it."""
        self._made = {known for known in self._made if known[1] != name}
