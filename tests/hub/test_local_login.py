"""Logging in on the machine itself, where other users are strangers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser

from hub_sites import Site
from small_volumes import fill, small

__all__ = ["small"]


def path_of(link: Path) -> str:
    parts = urlsplit(link.read_text(encoding="utf-8").strip())
    return f"{parts.path}?{parts.query}"


async def test_a_link_in_a_file_of_the_owner_logs_in_once(tmp_path: Path) -> None:
    link = tmp_path / "hub-link"
    site = Site(login_link_file=link)
    site.hub.link.renew()
    assert link.stat().st_mode & 0o777 == 0o600
    path = path_of(link)

    async with site.visitor() as visitor, site.visitor() as stranger:
        assert "pelagos hub" in (await visitor.get("/login")).text
        assert (await stranger.get("/login/local?token=guessed")).status_code == 403
        assert (await stranger.get("/login/local?token=")).status_code == 403
        answer = await visitor.get(path)
        assert answer.headers["location"] == "/"
        assert "Sign out" in (await visitor.get("/")).text
        again = await stranger.get(path)
        assert again.status_code == 403
        assert "Run `pelagos hub`" in again.text
        assert path_of(link) != path
        assert (await stranger.get(path_of(link))).status_code == 303


async def test_the_same_user_is_the_same_person_at_every_login(tmp_path: Path) -> None:
    site = Site(login_link_file=tmp_path / "hub-link")
    site.hub.link.renew()
    for _ in range(2):
        async with site.visitor() as visitor:
            await visitor.get(path_of(tmp_path / "hub-link"))
    keys = {session.person.key for session in site.hub.sessions.all() if session.person}
    assert len(keys) == 1
    assert str(os.geteuid()) not in keys


async def test_without_a_link_file_no_token_logs_in() -> None:
    site = Site()
    site.hub.link.renew()
    async with site.visitor() as visitor:
        assert (await visitor.get("/login/local?token=")).status_code == 403
        assert "PELAGOS_HUB_OIDC_ISSUER" in (await visitor.get("/login")).text


async def test_a_folder_that_cannot_be_written_to_is_no_reason_to_stop(tmp_path: Path) -> None:
    site = Site(login_link_file=tmp_path / "absent" / "hub-link")
    site.hub.link.renew()
    async with site.visitor() as visitor:
        assert (await visitor.get("/login/local?token=")).status_code == 403
        assert (await visitor.get("/")).status_code == 200


async def test_after_a_full_disk_the_next_try_has_a_new_link(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    link = small / "hub-link"
    site = Site(login_link_file=link)
    site.hub.link.renew()
    used = path_of(link)
    fill(small)
    async with site.visitor() as visitor:
        assert (await visitor.get(used)).status_code == 303
    for _ in range(3):
        async with site.visitor() as stranger:
            assert (await stranger.get(used)).status_code == 403
    assert path_of(link) == used, "it is no half-written one"
    (said,) = [entry.getMessage() for entry in caplog.records if entry.levelname == "ERROR"]
    assert f"no space is left on the volume {small}" in said
    (small / "what others keep there").unlink()
    async with site.visitor() as visitor:
        assert (await visitor.get(used)).status_code == 403
        assert (await visitor.get(path_of(link))).status_code == 303


async def test_an_image_is_tried_although_no_disk_has_space_for_it(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    fill(small)
    boundary = "line"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
    body = part + bytes(8 * 2**20) + f"\r\n--{boundary}--\r\n".encode()

    async def sent() -> AsyncGenerator[bytes]:
        yield body

    headers = Headers({"content-type": f"multipart/form-data; boundary={boundary}"})
    form = await MultiPartParser(headers, sent()).parse()
    image = form["image"]
    assert not isinstance(image, str)
    assert image.size == 8 * 2**20
    await form.close()
