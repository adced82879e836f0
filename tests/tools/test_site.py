"""The documentation site is built from docs/ alone without a warning, and contacts no other host when it is read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

import browser

ROOT = Path(__file__).parents[2]
BUILDER = Path(os.environ.get("PELAGOS_ENVIRONMENTS", ROOT / ".venvs")) / "site/bin/sphinx-build"
pytestmark = pytest.mark.skipif(not BUILDER.exists(), reason="the environment site is not installed")
in_chromium = pytest.mark.skipif(not browser.CHROMIUM.exists(), reason="there is no Chromium: `make test` installs it")


def build(target: Path, *docs: Path, source: str = "") -> subprocess.CompletedProcess[str]:
    command = [ROOT / "tools/site.sh", target, *docs]
    environment = os.environ | {"SOURCE": source}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    done = build(folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A list of pages, and one page."""
    folder = tmp_path / "repository/docs"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# Pages\n\n## How to\n* [Fish](fish.md#cod)\n")
    (folder / "fish.md").write_text("# Fish\n\n## Cod\nSee [the sample](../manifests/cod.yaml) and [all](README.md).\n")
    return folder


def test_every_page_is_in_the_menu_of_the_first(site: Path) -> None:
    first = (site / "index.html").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").glob("*.md")]

    assert [page.as_posix() for page in pages if page.stem != "README" and f'href="{page}"' not in first] == []


@in_chromium
@pytest.mark.parametrize("page", ["index.html", "monitoring.html"])
def test_a_page_is_shown_and_asks_nobody(site: Path, tmp_path: Path, page: str) -> None:
    became, _, hosts = browser.shown(site / page, tmp_path)

    assert "<h1>" in became
    assert {host for host in hosts if not host.endswith(browser.OWN)} == set()


@in_chromium
def test_the_search_finds_pages_and_asks_nobody(site: Path, tmp_path: Path) -> None:
    address = f"{(site / 'search.html').as_uri()}?q={quote('near duplicates')}"
    frame = tmp_path / "asked.html"
    frame.write_text(f'<meta http-equiv="refresh" content="0; url={address}">', encoding="utf-8")

    became, _, hosts = browser.shown(frame, tmp_path, "--virtual-time-budget=10000")

    assert 'href="preparing.html' in became
    assert {host for host in hosts if not host.endswith(browser.OWN)} == set()


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("# Fish\n[Hake](hake.md)\n", "hake.md"),
        ("# Fish\n[Hake](README.md#hake)\n", "hake"),
        ("# Fish\n![Hake](hake.png)\n", "hake.png"),
    ],
    ids=["a page that is not there", "a section that is not there", "a picture that is not there"],
)
def test_a_broken_link_fails(docs: Path, tmp_path: Path, page: str, said: str) -> None:
    (docs / "fish.md").write_text(page + "\n## Cod\n")

    done = build(tmp_path / "site", docs)

    assert done.returncode != 0
    assert said in done.stderr


def test_a_page_that_no_list_names_fails(docs: Path, tmp_path: Path) -> None:
    (docs / "lost.md").write_text("# Lost\n")

    done = build(tmp_path / "site", docs)

    assert done.returncode != 0
    assert "lost.md" in done.stderr


def test_a_page_that_would_hide_the_search_fails(docs: Path, tmp_path: Path) -> None:
    (docs / "search.md").write_text("# Search\n")

    done = build(tmp_path / "site", docs)

    assert done.returncode != 0
    assert "search.md must have another name" in done.stderr


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("", '<p>See the sample (<code class="docutils literal notranslate"><span class="pre">manifests/cod.yaml</span></code>)'),
        ("https://code.example/main", 'href="https://code.example/main/manifests/cod.yaml"'),
    ],
    ids=["its path", "its address"],
)  # fmt: skip
def test_a_file_that_is_no_page_is_shown_as(docs: Path, tmp_path: Path, source: str, shown: str) -> None:
    done = build(tmp_path / "site", docs, source=source)

    assert (done.returncode, done.stderr) == (0, "")
    assert shown in (tmp_path / "site/fish.html").read_text(encoding="utf-8")
