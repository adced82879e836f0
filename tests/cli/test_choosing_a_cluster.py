"""Which API server a command uses: chosen as by kubectl, and the embedded one where none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pelagos.cli import access
from pelagos.cli.main import app
from pelagos.settings import Settings
from resource_servers import ApiServer, api

__all__ = ["api"]


def write(path: Path, server: str, *contexts: str, namespace: str = "") -> Path:
    """A kubeconfig whose first context is the current one."""
    chosen: dict[str, Any] = {"cluster": "c", "user": "u"} | ({"namespace": namespace} if namespace else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": chosen} for name in contexts],
        "current-context": contexts[0],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of an account without a kubeconfig."""
    monkeypatch.setenv("HOME", str(tmp_path / "account"))
    monkeypatch.setenv("PELAGOS_HOME", str(tmp_path / "pelagos"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path / "account"


def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "pelagos")


def test_kubeconfig_goes_before_the_embedded_installation(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = write(tmp_path / "pelagos/kubeconfig", "https://own", "pelagos")
    assert access.chosen(settings(tmp_path)).file == str(own)

    monkeypatch.setenv("KUBECONFIG", "/a:/b")

    assert access.chosen(settings(tmp_path), "far") == access.Chosen("/a:/b", "far")


def test_a_context_is_looked_for_where_kubectl_does(account: Path, tmp_path: Path) -> None:
    own = write(tmp_path / "pelagos/kubeconfig", "https://own", "pelagos")
    users = write(account / ".kube/config", "https://users", "far")

    assert access.chosen(settings(tmp_path), "pelagos").file == str(own)
    assert access.chosen(settings(tmp_path), "far").file == str(users)


def test_without_an_installation_it_is_the_kubeconfig_of_the_account(account: Path, tmp_path: Path) -> None:
    users = write(account / ".kube/config", "https://users", "far")

    assert access.chosen(settings(tmp_path)).file == str(users)


def test_the_namespace_is_that_of_the_context(account: Path, tmp_path: Path) -> None:
    at = access.Chosen(str(write(tmp_path / "config", "https://a", "one", namespace="bay")))

    assert access.namespace_of(at, "") == "bay"
    assert access.namespace_of(at, "sea") == "sea"
    assert access.namespace_of(access.Chosen("/nowhere"), "") == "default"


@pytest.mark.parametrize(
    "command", [["predict", "x", "image.png"], ["dataset", "excluded", "x"], ["doctor"]], ids=lambda parts: parts[0]
)
def test_every_command_that_asks_a_cluster_takes_a_context(
    command: list[str], api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both contexts are in one file; the current one leads nowhere."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("image.png")
    both = yaml.safe_load(write(tmp_path / "both", "http://127.0.0.1:9", "nowhere").read_text())
    both["clusters"].append({"name": "near", "cluster": {"server": api.url}})
    both["contexts"].append({"name": "near", "context": {"cluster": "near", "user": "u"}})
    (tmp_path / "both").write_text(yaml.safe_dump(both))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "both"))

    near = CliRunner().invoke(app, [*command, "--context", "near"])
    absent = CliRunner().invoke(app, [*command, "--context", "absent"])

    assert "127.0.0.1:9" not in near.output
    assert "there is none in this namespace" in near.output or api.url in near.output
    assert "absent" in absent.output + str(absent.exception)
    assert absent.exit_code == 1


def test_the_doctor_of_another_cluster_does_not_ask_the_embedded_mlflow(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pelagos.cli import doctor

    (tmp_path / "state.json").write_text('{"parts": {"mlflow": {"url": "http://embedded"}}}')
    given = Settings(home=tmp_path)
    assert doctor.completed(given, "").tracking_uri == "http://embedded"

    monkeypatch.setenv("KUBECONFIG", str(write(tmp_path / "other", api.url, "far")))

    assert doctor.completed(given, "").tracking_uri == ""
    assert doctor.credentials(given, "").server == api.url
