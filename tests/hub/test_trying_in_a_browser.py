"""Trying a model as a person does who looks, clicks and waits: in Chromium, with and without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

import catalogued
from catalogued import DETECTIONS, PICTURE, served
from hub_servers import DESK, PHONE, Watched, answering, attempted, barriers, chromium, listening
from hub_sites import Site

OPEN = "/trials/reef/try-plankton-1"


class Trying:
    """A hub with an open trial, and the browser of its user."""

    def __init__(self, browser: Browser, url: str, number: str, site: Site) -> None:
        self.browser, self.url, self.number, self.site = browser, url, number, site

    def visitor(self, **options: Any) -> Watched:
        visitor = Watched(self.browser, self.url, **{"viewport": DESK, **options})
        cookie = {"name": f"pelagos-{self.url.rpartition(':')[2]}", "value": self.number, "url": self.url}
        visitor.context.add_cookies([cookie])  # type: ignore[list-item]  # a dict of that shape
        return visitor


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def trying(browser: Browser) -> Iterator[Trying]:
    made: list[Any] = []

    def site(url: str) -> Site:
        found = Site(url=url)
        found.cluster.put(served(card={"pictures": [PICTURE]}))
        found.cluster.pictures["reef", "pictures", "frame.png"] = catalogued.picture(3)
        made.extend((attempted(found, model), found))
        for phase in ("Starting", "Expired", "Refused"):
            attempted(found, model, f"try-{phase.lower()}", phase=phase)
        return found

    with answering(DETECTIONS) as model, listening(site) as url:
        yield Trying(browser, url, *made)


@pytest.mark.parametrize("name", ["try-plankton-1", "try-starting", "try-expired", "try-refused", "me"])
def test_pages_of_trials_shut_nobody_out_and_ask_nobody_else(trying: Trying, name: str) -> None:
    for size, scheme in ((PHONE, "dark"), (DESK, "light")):
        visitor = trying.visitor(viewport=size, color_scheme=scheme)
        page = visitor.open("/me" if name == "me" else f"/trials/reef/{name}")
        if name == "try-plankton-1":
            page.locator(".sample").click()
            expect(page.get_by_role("heading", name="Answer for A frame")).to_be_focused()

        assert barriers(page) == []
        assert (visitor.strangers, visitor.complaints) == ([], [])
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        visitor.context.close()


def check(page: Page) -> None:
    """Check that the answer is drawn in the image's pixels, and listed in a table."""
    shapes = page.locator(".drawing .shape rect")
    expect(shapes).to_have_count(4)
    expect(shapes.first).to_have_attribute("x", "120.0")
    expect(page.get_by_role("row", name="Rhizosolenia")).to_contain_text("0.710")
    expect(page.get_by_role("row", name="<script>alert(1)</script>")).to_be_visible()
    assert page.locator(".drawing").evaluate("(svg) => svg.viewBox.baseVal.width") == 800


