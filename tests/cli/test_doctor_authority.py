"""What `pelagos doctor` reports about the keys of the seals that make the operator believe data outside of Kubernetes."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from pelagos.cli.diagnosis import engines
from pelagos.engines.diagnosis import DoctorContext, Finding, State
from pelagos.engines.folders.keys import make
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.settings import Settings

CLUSTER: dict[str, Any] = {
    "pipelines_engine": "kubeflow",
    "kubeflow_url": "http://127.0.0.1:9",
    "serving_engine": "deployment",
}


async def found(**settings: Any) -> Finding:
    """The finding; no server is contacted."""
    api = KubernetesRest("http://127.0.0.1:9", tls=ssl.create_default_context())
    (finding,) = await engines.authority(DoctorContext(Settings(**settings), api, "default"))
    await api.close()
    return finding


async def test_before_the_first_start_there_is_no_key_yet(tmp_path: Path) -> None:
    finding = await found(home=tmp_path)

    assert finding.state is State.NOTE
    assert finding.message == f"the operator has no key yet in {tmp_path / 'authority'}"
    assert finding.hint == "pelagos up creates it."


async def test_keys_are_listed_and_the_one_that_seals_is_named(tmp_path: Path) -> None:
    make(tmp_path / "authority")
    (tmp_path / "authority" / "before").write_bytes(b"1" * 32)
    (tmp_path / "authority" / "before").chmod(0o600)

    finding = await found(home=tmp_path)

    assert finding.state is State.OK
    assert finding.message == f"2 keys in {tmp_path / 'authority'}: before, current; `current` seals"


async def test_a_key_that_others_may_read_is_a_failure(tmp_path: Path) -> None:
    make(tmp_path / "authority")
    (tmp_path / "authority" / "current").chmod(0o640)

    finding = await found(home=tmp_path)

    assert finding.state is State.FAILURE
    assert finding.message == f"others may read {tmp_path / 'authority'}/current"
    assert finding.hint == f"chmod 600 {tmp_path / 'authority'}/*"


@pytest.mark.parametrize("content", [b"", b"short"])
async def test_a_key_that_is_none_is_a_failure(tmp_path: Path, content: bytes) -> None:
    make(tmp_path / "authority")
    (tmp_path / "authority" / "current").write_bytes(content)

    finding = await found(home=tmp_path)

    assert finding.state is State.FAILURE
    assert f"current has {len(content)} bytes; 32 to 4096 are allowed" in finding.message


async def test_keys_on_a_cluster_are_looked_at_where_they_are_mounted(tmp_path: Path) -> None:
    assert (await found(home=tmp_path, **CLUSTER)).message == "the operator's keys cannot be seen from here"

    missing = await found(home=tmp_path, authority_folder=tmp_path / "keys", **CLUSTER)
    assert missing.state is State.FAILURE
    assert "nothing outside of Kubernetes can be trusted" in missing.message

    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "current").write_bytes(b"1" * 32)
    assert (await found(home=tmp_path, authority_folder=tmp_path / "keys", **CLUSTER)).state is State.OK
