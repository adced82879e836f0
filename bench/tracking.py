"""A real MLflow server for the measured trainings. Called by training.py."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

from bench import measuring
from bench.plan import Plan
from pelagos.embedded import addresses, parts, tracking_credentials
from pelagos.embedded.layout import Layout
from pelagos.engines.kfp_local.launch import Login
from pelagos.engines.mlflow.rest import Access
from pelagos.settings import Settings


@contextlib.contextmanager
def server(plan: Plan) -> Iterator[str]:
    """Run the server as the embedded mode starts it; yields its address."""
    layout = _layout(plan)
    layout.create()
    tracking_credentials.prepare(layout)
    ports = addresses.choose(layout.home, parts.PORTS, {})
    part = parts.mlflow(layout, Settings(home=layout.home, environments=plan.environments), ports)
    log = plan.log("mlflow")
    cores = os.sched_getaffinity(0)
    with measuring.running(part.command, log, part.environment, cores):
        measuring.wait_until(lambda: _answers(part.ready), "MLflow is ready", part.start_seconds, log)
        yield part.url


def step_environment(plan: Plan) -> dict[str, str]:
    """Environment variables with the steps' login; empty before the server's first start."""
    folder = _layout(plan).tracking_credentials
    if not folder.is_dir():
        return {}
    return Login(folder / "steps-username", folder / "steps-password").environment()


def create_run(plan: Plan, address: str) -> str:
    """Create a run as the operator does; returns its id."""
    body = json.dumps({"experiment_id": "0", "start_time": 0}).encode()
    folder = _layout(plan).tracking_credentials
    access = Access(folder / "username", folder / "password")
    headers = {"Content-Type": "application/json", "Authorization": access.authorization()}
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/runs/create", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        created: dict[str, Any] = json.load(answer)
    return str(created["run"]["info"]["run_id"])


def _layout(plan: Plan) -> Layout:
    return Layout.of(plan.folder / "tracking")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
