"""The server's state: experiments and runs, in memory, and their form for clients."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

Struct = dict[str, Any]
Listed = TypeVar("Listed")

NEVER = "1970-01-01T00:00:00Z"
"""How the server writes a time that is not set."""
OVER = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
_OPERATIONS = ("", "EQUALS", "NOT_EQUALS", "GREATER_THAN", "", "GREATER_THAN_EQUALS", "LESS_THAN", "LESS_THAN_EQUALS")
_OPERATION_NUMBERS = dict(enumerate((*_OPERATIONS, "IN", "IS_SUBSTRING")))
"""Old clients send the numbers of filter.proto, which has no 4."""
_KEYS = {"name": "display_name", "id": "run_id"}
_FILTERED = {
    "display_name",
    "run_id",
    "experiment_id",
    "state",
    "storage_state",
    "description",
    "namespace",
    "created_at",
}


class RequestError(Exception):
    """An answer other than success; ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def now() -> str:
    """The time now, in whole seconds as the server writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass
class Experiment:
    """A group of runs; its name is unique within a namespace."""

    name: str
    namespace: str
    description: str
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = field(default_factory=now)
    storage_state: str = "AVAILABLE"

    def document(self) -> Struct:
        """The experiment as clients see it."""
        return _without_empty(
            {
                "experiment_id": self.identifier,
                "display_name": self.name,
                "description": self.description,
                "created_at": self.created_at,
                "namespace": self.namespace,
                "storage_state": self.storage_state,
            }
        )


@dataclass
class Task:
    """A node of a run's graph. Clients see neither its message nor its pod: those are in the Workflow alone."""

    name: str
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))
    node: str = ""
    """Its id in the Workflow, by which its parent refers to it."""
    path: str = ""
    """Its name in the Workflow, such as ``workflow.root.train.executor``."""
    pod: str = ""
    """The name of its pod; "" for groups."""
    phase: str = "Pending"
    """The phase of its pod in Argo: a waiting pod is RUNNING for clients, and Pending here."""
    state: str = "PENDING"
    created_at: str = field(default_factory=now)
    started_at: str = NEVER
    ended_at: str = NEVER
    message: str = ""
    children: list[str] = field(default_factory=list)
    history: list[Struct] = field(default_factory=list)

    def become(self, state: str, message: str = "") -> None:
        """Change state and message; a change of state is kept in the history."""
        self.message = message
        if state == self.state and self.history:
            return
        self.state = state
        if state == "RUNNING" and self.started_at == NEVER:
            self.started_at = now()
        if state in OVER:
            self.ended_at = now()
            self.started_at = self.ended_at if self.started_at == NEVER else self.started_at
        self.history.append(_status(state))

    def document(self, run: str) -> Struct:
        """The task as clients see it."""
        return _without_empty(
            {
                "run_id": run,
                "task_id": self.identifier,
                "display_name": self.name,
                "create_time": self.created_at,
                "start_time": self.started_at,
                "end_time": self.ended_at,
                "state": self.state,
                "child_tasks": [{"pod_name": child} for child in self.children],
                "state_history": list(self.history),
            }
        )


@dataclass
class Run:
    """A run as it really is; ``shown`` is what clients see while the agent that reports it is away."""

    name: str
    description: str
    experiment: Experiment
    struct: Struct
    parameters: Struct
    service_account: str
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = field(default_factory=now)
    finished_at: str = NEVER
    state: str = "PENDING"
    storage_state: str = "AVAILABLE"
    message: str = ""
    workflow: str = ""
    """Name of its Workflow; "" before it exists."""
    tasks: list[Task] = field(default_factory=list)
    history: list[Struct] = field(default_factory=lambda: [_status("PENDING")])
    shown: Struct | None = None

    def become(self, state: str, message: str = "") -> None:
        """Change state; like the real server, CANCELING is never written to the history."""
        self.state, self.message = state, message
        if state in OVER:
            self.finished_at = now()
        if state != "CANCELING":
            self.history.append(_status(state))

    def document(self) -> Struct:
        """The run as clients see it."""
        return self.shown or _without_empty(
            {
                "experiment_id": self.experiment.identifier,
                "run_id": self.identifier,
                "display_name": self.name,
                "storage_state": self.storage_state,
                "description": self.description,
                "pipeline_spec": self.struct,
                "runtime_config": {"parameters": self.parameters},
                "service_account": self.service_account,
                "created_at": self.created_at,
                "scheduled_at": self.created_at,
                "finished_at": self.finished_at,
                "state": self.state,
                "run_details": {"task_details": self._tasks()},
                "state_history": list(self.history),
            }
        )

    def _tasks(self) -> list[Struct]:
        """The run's tasks in no order. Those with children or a pod appear twice, the second time as their first attempt."""
        found = []
        for task in self.tasks:
            told = task.document(self.identifier)
            found.append(told)
            if not task.name.endswith("-driver"):
                found.append(told | {"task_id": f"{task.identifier[:-1]}x", "display_name": f"{task.name}(0)"})
        return sorted(found, key=lambda told: str(told["task_id"]))


