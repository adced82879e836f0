"""A client of the API server from a kubeconfig or a pod's service account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos.engines.kubernetes import connecting


def test_outside_of_a_pod_a_kubeconfig_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(connecting.NoClusterError, match="Set PELAGOS_KUBECONFIG"):
        connecting.connect(None)


def kubeconfig(**user: Any) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "sea", "user": "me"}}],
        "clusters": [{"name": "sea", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "me", "user": user}],
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be used"),
        (yaml.safe_dump(["no", "mapping"]), "cannot be used"),
        (yaml.safe_dump({**kubeconfig(token="x"), "current-context": "there"}), "none with the name there"),
        (
            yaml.safe_dump(kubeconfig(exec={"command": "aws"})),
            "neither token, tokenFile nor a client certificate for me",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "config"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(connecting.NoClusterError, match=words) as told:
        connecting.connect(file)
    assert str(file) in str(told.value)


def test_a_token_file_beside_the_kubeconfig_is_found(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(kubeconfig(tokenFile="token")), encoding="utf-8")
    assert connecting.connect(file).server == "http://127.0.0.1:9"
