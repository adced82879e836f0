"""A real MLflow server for trainings with extensions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlflow_servers import MlflowServer


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A running MLflow server, shared by the tests of a module."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()
