"""Sends a run's parameters, metrics, lineage and files to MLflow, without ever letting MLflow stop the run.

Each step creates one Tracker. Everything is queued and sent by a thread, in order, with retries; `flush` at the end of a task
is the only call that waits. Sending the same metric twice (same step, time and value) leaves one point in MLflow, so an
interrupted step may send its whole history again.

Credentials and the certificate authority come from the environment, as mlflow itself reads it: MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; MLFLOW_TRACKING_SERVER_CERT_PATH.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelagos_contract import disk, sealing
from pelagos_contract.text import shown
from pelagos_pipelines.training import artifacts

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

PARENT_TAG = "mlflow.parentRunId"
"""The tag by which MLflow shows one run below another."""
FLUSH_SECONDS = 180.0
LONGEST_PAUSE_SECONDS = 10.0
# An unreachable server must cost seconds, not the minutes of the client's defaults. We retry ourselves.
CLIENT_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# Codes with which the server refuses the content, so that sending it again cannot help.
PERMANENT = frozenset(
    {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED", "BAD_REQUEST"}
)
HINTS = {
    "UNAUTHENTICATED": "check MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, in the Secret"
    " that this step gets",
    "PERMISSION_DENIED": "check what the user of MLFLOW_TRACKING_USERNAME or MLFLOW_TRACKING_TOKEN may do",
    "CERTIFICATE_VERIFY_FAILED": "name the server's certificate authority in MLFLOW_TRACKING_SERVER_CERT_PATH",
}
"""Hints for failures whose code or text contains the key."""


class TrackingError(Exception):
    """MLflow refused what a step sent, or did not accept it within the time that a step waits."""


@dataclass(frozen=True)
class DatasetUse:
    """A dataset version for MLflow's lineage. MLflow's digests have at most 36 characters, so ``digest`` is shortened there."""

    name: str
    digest: str
    uri: str
    context: str


@dataclass(frozen=True)
class Nested:
    """A run below the step's own, for one training of several. ``remembered`` is the file that keeps its id."""

    name: str
    remembered: Path


@dataclass(frozen=True)
class _Message:
    """A queued message: its description for logs, and the function that sends it."""

    text: str
    send: Callable[[MlflowClient], None]


