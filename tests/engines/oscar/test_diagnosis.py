"""What `pelagos doctor` reports about an OSCAR cluster: reachable, new enough, closed to strangers, open to us."""

from __future__ import annotations

from pathlib import Path

from oscar_fake_server.manager import ADMIN, Manager
from pelagos.engines.diagnosis import DoctorContext, Finding, State
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.oscar import diagnosis
from pelagos.settings import Settings


async def look(manager: Manager, folder: Path, password: str = ADMIN[1]) -> list[Finding]:
    (folder / "user").write_text(ADMIN[0])
    (folder / "password").write_text(password)
    settings = Settings(
        serving_engine="oscar",
        oscar_url=manager.url,
        oscar_username_file=folder / "user",
        oscar_password_file=folder / "password",
        objects_uri="s3://bucket/objects",
    )
    return [
        *await diagnosis.look(DoctorContext(settings, KubernetesRest("http://127.0.0.1:9", tls=None), "pelagos-system"))
    ]


async def test_a_cluster_that_is_fit_is_ok_but_for_what_it_is_not_told(tmp_path: Path) -> None:
    async with Manager() as manager:
        version, login, keys = await look(manager, tmp_path)
    assert (version.state, version.message) == (State.OK, f"OSCAR v4.1.2 at {manager.url}")
    assert (login.state, login.message) == (State.OK, "the operator may use OSCAR; it sees 0 services")
    assert (keys.state, keys.subject) == (State.WARNING, "storage of OSCAR")


async def test_a_wrong_login_an_old_version_and_an_open_door_are_told(tmp_path: Path) -> None:
    async with Manager() as manager:
        (refused,) = await look(manager, tmp_path, "wrong")
        assert (refused.state, "HTTP 401" in refused.message) == (State.FAILURE, True)
        manager.faults.answers = {
            "GET /system/info": (200, '{"version": "v3.7.1"}'),
            "GET /system/services": (200, "[]"),
        }
        found = await look(manager, tmp_path)
    assert [each.message for each in found if each.state is State.FAILURE] == [
        f"OSCAR v3.7.1 at {manager.url} cannot stop exposed services"
    ]
    assert "everybody who can reach OSCAR may see and change services" in [each.message for each in found]


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    manager = Manager()
    manager.url = "http://127.0.0.1:9"
    (found,) = await look(manager, tmp_path)
    assert found.state is State.FAILURE
    assert "http://127.0.0.1:9/system/info" in found.message
    manager.url = ""
    (found,) = await look(manager, tmp_path)
    assert "PELAGOS_OSCAR_URL must be the address" in found.message
