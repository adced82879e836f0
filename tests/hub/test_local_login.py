"""Logging in on the machine itself, where other users are strangers."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from hub_sites import Site


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