class Tracker:
    """Sends to one existing MLflow run, or to a nested run below it. With an empty ``uri`` it sends nothing."""

    def __init__(
        self, uri: str, run: str, flush_seconds: float = FLUSH_SECONDS, *, nested: Nested | None = None
    ) -> None:
        """Start the sending thread, which creates the ``nested`` run if it does not exist.

        Import the training framework first: two threads that import large packages at the same time can interfere.
        """
        self._uri, self._run, self._parent, self._flush_seconds = uri, run, run, flush_seconds
        self._messages: queue.Queue[_Message] = queue.Queue()
        self._refused: list[str] = []
        self._store: tuple[str, Any] | None = None
        self.warnings: list[str] = []
        """Notes for people about data that were not sent; complete after `flush`."""
        self._last_error = ""
        if nested is not None:
            self._put(f"the run of {nested.name}", lambda client: self._enter(client, nested))
        if uri:
            threading.Thread(target=self._work, name="tracking", daemon=True).start()

    def metrics(self, values: Mapping[str, float], step: int, at: float) -> None:
        """Log metrics of one step, measured ``at`` (seconds since the Unix epoch)."""

        def send(client: MlflowClient) -> None:
            from mlflow.entities import Metric

            points = [Metric(name, value, int(at * 1000), step) for name, value in values.items()]
            for start in range(0, len(points), 1000):  # the server's limit for one batch
                client.log_batch(self._run, metrics=points[start : start + 1000])

        self._put(f"metrics of step {step}", send)

    def describe(self, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log parameters (immutable in MLflow: the same value may be sent again) and tags."""

        def send(client: MlflowClient) -> None:
            from mlflow.entities import Param, RunTag

            client.log_batch(
                self._run,
                params=[Param(shown(name), shown(value, lines=True)) for name, value in parameters.items()],
                tags=[RunTag(shown(name), shown(value, lines=True)) for name, value in tags.items()],
            )

        self._put("parameters and tags", send)

    def dataset(self, used: DatasetUse) -> None:
        """Log that the run used a dataset version."""

        def send(client: MlflowClient) -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            source = json.dumps({"uri": used.uri})
            dataset = Dataset(
                shown(used.name), used.digest[:36], "pelagos", source, "{}", json.dumps({"version": used.digest})
            )
            client.log_inputs(self._run, [DatasetInput(dataset, [InputTag("mlflow.data.context", used.context)])])

        self._put(f"dataset {used.name}", send)

    def file(self, path: Path, folder: str) -> None:
        """Upload a file into ``folder`` of the run's artifacts. The file must exist until `flush` has returned.

        If the run's artifacts would go anywhere but the tracking server, nothing is uploaded, and `warnings` says so.
        """

        def send(client: MlflowClient) -> None:
            if self._store is None or self._store[0] != self._run:
                try:
                    self._store = (self._run, artifacts.store(client, self._run, self._uri))
                except artifacts.ElsewhereError as error:
                    self._store = (self._run, None)
                    self.warnings.append(str(error))
                    log.warning("tracking: %s", error)
            if self._store[1] is not None:
                self._store[1].log_artifact(str(path), folder)

        self._put(f"artifact {folder}/{path.name}", send)

    def end(self, status: str) -> None:
        """Set how the run ended, as a status of MLflow. For nested runs: the operator ends the runs that it created."""
        self._put("how it ended", lambda client: client.set_terminated(self._run, status))

    def flush(self) -> None:
        """Wait until everything is sent.

        Raises:
            TrackingError: not sent within the bounded time, or refused by the server.
        """
        deadline = time.monotonic() + self._flush_seconds
        while self._messages.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._messages.unfinished_tasks:
            raise TrackingError(
                f"the tracking server {self._uri} did not take {self._messages.unfinished_tasks} messages of run {self._run}"
                f" within {self._flush_seconds:.0f} s: {self._last_error}; nothing is lost: start the step again when it is back"
            )
        if self._refused:
            raise TrackingError(
                f"the tracking server {self._uri} refused for run {self._run}: {'; '.join(self._refused)}"
            )

    def _put(self, text: str, send: Callable[[MlflowClient], None]) -> None:
        if self._uri:
            self._messages.put(_Message(text, send))

    def _enter(self, client: MlflowClient, nested: Nested) -> None:
        """Continue the nested run that an earlier attempt created, or create one. All later messages go to that run."""
        from mlflow.exceptions import MlflowException

        parent = self._parent
        known = sealing.opened(sealing.document(nested.remembered), sealing.STATE, step=nested.name)
        if known is not None and known.get("parent") == parent:
            try:
                info = client.get_run(known["run"]).info
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            else:
                if info.lifecycle_stage == "active":
                    if info.status != "RUNNING":
                        client.update_run(info.run_id, status="RUNNING")
                    self._run = info.run_id
                    return
        experiment = client.get_run(parent).info.experiment_id
        # If the process dies before the id is written, the next attempt creates another run, and this one stays empty.
        made = client.create_run(experiment, tags={PARENT_TAG: parent}, run_name=nested.name).info.run_id
        state = sealing.sealed({"parent": parent, "run": made}, sealing.STATE, step=nested.name)
        disk.write_atomically(nested.remembered, json.dumps(state) + "\n", parents=True)
        self._run = made

    def _work(self) -> None:
        for name, value in CLIENT_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient  # takes seconds; in this thread it overlaps with the step's own start

        client = MlflowClient(tracking_uri=self._uri)
        while True:
            message = self._messages.get()
            pause = 0.5
            # Repeated until it is accepted or refused for good, because later messages may depend on it.
            while True:
                try:
                    message.send(client)
                    break
                except Exception as error:  # every kind of network trouble has its own class
                    problem = f"{message.text}: {worded(error)}"
                    if getattr(error, "error_code", "") in PERMANENT:
                        self._refused.append(problem)
                        break
                    self._last_error = problem
                    log.warning("tracking: %s not sent, will be tried again: %s", message.text, worded(error))
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            # Called after the result is noted: `flush` reads that as soon as nothing is unfinished.
            self._messages.task_done()


def worded(error: Exception) -> str:
    """The error's text with a hint, and without our credentials: some proxies quote the request."""
    username, password, token = (
        os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD", "TOKEN")
    )
    text = str(error)
    basic = base64.b64encode(f"{username}:{password}".encode()).decode() if password else ""
    for secret in filter(None, (password, token, basic)):
        text = text.replace(secret, "***")
    kind = f"{getattr(error, 'error_code', '')} {text}"
    return "; ".join([text, *(hint for key, hint in HINTS.items() if key in kind)])
