"""Names and addresses that servers supply are sanitised, each in one place."""

from __future__ import annotations

import pytest

from pelagos_pipelines.sources import services
from pelagos_pipelines.sources.services import Names


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("../../etc/reef.png", "etc/reef.png"),
        ("/reef/1.png", "reef/1.png"),
        ("C:\\reef\\1.png", "C__reef_1.png"),
        ("a/.hidden/1.png", "a/hidden/1.png"),
        ("a\nb\x00.png", "a_b_.png"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("..", "image"),
        ("", "image"),
    ],
)
def test_a_name_leads_nowhere_and_hides_nothing(wanted: str, given: str) -> None:
    assert Names().claim(wanted, "7") == given


def test_names_differ_on_every_disk() -> None:
    names = Names()
    wanted = [
        "reef/1.png",
        "reef/1.png",
        "REEF/1.PNG",
        "reef/1.png/2.png",
        "reef",
        "reef/\u00e9.png",
        "reef/e\u0301.png",
    ]
    given = [names.claim(each, "7") for each in wanted]
    assert len({each.casefold() for each in given}) == len(wanted)
    assert given[0] == "reef/1.png"
    files = {each.casefold() for each in given}
    assert not any(each.casefold().startswith(f"{file}/") for each in given for file in files)


def test_a_long_name_keeps_its_ending_and_is_told_from_others() -> None:
    names = Names()
    one, other = (names.claim(f"{'x' * 400}{end}.png", "7") for end in "ab")
    assert one != other
    assert all(len(each) < 200 and each.endswith(".png") for each in (one, other))


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("/data/upload/3/0a1b2c3d-reef.png", "data/upload/3/0a1b2c3d-reef.png"),
        ("/data/local-files/?d=station/1.png", "station/1.png"),
        ("/tasks/1/resolve/?fileuri=czM6Ly9idWNrZXQva2V5LnBuZw==", "bucket/key.png"),
        ("https://reef.example.org/a%20b.png?key=secret", "a b.png"),
        ("http://[::1/x", "http://[::1/x"),
    ],
)
def test_the_path_of_a_file_is_in_its_address(place: str, path: str) -> None:
    assert services.path_of(place) == path


def test_an_address_is_written_as_browsers_do() -> None:
    assert (
        services.encoded("https://a.example/dive 1/\u00e9%20%.png?x=[1]")
        == "https://a.example/dive%201/%C3%A9%20%25.png?x=[1]"
    )
    assert not services.is_address("http://[::1/x")


def test_what_a_server_says_of_itself_is_asked_where_it_is_known() -> None:
    assert (
        services.rebased("https://cvat.example:8443/", "http://evil.example/api/x?y=1")
        == "https://cvat.example:8443/api/x?y=1"
    )
    assert not services.is_below("https://ls.example", "https://ls.example.evil.org/x")
    assert not services.is_below("https://ls.example", "http://ls.example/x")