def test_an_image_is_chosen_by_keyboard_and_its_answer_explored(trying: Trying, tmp_path: Path) -> None:
    (tmp_path / "cells.png").write_bytes(catalogued.picture(5))
    visitor = trying.visitor()
    page = visitor.open(OPEN)

    page.get_by_label("Choose an image").set_input_files(tmp_path / "cells.png")
    expect(page.get_by_role("heading", name="Answer for cells.png")).to_be_focused()
    check(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/predict" in request.url else None)
    slider = page.get_by_label("Show score from")
    slider.focus()
    for _ in range(50):
        page.keyboard.press("ArrowRight")

    expect(page.locator("output")).to_have_text("0.50: 2 of 4")
    expect(page.locator(".drawing .shape:visible")).to_have_count(2)
    assert asked == []  # nothing was sent again
    with page.expect_download() as told:
        page.get_by_role("button", name="Download JSON").click()
    assert json.loads(Path(told.value.path()).read_text())["detections"][0]["label"] == "Chaetoceros"
    with page.expect_download() as told:
        page.get_by_role("button", name="Download CSV").click()
    assert told.value.suggested_filename == "cells.csv"
    assert Path(told.value.path()).read_text().splitlines()[1].startswith('"1","Chaetoceros","0.930"')
    page.get_by_role("link", name="Mark 2, Rhizosolenia").click()
    assert page.evaluate("document.querySelector('.shape:target title').textContent").startswith("2: Rhizosolenia")
    assert visitor.complaints == []
    visitor.context.close()


def test_an_image_is_dropped(trying: Trying) -> None:
    visitor = trying.visitor()
    page = visitor.open(OPEN)
    data = page.evaluate_handle(
        """async () => {
          const answer = await fetch("/models/reef/plankton/pictures/0");
          const data = new DataTransfer();
          data.items.add(new File([await answer.blob()], "dropped.webp", { type: "image/webp" }));
          return data;
        }"""
    )

    page.dispatch_event("[data-drop]", "drop", {"dataTransfer": data})

    expect(page.get_by_role("heading", name="Answer for dropped.webp")).to_be_visible()
    check(page)
    visitor.context.close()


def test_without_scripts_forms_do_the_same(trying: Trying, tmp_path: Path) -> None:
    (tmp_path / "cells.png").write_bytes(catalogued.picture(5))
    visitor = trying.visitor(java_script_enabled=False)
    page = visitor.open(OPEN)

    page.get_by_label("Choose an image").set_input_files(tmp_path / "cells.png")
    page.get_by_role("button", name="Send").click()
    check(page)
    page.locator(".sample").click()
    check(page)

    expect(page.get_by_role("heading", name="Answer for A frame with three cells")).to_be_visible()
    visitor.context.close()


def test_what_is_no_image_is_told_beside_the_form_and_changes_nothing(trying: Trying, tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no image")
    visitor = trying.visitor()
    page = visitor.open(OPEN)

    page.get_by_label("Choose an image").set_input_files(tmp_path / "note.png")

    expect(page.locator("[data-busy]")).to_contain_text(
        "This image is not accepted. This is not an image of an accepted kind"
    )
    expect(page.get_by_label("Choose an image")).to_be_enabled()
    visitor.context.close()


def test_the_clock_warns_at_one_minute_and_the_answer_stays_when_time_is_up(trying: Trying) -> None:
    visitor = trying.visitor()
    visitor.page.clock.install()
    page = visitor.open(OPEN)
    page.locator(".sample").click()
    expect(page.get_by_role("heading", name="Answer for A frame")).to_be_visible()
    page.route("**/status.json", lambda route: route.abort())  # the hub is unavailable; the page's clock continues

    page.clock.run_for(462_000)
    expect(page.locator("[data-status]")).to_have_text("One minute left.")
    page.clock.run_for(60_000)

    expect(page.locator("[data-status]")).to_contain_text("Time is up")
    expect(page.locator("[data-drop]")).to_be_hidden()
    expect(page.get_by_text("export TOKEN=")).to_be_hidden()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    check(page)
    visitor.context.close()


def test_steps_move_as_conditions_do_and_the_page_opens_by_itself(trying: Trying) -> None:
    visitor = trying.visitor()
    page = visitor.open("/trials/reef/try-starting")
    expect(page.locator("[data-state=Current]")).to_contain_text("now")
    expect(page.get_by_label("Choose an image")).to_have_count(0)

    body = dict(trying.site.cluster.trials().objects["reef", "try-starting"])
    expires = trying.site.cluster.trials().objects["reef", "try-plankton-1"]["status"]["expiresAt"]
    trying.site.cluster.put({**body, "status": {**body["status"], "phase": "Open", "expiresAt": expires}})

    expect(page.locator("[data-clock]")).to_have_text("08:41")
    expect(page.locator("[data-state=Done]")).to_have_count(4)
    visitor.context.close()


def test_stopping_leads_to_what_is_left(trying: Trying) -> None:
    visitor = trying.visitor()
    page = visitor.open(OPEN)

    page.get_by_role("button", name="Stop").click()
    page.wait_for_url("**/me")

    assert ("reef", "try-plankton-1") not in trying.site.cluster.trials().objects
    visitor.context.close()


def test_with_motion_reduced_nothing_turns(trying: Trying) -> None:
    visitor = trying.visitor(reduced_motion="reduce")
    page = visitor.open("/trials/reef/try-starting")

    assert page.evaluate("document.getAnimations().length") == 0
    visitor.context.close()
