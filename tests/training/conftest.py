"""A real MLflow server that a test may kill and start again on the same address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlflow_servers import MlflowServer


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A running MLflow server. A test that kills it must start it again."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()
