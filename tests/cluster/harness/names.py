"""Cluster DNS of the test node: ``names.py API TOKEN_FILE AUTHORITY ADDRESS FOLDER``. Runs as a script inside the node.

Follows Services and EndpointSlices and keeps dnsmasq's records equal to them: ``<service>.<namespace>.svc.cluster.local`` is the
cluster address, or, for a headless Service, the ready pods; ``<hostname>.<service>...`` is a pod of a StatefulSet.
"""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PATHS = {"services": "/api/v1/services", "slices": "/apis/discovery.k8s.io/v1/endpointslices"}
_SERVICE = "kubernetes.io/service-name"
_DOMAIN = "svc.cluster.local"
_WATCH_SECONDS = 300
_REPEAT_SECONDS = 10.0
Objects = dict[str, Mapping[str, Any]]


class Names:
    """The records, and the server that answers with them."""

    def __init__(self, address: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._records = folder / "records"
        self._records.touch()
        self._lock = threading.Lock()
        self._objects: dict[str, Objects] = {kind: {} for kind in _PATHS}
        self._server = subprocess.Popen(
            [
                *("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--log-facility=-"),
                *(f"--listen-address={address}", "--bind-interfaces", "--pid-file=", "--conf-file=/dev/null"),
                *(f"--addn-hosts={self._records}", "--local=/#/", "--local-ttl=1", "--cache-size=0"),
            ],
        )
        self._changed = time.monotonic()

    def alive(self) -> bool:
        """Whether the server runs."""
        return self._server.poll() is None

    def repeat(self) -> None:
        """For some time after each change, signal the server again: while it starts, it may have missed the first signal."""
        if time.monotonic() < self._changed + _REPEAT_SECONDS:
            self._server.send_signal(signal.SIGHUP)

    def replace(self, kind: str, objects: Objects) -> None:
        """Replace all objects of a kind."""
        with self._lock:
            self._objects[kind] = objects
            self._publish()

    def change(self, kind: str, event: Mapping[str, Any]) -> None:
        """Apply one event of a watch."""
        with self._lock:
            if event["type"] == "DELETED":
                self._objects[kind].pop(key(event["object"]), None)
            else:
                self._objects[kind][key(event["object"])] = event["object"]
            self._publish()

    def _publish(self) -> None:
        text = "".join(f"{line}\n" for line in sorted(set(records(**self._objects))))
        if text != self._records.read_text():
            self._records.write_text(text)
            self._changed = time.monotonic()
            self._server.send_signal(signal.SIGHUP)


def key(body: Mapping[str, Any]) -> str:
    """``namespace/name``."""
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def records(services: Objects, slices: Objects) -> Iterator[str]:
    """Lines of a hosts file."""
    for service in services.values():
        address = service["spec"].get("clusterIP")
        if address and address != "None":
            yield f"{address} {_host(service)}"
    for part in slices.values():
        owner = services.get(f"{part['metadata']['namespace']}/{part['metadata'].get('labels', {}).get(_SERVICE)}")
        if owner and owner["spec"].get("clusterIP") == "None":
            yield from _pods(part, _host(owner))


def _host(service: Mapping[str, Any]) -> str:
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.{_DOMAIN}"


def _pods(part: Mapping[str, Any], host: str) -> Iterator[str]:
    for endpoint in part.get("endpoints") or ():
        if endpoint.get("conditions", {}).get("ready", True):
            yield f"{endpoint['addresses'][0]} {host}"
            if endpoint.get("hostname"):
                yield f"{endpoint['addresses'][0]} {endpoint['hostname']}.{host}"


def follow(names: Names, kind: str, api: str, token: Path, authority: str) -> None:
    """Keep ``names`` equal to the API's objects of a kind; returns when the watch ends."""
    tls = ssl.create_default_context(cafile=authority)

    def get(query: str) -> Any:
        headers = {"Authorization": f"Bearer {token.read_text()}"}
        request = urllib.request.Request(f"{api}{_PATHS[kind]}?{query}", headers=headers)
        return urllib.request.urlopen(request, context=tls, timeout=_WATCH_SECONDS + 30)

    with get("") as answer:
        listed = json.load(answer)
    names.replace(kind, {key(body): body for body in listed["items"]})
    version = listed["metadata"]["resourceVersion"]
    with get(f"watch=1&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}") as stream:
        for line in stream:
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            names.change(kind, event)


def main() -> None:
    """Run until killed, or until the DNS server ends."""
    api, token, authority, address, folder = sys.argv[1:]
    # Inherited by the DNS server: until it has installed its handler for this signal, which asks it to reload, the signal would
    # kill it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    names = Names(address, Path(folder))

    def keep_following(kind: str) -> None:
        while True:
            try:
                follow(names, kind, api, Path(token), authority)
            except (OSError, ValueError) as error:  # the API server is briefly unavailable
                print(f"{kind}: {error}", file=sys.stderr, flush=True)
                time.sleep(0.5)

    for kind in _PATHS:
        threading.Thread(target=keep_following, args=(kind,), daemon=True).start()
    while names.alive():
        names.repeat()
        time.sleep(1)
    sys.exit("the DNS server ended")


if __name__ == "__main__":
    main()
