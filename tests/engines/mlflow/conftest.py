"""A real MLflow server on SQLite, started once for this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_servers import MlflowServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server.uri
    server.kill()
