"""Logs of pods, read with the user's rights: of a pipeline run's steps, and of model servers."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pelagos.api import meta
from pelagos.cli.logs import lines
from pelagos.cli.logs.lines import Line, LogError, Wish
from pelagos.engines.kubeflow import facts, kept_logs, steps
from pelagos.engines.kubeflow.kept_logs import Kept
from pelagos.engines.model_server.gateway import NAME as GATEWAY

Pod = Mapping[str, Any]
_TIMEOUT = 10
_SILENT = 24 * 3600
"""How long, in seconds, a followed log may be silent."""
_PERIOD = 1.0
_CHUNK = 64 * 1024


class AbsentError(LogError):
    """The pod or log does not exist."""


class BrokenOffError(LogError):
    """The connection ended while the log was being read."""


class Pods:
    """The pods of the resource ``uid`` in ``namespace``. ``say`` is called with notes for the user."""

    def __init__(self, api: Any, uid: str, namespace: str, say: Callable[[str], None]) -> None:
        self._api = api
        self._uid = uid
        self._namespace = namespace
        self._say = say
        self._said: set[str] = set()

    def of_run(self, namespace: str, run: str, wish: Wish, is_over: Callable[[], bool]) -> Iterator[Line]:
        """Yield the lines of a pipeline run's pods in ``namespace``; for deleted pods, the lines that were kept.

        Raises LogError.
        """
        there = self._of_run(namespace, run)
        attempt, kept = self._kept(run, is_needed=not there)
        attempts = sorted({steps.attempt(pod) for pod in there} | ({attempt} if kept else set()))
        chosen = (attempts[:-1] if wish.previous else attempts)[-1:]
        has_pod = dict.fromkeys(facts.step_of(pod) for pod in there if steps.attempt(pod) in chosen)
        gone = [each for each in kept if attempt in chosen and each.step not in has_pod]
        if not wish.follow:
            _require([*(each.step for each in gone), *has_pod], run, namespace, wish)
        for each in gone:
            if wish.wants(each.step):
                yield from _lines_of(each, attempt, wish)
        shown = yield from self._of_pods(
            namespace, run, wish, is_over, [pod for pod in there if steps.attempt(pod) in chosen]
        )
        if not shown and not gone and not wish.follow:
            raise LogError(f"no step of the pipeline run {run} has started, so there is no log yet")

    def _of_pods(
        self, namespace: str, run: str, wish: Wish, is_over: Callable[[], bool], chosen: list[Pod]
    ) -> Generator[Line, None, set[str]]:
        """Yield the lines of the chosen pods; returns the names of those that had a log."""
        shown: set[str] = set()
        broken: set[str] = set()
        over = not wish.follow
        while True:
            for pod in chosen:
                name = pod["metadata"]["name"]
                if name in shown or not wish.wants(facts.step_of(pod)):
                    continue
                origin = f"step {facts.step_of(pod) or '?'}, attempt {steps.attempt(pod)} (pod {name})"
                if steps.has_begun(pod, steps.CONTAINER):
                    shown.add(name)
                    asked = replace(wish, tail=0) if name in broken else wish
                    try:
                        yield from self._read(pod, steps.CONTAINER, origin, asked)
                    except BrokenOffError as error:
                        if over:
                            raise
                        # A proxy in between ended the long response, or the node is lost and another attempt follows.
                        self._note(f"{error}; new lines are followed from now on, and some may be missing")
                        broken.add(name)
                        shown.discard(name)
                else:
                    self._note(f"{origin} has not started: {steps.waits_for(pod)}")
            if over:
                return shown
            # Asked before the last look, so that a pod which starts in between is not missed.
            over = is_over()
            time.sleep(0 if over else _PERIOD)
            there = self._of_run(namespace, run)
            latest = max(map(steps.attempt, there), default=0)
            chosen = [pod for pod in there if steps.attempt(pod) == latest]

    def _of_run(self, namespace: str, run: str) -> list[Pod]:
        return steps.of_run(self._list(namespace, {meta.UID_LABEL: self._uid, **steps.SELECTOR}), run)

    def _kept(self, run: str, *, is_needed: bool) -> tuple[int, list[Kept]]:
        """The attempt and lines that the operator kept of a run. Raises LogError only if ``is_needed``."""
        name = kept_logs.name_of(self._uid)
        try:
            response = _asked(
                lambda: self._api.read_namespaced_config_map(
                    name, self._namespace, _preload_content=False, _request_timeout=_TIMEOUT
                ),
                f"the ConfigMap {name} with the last lines of deleted pods",
            )
        except AbsentError:
            return 0, []
        except LogError:
            if is_needed:
                raise
            return 0, []
        return kept_logs.parse(json.loads(response.data), run)

    def of_service(self, wish: Wish, is_over: Callable[[], bool]) -> Iterator[Line]:
        """Yield the lines of the model servers' pods; each line names its pod if there are several. Raises LogError."""
        if wish.follow:
            yield from self._followed(wish, is_over)
            return
        begun = self._servers(wish)
        for pod, container in begun:
            yield from self._read(pod, container, _origin(pod, container), wish, _prefix(pod, begun))

    def _servers(self, wish: Wish) -> list[tuple[Pod, str]]:
        """Pods that have a log, each with the name of its relevant container."""
        there = self._list(
            self._namespace, {meta.UID_LABEL: self._uid, "app.kubernetes.io/name": "pelagos-model-server"}
        )
        if not there:
            raise LogError(f"there is no pod of a model server in the namespace {self._namespace}")
        chosen = [(pod, _container(pod)) for pod in there]
        begun = [(pod, name) for pod, name in chosen if steps.has_begun(pod, name)]
        for pod, name in chosen:
            if (pod, name) not in begun:
                self._note(f"{_origin(pod, name)} has not started: {steps.waits_for(pod)}")
        if not begun and not wish.follow:
            raise LogError("no model server has started, so there is no log yet")
        return begun

    def _followed(self, wish: Wish, is_over: Callable[[], bool]) -> Iterator[Line]:
        """Follow all pods at once, with one thread each; the process can exit without waiting for them."""
        found: queue.Queue[Line | LogError] = queue.Queue(maxsize=1000)
        known: set[tuple[str, str, int]] = set()

        def copy(pod: Pod, container: str, prefix: str) -> None:
            try:
                for line in self._read(pod, container, _origin(pod, container), wish, prefix):
                    found.put(line)
            except LogError as error:
                found.put(error)

        while not is_over():
            begun = self._servers(wish)
            for pod, container in begun:
                # A restarted container has a new log.
                key = (pod["metadata"]["name"], container, steps.restarts(pod, container))
                if key not in known and not steps.has_ended(pod, container):
                    known.add(key)
                    threading.Thread(target=copy, args=(pod, container, _prefix(pod, begun)), daemon=True).start()
            yield from self._said_within(_PERIOD, found)
        # Drain the queue, so that no line written before the end is missed.
        yield from self._said_within(_PERIOD, found)

    def _said_within(self, seconds: float, found: queue.Queue[Line | LogError]) -> Iterator[Line]:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = found.get(timeout=left)
            except queue.Empty:
                return
            if isinstance(line, LogError):
                self._note(str(line))
            else:
                yield line

    def _read(self, pod: Pod, container: str, origin: str, wish: Wish, prefix: str = "") -> Iterator[Line]:
        metadata = pod["metadata"]
        options = {
            "container": container,
            "follow": wish.follow,
            # A step's previous attempt is another pod, because containers in its pod are never restarted.
            "previous": wish.previous and container != steps.CONTAINER,
            "tail_lines": wish.tail,
            "_preload_content": False,
            "_request_timeout": (_TIMEOUT, _SILENT if wish.follow else _TIMEOUT * 6),
        }
        given = {name: value for name, value in options.items() if value is not None}
        response = _asked(
            lambda: self._api.read_namespaced_pod_log(metadata["name"], metadata["namespace"], **given),
            f"the log of pod {metadata['name']}",
        )
        try:
            yield from (Line(origin, prefix + text) for text in lines.split(_chunks(response)))
        finally:
            response.release_conn()

    def _list(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        response = _asked(
            lambda: self._api.list_namespaced_pod(
                namespace, label_selector=selector, _preload_content=False, _request_timeout=_TIMEOUT
            ),
            f"pods in the namespace {namespace}",
        )
        found = json.loads(response.data).get("items") or []
        return sorted(found, key=lambda pod: (str(pod["metadata"].get("creationTimestamp")), pod["metadata"]["name"]))

    def _note(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            self._say(words)


def _require(there: list[str], run: str, namespace: str, wish: Wish) -> None:
    if not there:
        which = "an earlier attempt" if wish.previous else "its steps"
        raise LogError(
            f"the namespace {namespace} has no pod of the pipeline run {run} for {which}: none was created yet, or they "
            "were deleted, and the operator has kept no lines of them"
        )
    if not any(map(wish.wants, there)):
        raise LogError(
            f"the pipeline run {run} has no pod of a step {wish.step}; it has {', '.join(dict.fromkeys(there))}"
        )


def _lines_of(kept: Kept, attempt: int, wish: Wish) -> Iterator[Line]:
    code = f", exit code {kept.exit_code}" if kept.exit_code is not None else ""
    origin = (
        f"step {kept.step}, attempt {attempt}: its pod {kept.pod} no longer exists ({kept.reason}{code}); these are the "
        "last lines that the operator kept"
    )
    yield from (Line(origin, text) for text in lines.last(lines.split([kept.text.encode()]), wish.tail))


def _container(pod: Pod) -> str:
    """The container whose log is most relevant: an init container that has not succeeded, else the server."""
    status = pod.get("status") or {}
    for each in status.get("initContainerStatuses") or ():
        if ((each.get("state") or {}).get("terminated") or {}).get("exitCode") != 0:
            return str(each["name"])
    names = [str(each["name"]) for each in pod["spec"]["containers"]]
    return next((name for name in names if name != GATEWAY), names[0])


def _origin(pod: Pod, container: str) -> str:
    return f"pod {pod['metadata']['name']}, container {container}"


def _prefix(pod: Pod, begun: list[tuple[Pod, str]]) -> str:
    return f"[{pod['metadata']['name']}] " if len(begun) > 1 else ""


def _chunks(response: Any) -> Iterable[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        yield from response.stream(_CHUNK)
    except HTTPError as error:
        raise BrokenOffError(f"the log broke off: {error}") from error


def _asked(call: Callable[[], Any], what: str) -> Any:
    """The result of ``call``. Translates its errors to LogError; ``what`` names the request in messages."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return call()
    except ApiException as error:
        if error.status == 403:
            hint = "Ask the people who run the platform for the ClusterRole view in that namespace"
            raise LogError(f"you may not read {what}: {_words(error)}. {hint}") from error
        kind = AbsentError if error.status == 404 else LogError
        raise kind(f"{what} cannot be read: {_words(error)}") from error
    except HTTPError as error:
        raise LogError(f"{what} cannot be read, the API server does not answer: {error}") from error


def _words(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        return f"{error.status} {error.reason}"
