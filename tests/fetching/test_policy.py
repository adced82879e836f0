"""Which addresses may be asked: decided by the platform's setting, whatever a Dataset says and wherever names resolve."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import pytest

from pelagos_contract import source_hosts
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.fetching import FetchError, Policy

FIELD = "source.http.url"
NAMES: Mapping[str, list[str]] = {
    "data.example": ["93.184.216.34", "2606:2800:220:1::1"],
    "cvat.lab.example": ["10.20.3.4"],
    "xcvat.lab.example": ["10.20.3.4"],
    "mixed.example": ["93.184.216.34", "10.20.3.4"],
    "clouds.example": ["169.254.169.254"],
    "nat64.example": ["64:ff9b::5db8:d822"],
    "hidden.example": ["64:ff9b::a9fe:a9fe"],
}


def names(host: str, port: int) -> list[source_hosts.Address]:
    del port
    if host not in NAMES:
        raise OSError("not known")
    return [ipaddress.ip_address(each) for each in NAMES[host]]


def asked(url: str, setting: str = "") -> list[str]:
    policy = Policy(setting, resolver=names)
    return [str(each) for each in policy.addresses(policy.target(url, FIELD), FIELD)]


def refusal(url: str, setting: str = "") -> str:
    with pytest.raises(RefusedError) as caught:
        asked(url, setting)
    assert caught.value.failure.reason is Reason.SOURCE_NOT_ALLOWED
    return caught.value.failure.message


def test_public_addresses_are_asked_over_https_without_any_setting() -> None:
    assert asked("https://data.example/a.zip?x=1") == NAMES["data.example"]
    assert asked("https://DATA.example.:8443/") == NAMES["data.example"]
    assert asked("https://nat64.example/") == NAMES["nat64.example"]


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[fe80::1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://224.0.0.1/",
        "https://0.0.0.0/",
        "https://240.0.0.1/",
        "https://192.0.2.1/",
        "https://cvat.lab.example/",
        "https://mixed.example/",
        "https://clouds.example/",
        "https://hidden.example/",
    ],
)
def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    assert "is not asked" in refusal(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://data.example/", "http sends everything in the clear"),
        ("ftp://data.example/", "only addresses that begin with https://"),
        ("file:///etc/passwd", "only addresses that begin with https://"),
        ("https://ann:secret@data.example/", "put that into a Secret"),
        ("https://data.example@10.0.0.1/", "put that into a Secret"),
        ("https://2130706433/", "not written in the usual form"),
        ("https://0177.0.0.1/", "not written in the usual form"),
        ("https://0x7f.0.0.1/", "not written in the usual form"),
        ("https://127.1/", "not written in the usual form"),
        ("https://[::ffff:127.0.0.1]/", "not written in the usual form"),
        ("https://[::ffff:8.8.8.8]/", "not written in the usual form"),
        ("https://[fe80::1%25eth0]/", "encoded, or has a zone"),
        ("https://data.ex%61mple/", "encoded, or has a zone"),
        ("https://data.example\\@evil.example/", "a backslash"),
        ("https://data.example/a b", "spaces"),
        ("https://data.example/%zz", "written as %XX"),
        ("https://dàta.example/", "written as %XX"),
        ("https://data.example:0/", "0 is no port"),
        ("https://data.example:99999/", "99999 is no port"),
        ("https:///a", "names no host"),
        ("https://data..example/", "is no name"),
        ("https://" + "a" * 9000, "allowed are 8192"),
    ],
)
def test_addresses_that_programs_could_read_in_two_ways_are_refused(url: str, why: str) -> None:
    message = refusal(url)
    assert why in message
    assert "ann" not in message
    assert "secret@" not in message


@pytest.mark.parametrize(
    ("url", "setting"),
    [
        ("https://cvat.lab.example/api", "https://cvat.lab.example"),
        ("https://cvat.lab.example/api", "cvat.lab.example"),
        ("https://cvat.lab.example:8443/api", "https://cvat.lab.example:*"),
        ("https://cvat.lab.example/api", "*.lab.example"),
        ("https://cvat.lab.example/api", "10.20.0.0/16"),
        ("https://mixed.example/api", "10.20.0.0/16, other.example"),
        ("http://cvat.lab.example:8080/", "http://cvat.lab.example:8080"),
        ("http://127.0.0.1:81/", "http://127.0.0.1:81"),
        ("https://[::1]/", "https://[::1]"),
        ("https://127.0.0.1/", "127.0.0.0/8"),
    ],
)
def test_the_platform_allows_hosts_and_networks(url: str, setting: str) -> None:
    assert asked(url, setting)


@pytest.mark.parametrize(
    ("url", "setting"),
    [
        ("https://cvat.lab.example:8443/", "https://cvat.lab.example"),
        ("http://cvat.lab.example/", "https://cvat.lab.example"),
        ("http://cvat.lab.example/", "10.20.0.0/16"),
        ("https://xcvat.lab.example/", "cvat.lab.example"),
        ("https://cvat.lab.example/", "*.cvat.lab.example"),
        ("https://clouds.example/", "https://clouds.example, 169.254.0.0/16"),
        ("https://hidden.example/", "https://hidden.example, ::/0"),
    ],
)
def test_an_entry_allows_no_more_than_it_says(url: str, setting: str) -> None:
    refusal(url, setting)


def test_the_line_that_a_refusal_prints_is_the_one_that_helps() -> None:
    url = "http://cvat.lab.example:8080/api/tasks"
    where = "the ConfigMap pelagos-tenant-reef in pelagos-system"
    policy = Policy.read({source_hosts.VARIABLE: "10.9.0.0/16", source_hosts.OF: where})
    with pytest.raises(RefusedError) as caught:
        policy.target(url, FIELD)
    line = 'sourceHosts: "10.9.0.0/16, http://cvat.lab.example:8080"'
    assert f"{where}: {line}" in caught.value.failure.message
    assert asked(url, line.split('"')[1])
    assert "PELAGOS_SOURCE_HOSTS='https://cvat.lab.example'" in refusal("https://cvat.lab.example/")


@pytest.mark.parametrize(
    "setting",
    [
        "https://",
        "ftp://a.example",
        "*.example",
        "*",
        "10.0.0.1/8",
        "http://a.example:0",
        "a b\\c",
        "0x7f.1",
        "x " * 101,
    ],
)
def test_a_setting_that_is_none_is_refused_as_a_whole(setting: str) -> None:
    with pytest.raises(RefusedError, match="cannot be used") as caught:
        Policy(setting)
    assert "allowed are" in caught.value.failure.message or "at most" in caught.value.failure.message


def test_a_name_that_is_not_known_now_may_be_later() -> None:
    with pytest.raises(FetchError, match=r"gone\.example has no address"):
        asked("https://gone.example/")
