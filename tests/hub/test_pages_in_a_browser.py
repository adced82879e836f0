"""Pages as visitors get them, in Chromium: no other host is contacted, the policy reports nothing, and everyone can use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

import catalogued
from catalogued import PICTURE, collected, served, trained
from hub_servers import DESK, PHONE, Watched, barriers, chromium, listening
from hub_sites import Site

PATHS = ("/", "/?task=Detection&sort=name", "/?q=no+such+model", "/models/reef/plankton", "/models/reef/gone")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub with sixty models, and one whose training wrote everything that it can write."""
    folder = tmp_path_factory.mktemp("objects")

    def made(url: str) -> Site:
        site = Site(url=url, PELAGOS_OBJECTS_ROOT=folder)
        catalogued.fill(site.cluster, 60)
        site.cluster.put(served(card={"pictures": [PICTURE]}, created="2026-06-01T09:00:00Z"))
        site.cluster.put(trained(documents=[catalogued.written(folder)]))
        site.cluster.put(collected())
        site.cluster.pictures["reef", "pictures", "frame.png"] = catalogued.picture(3)
        return site

    with listening(made) as url:
        yield url


def visit(browser: Browser, address: str, **options: Any) -> Watched:
    return Watched(browser, address, **{"viewport": DESK, **options})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (DESK, "dark")], ids=["phone", "desk in the dark"])
def test_a_page_shuts_nobody_out_and_asks_nobody_else(
    browser: Browser, address: str, path: str, size: dict[str, int], scheme: str
) -> None:
    visitor = visit(browser, address, viewport=size, color_scheme=scheme)
    page = visitor.open(path)

    assert barriers(page) == []
    assert visitor.strangers == []
    assert [words for words in visitor.complaints if "404" not in words or "gone" not in path] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    visitor.context.close()


def test_what_fingers_touch_is_large_enough(browser: Browser, address: str) -> None:
    visitor = visit(browser, address, viewport=PHONE, has_touch=True)
    page = visitor.open("/")
    page.locator("summary").click()

    sizes = page.evaluate(
        "[...document.querySelectorAll('button, select, input:not([type=hidden]), summary, .facets a, .top a, .pages a')]"
        ".filter((each) => each.offsetParent).map((each) => [each.outerHTML.slice(0, 80), each.getBoundingClientRect().height])"
    )

    assert [each for each in sizes if each[1] < 44] == []
    assert len(sizes) > 20
    visitor.context.close()


def test_a_model_is_found_and_read_by_keyboard_alone(browser: Browser, address: str) -> None:
    visitor = visit(browser, address)
    page = visitor.open("/")

    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to content")
    page.keyboard.press("Enter")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.card') !== null"):
            break
    ring = page.evaluate("getComputedStyle(document.activeElement.closest('.card')).outlineStyle")
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/**")

    assert ring == "solid"
    expect(page.locator("h1")).to_have_text("Phytoplankton of the North Sea")
    visitor.context.close()


def test_everything_is_read_and_filtered_without_scripts(browser: Browser, address: str) -> None:
    visitor = visit(browser, address, java_script_enabled=False)
    page = visitor.open("/")

    page.get_by_role("link", name="Detection 13").click()
    page.get_by_label("Search in titles").fill("north sea")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Phytoplankton of the North Sea").click()

    expect(page.get_by_role("heading", name="Of each class, the worst first")).to_be_visible()
    expect(page.get_by_role("cell", name="0.41")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    visitor.context.close()


def test_code_is_copied_by_a_button_that_says_so(browser: Browser, address: str) -> None:
    visitor = visit(browser, address, permissions=["clipboard-read", "clipboard-write"])
    page = visitor.open("/models/reef/plankton")

    page.get_by_role("button", name="Copy").first.click()

    expect(page.get_by_role("status").last).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl --silent")
    visitor.context.close()


def test_choosing_an_order_searches_at_once(browser: Browser, address: str) -> None:
    visitor = visit(browser, address)
    page = visitor.open("/?task=Detection")

    page.get_by_label("Order").select_option("By name")
    page.wait_for_url("**sort=name**")

    assert "task=Detection" in page.url
    titles = page.locator(".card h2").all_inner_texts()
    assert titles == sorted(titles, key=str.casefold)
    visitor.context.close()


def test_a_printed_page_has_what_is_read_and_nothing_to_press(browser: Browser, address: str, tmp_path: Path) -> None:
    visitor = visit(browser, address)
    page = visitor.open("/models/reef/plankton")
    page.emulate_media(media="print")

    expect(page.locator(".anchors")).to_be_hidden()
    expect(page.get_by_role("heading", name="Numbers")).to_be_visible()
    assert len(page.pdf(path=tmp_path / "page.pdf")) > 10_000
    visitor.context.close()
