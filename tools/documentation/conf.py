"""Builds the documentation site from docs/, which is plain Markdown and also readable without it. Run by tools/site.sh."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
SOURCE = os.environ.get("SOURCE", "").rstrip("/")
"""The repository's address, such as https://host/owner/pelagos/blob/main, as the target of links to files outside docs/."""

TAKEN = ("search", "genindex", "index")

project = "Pelagos"
author = "the Pelagos authors"
release = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
version = release
extensions = ["myst_parser"]
root_doc = "README"
source_suffix = {".md": "markdown"}
# Commands with their output, and JSON with "...", are not valid input for the highlighter.
suppress_warnings = ["misc.highlighting_failure"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"Pelagos {version}"
html_static_path = ["static"]
html_css_files = ["pelagos.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_use_index = False

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\((?!\.\.)([^)#:\s]+)\.md(?:#[^)\s]*)?\)")
_OUTSIDE = re.compile(r"\[([^\]\n]+)\]\(((?:\.\./)+[^)\s]*)\)")
_FENCE = re.compile(r"^( *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def menu(text: str) -> str:
    """Turn the links in a list of pages into menu directives, one for each section."""
    beginning, *sections = _SECTION.split(text)
    captions = zip(sections[::2], sections[1::2], strict=True) if sections else [("", beginning)]
    parts = []
    for caption, section in captions:
        if pages := dict.fromkeys(_PAGE.findall(section)):
            named = [f":caption: {caption}"] if caption else []
            parts.append("\n".join(["```{toctree}", ":hidden:", *named, "", *pages, "```", ""]))
    return "\n".join(parts)


def without_links_to_files(text: str, folder: Path, docs: Path) -> str:
    """Point links to files that are not pages to the repository's address; without one, replace them by their paths."""

    def replaced(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        path, hash_sign, anchor = target.partition("#")
        file = (folder / path).resolve()
        if file.is_relative_to(docs):
            return match[0]
        name = file.relative_to(docs.parent).as_posix()
        if SOURCE:
            return f"[{words}]({SOURCE}/{name}{hash_sign}{anchor})"
        return words if name in words else f"{words} (`{name}`)"

    parts = _FENCE.split(text)
    return "".join(part if part.lstrip(" ").startswith("```") else _OUTSIDE.sub(replaced, part) for part in parts)


def read(app: Sphinx, name: str, content: list[str]) -> None:
    """Sphinx's event ``source-read``: replace the text of a page before it is parsed."""
    if name in TAKEN:
        raise ExtensionError(f"{name}.md must have another name: the site has a page {name}.html of its own")
    docs = Path(app.srcdir).resolve()
    content[0] = without_links_to_files(content[0], (docs / name).parent, docs)
    if Path(name).name == "README":
        content[0] += "\n" + menu(content[0])


def finish(app: Sphinx, error: Exception | None) -> None:
    """Sphinx's event ``build-finished``: let folder addresses show their README, as repository hosts do."""
    if error is None:
        for page in Path(app.outdir).rglob("README.html"):
            shutil.copy(page, page.with_name("index.html"))


def setup(app: Sphinx) -> None:
    """Sphinx's entry point: connect the event handlers."""
    app.connect("source-read", read)
    app.connect("build-finished", finish)