@dataclass
class Store:
    """All experiments and runs, in the order of creation."""

    experiments: dict[str, Experiment] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def add_experiment(self, body: Mapping[str, str]) -> Experiment:
        """Add an experiment. Raises RequestError for a name that is taken or missing."""
        name, namespace = body.get("display_name", ""), body.get("namespace", "")
        if not name:
            raise RequestError(400, "Experiment name is empty. Please specify a valid experiment name.")
        if any((other.name, other.namespace) == (name, namespace) for other in self.experiments.values()):
            raise RequestError(
                409, f"Already exist error: Failed to create a new experiment. The name {name} already exists."
            )
        experiment = Experiment(name, namespace, body.get("description", ""))
        self.experiments[experiment.identifier] = experiment
        return experiment

    def experiment(self, identifier: str) -> Experiment:
        """The experiment with this id. Raises RequestError if there is none."""
        if identifier not in self.experiments:
            raise RequestError(404, f"ResourceNotFoundError: Experiment {identifier} not found.")
        return self.experiments[identifier]

    def run(self, identifier: str) -> Run:
        """The run with this id. Raises RequestError if there is none."""
        if identifier not in self.runs:
            raise RequestError(404, f"ResourceNotFoundError: Run {identifier} not found.")
        return self.runs[identifier]


def page(items: Sequence[Listed], query: Mapping[str, str], document: Callable[[Listed], Struct], key: str) -> Struct:
    """One page of the items that match the filter."""
    documents = [shown for shown in map(document, items) if _matches(shown, query.get("filter", ""))]
    field_name, _, direction = query.get("sort_by", "created_at").partition(" ")
    field_name = _KEYS.get(field_name, field_name)
    documents.sort(key=lambda shown: str(shown.get(field_name, "")), reverse=direction == "desc")
    token = query.get("page_token", "")
    try:
        offset = int(base64.b64decode(token)) if token else 0
    except ValueError:
        raise RequestError(400, "Invalid input error: Invalid package token.") from None
    size = int(query.get("page_size", "0")) or 20
    answer: Struct = {"total_size": len(documents)}
    if documents[offset : offset + size]:
        answer[key] = documents[offset : offset + size]
    if offset + size < len(documents):
        answer["next_page_token"] = base64.b64encode(str(offset + size).encode()).decode()
    return answer


def _matches(document: Mapping[str, Any], text: str) -> bool:
    if not text:
        return True
    try:
        predicates = json.loads(text).get("predicates", [])
    except (ValueError, AttributeError):
        raise RequestError(400, f"Invalid input error: failed to parse valid filter from {text!r}") from None
    return all(_holds(document, predicate) for predicate in predicates)


def _holds(document: Mapping[str, Any], predicate: Mapping[str, Any]) -> bool:
    operation = predicate.get("operation", "")
    operation = _OPERATION_NUMBERS.get(operation, operation)
    key = _KEYS.get(predicate.get("key", ""), predicate.get("key", ""))
    if key not in _FILTERED:
        raise RequestError(400, f"Invalid input error: no support for filtering on unrecognized field {key!r}")
    wanted = predicate.get("string_value", predicate.get("stringValue"))
    value = str(document.get(key, ""))
    if operation == "IN":
        values = predicate.get("string_values", predicate.get("stringValues", {})).get("values", [])
        return value in values
    comparisons: Mapping[str, Callable[[], bool]] = {
        "EQUALS": lambda: value == wanted,
        "NOT_EQUALS": lambda: value != wanted,
        "IS_SUBSTRING": lambda: str(wanted) in value,
    }
    if operation not in comparisons or wanted is None:
        raise RequestError(400, f"Invalid input error: predicate {dict(predicate)} is not supported")
    return comparisons[operation]()


def _status(state: str) -> Struct:
    return {"update_time": now(), "state": state}


def _without_empty(document: Mapping[str, Any]) -> Struct:
    """Leave out empty fields, as the server does."""
    return {key: value for key, value in document.items() if value not in (None, "", [])}
