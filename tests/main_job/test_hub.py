"""A model found and tried in the hub of `pelagos up`, with nothing replaced: hub, operator, gateway and Triton are real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from catalogued import CARD
from hub_sites import hidden
from installations import ENVIRONMENTS, Installation, service
from model_packages import packages
from pelagos_contract import trial_signature

__all__ = ["packages"]

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not ((ENVIRONMENTS / "hub").is_dir() and (ENVIRONMENTS / "gateway").is_dir()),
        reason="the environments hub and gateway are not installed",
    ),
]
IN_ORDER = True
"""The tests of this module build on each other."""
NAME = "tried"


@dataclass
class Tried:
    """A model in the catalogue, and a person who tries it."""

    site: Installation
    image: bytes
    address: str
    browsers: list[httpx2.Client] = field(default_factory=list)

    def signed_in(self) -> httpx2.Client:
        """A browser in which the user of this machine has signed in."""
        told = json.loads(self.site.pelagos("hub", "-o", "json"))
        assert told["address"] == self.address
        made = httpx2.Client(base_url=self.address, timeout=60)
        self.browsers.append(made)
        assert made.get(told["link"]).status_code == 303
        return made

    def begin(self, browser: httpx2.Client) -> str:
        """Click on Try; returns the path of the trial."""
        page = until(lambda: _page_with_a_button(browser))
        form = {name: hidden(page, name) for name in ("csrf", "namespace", "service")}
        answer = browser.post("/trials", data=form, headers={"Origin": self.address})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def opened(self, browser: httpx2.Client, path: str) -> dict[str, Any]:
        """Wait until images may be sent, or never will be; returns the status for the page's script."""

        def told() -> dict[str, Any] | None:
            found: dict[str, Any] = browser.get(f"{path}/status.json").json()
            return found if found["canSend"] or found["phase"] in {"Refused", "Expired"} else None

        found: dict[str, Any] = until(told)
        return found

    def trial(self, path: str) -> Any:
        """The resource behind a page."""
        return self.site.get("trial", path.rpartition("/")[2])

    def stop(self, browser: httpx2.Client, path: str) -> None:
        """Click on Stop."""
        csrf = hidden(browser.get(path).text)
        answer = browser.post(f"{path}/stop", data={"csrf": csrf}, headers={"Origin": self.address})
        assert answer.headers["location"] == "/me", answer.text


def _page_with_a_button(browser: httpx2.Client) -> str | None:
    page = browser.get(f"/models/default/{NAME}").text
    return page if 'action="/trials"' in page else None


def until(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)
    return value


@pytest.fixture(scope="module")
def tried(site: Installation, packages: dict[str, tuple[str, str]]) -> Iterator[Tried]:
    made = Path(packages["Detection"][0])
    store = site.home / "objects" / "models" / "default"
    store.mkdir(parents=True, exist_ok=True)
    if not (store / made.name).exists():
        shutil.copytree(made, store / made.name)
    site.close_to_others(store)
    wanted = service(NAME, {"uri": str(store / made.name), "manifestSha256": made.name}, deletionPolicy="Delete")
    wanted["spec"] |= {"card": CARD, "publish": {"catalogue": "Public"}}
    site.apply(wanted)
    site.wait_ready("modelservice", NAME, 120)
    address = json.loads(site.pelagos("hub", "-o", "json"))["address"]
    yield Tried(site, (made / "probe.png").read_bytes(), address)
    site.kubectl("delete", "modelservice", NAME)


@pytest.fixture(autouse=True)
def closed(tried: Tried) -> Iterator[None]:
    """Close all browsers after each test."""
    yield
    while tried.browsers:
        tried.browsers.pop().close()


def test_somebody_tries_a_model_from_the_catalogue_to_the_answer(tried: Tried) -> None:
    browser = tried.signed_in()
    until(lambda: str(CARD["title"]) in browser.get("/").text)
    path = tried.begin(browser)
    told = tried.opened(browser, path)

    assert told["phase"] == "Open", told
    assert [step["state"] for step in told["steps"]] == ["Done"] * 4
    assert 0 < told["secondsLeft"] <= 600
    trial = tried.trial(path)
    assert trial["status"]["attested"] is True
    assert trial_signature.ANNOTATION in trial["metadata"]["annotations"]

    page = browser.get(path).text
    answer = browser.post(
        f"{path}/predict.json",
        data={"csrf": hidden(page)},
        files={"image": ("probe.png", tried.image, "image/png")},
        headers={"Origin": tried.address},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["prediction"]["detections"] != []
    assert answer.json()["prediction"] == predicted(tried, trial, token_in(page))

    tried.stop(browser, path)
    until(lambda: refuses(tried, trial, token_in(page)))


def token_in(page: str) -> str:
    return "pt_" + page.partition("pt_")[2][:43]


def predicted(tried: Tried, trial: Any, token: str) -> Any:
    """The gateway's answer to a program of the user, with the token that the page shows."""
    headers = {"Authorization": f"Bearer {token}", "Inference-Header-Content-Length": "0"}
    address = f"{trial['status']['endpoints']['http']}/v2/models/{NAME}/infer"
    request = urllib.request.Request(address, tried.image, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        content = answer.read()
    return json.JSONDecoder().raw_decode(content[content.index(b'{"task"') :].decode(errors="replace"))[0]


def refuses(tried: Tried, trial: Any, token: str) -> bool:
    try:
        predicted(tried, trial, token)
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401
    return False


def test_more_than_a_person_may_have_at_once_is_refused_and_the_page_says_what_to_do(tried: Tried) -> None:
    browsers = [tried.signed_in() for _ in range(4)]
    # Each session has its own token, and so begins its own trial; the person is the same.
    paths = []
    for browser in browsers:
        csrf = hidden(browser.get("/me").text)
        form = {"csrf": csrf, "namespace": "default", "service": NAME}
        paths.append(browser.post("/trials", data=form, headers={"Origin": tried.address}).headers["location"])
    told = [tried.opened(browser, path) for browser, path in zip(browsers, paths, strict=True)]

    assert sorted(each["phase"] for each in told) == ["Open", "Open", "Open", "Refused"]
    refused = next(n for n, each in enumerate(told) if each["phase"] == "Refused")
    assert told[refused]["reason"] == "UserLimit"
    assert told[refused]["message"] in browsers[refused].get(paths[refused]).text.replace("&#39;", "'")
    for browser, path, each in zip(browsers, paths, told, strict=True):
        if each["phase"] == "Open":
            tried.stop(browser, path)


def test_a_hub_that_is_killed_comes_back_and_the_trial_goes_on(tried: Tried) -> None:
    browser = tried.signed_in()
    path = tried.begin(browser)
    assert tried.opened(browser, path)["phase"] == "Open"
    token = token_in(browser.get(path).text)
    trial = tried.trial(path)
    part = json.loads(tried.site.pelagos("status", "-o", "json"))["parts"]["hub"]

    os.kill(part["pid"], signal.SIGKILL)

    def is_back() -> bool:
        try:
            return browser.get("/").status_code == 200
        except httpx2.HTTPError:
            return False

    until(is_back)
    assert browser.get(path).status_code == 401
    assert predicted(tried, trial, token)
    again = tried.signed_in()
    assert NAME in again.get("/me").text
    assert "Another browser session" in until(lambda: again.get(path).text)
    tried.stop(again, path)
    until(lambda: refuses(tried, trial, token))
