"""Untrusted Markdown as HTML: without raw HTML, without external pictures, and with links that search engines do not follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from typing_extensions import override

_LARGEST = 400_000
_WIDE = re.compile(r"<table>(.*?)</table>", re.DOTALL)
_FIRST, _END = "### Of each class", "## Limits"


class _Markdown(MarkdownIt):
    """CommonMark with tables."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "maxNesting": 20})
        self.enable("table").disable("image")
        self.renderer.rules["link_open"] = _link_open  # type: ignore[attr-defined]  # a dict, by its documentation

    @override
    def validateLink(self, url: str) -> bool:
        return url.startswith(("https://", "http://", "mailto:"))


def _link_open(tokens: Sequence[Token], index: int, options: Any, _environment: Any) -> str:
    tokens[index].attrSet("rel", "nofollow noopener")
    return str(_MARKDOWN.renderer.renderToken(tokens, index, options, {}))  # type: ignore[attr-defined]


_MARKDOWN = _Markdown()


@lru_cache(maxsize=32)
def render(text: str) -> Markup:
    """Render with all headings below the second level; wide tables scroll sideways, also by keyboard.

    The longest texts, or ones crafted to be slow, take seconds: results are cached, and callers must keep it off the event loop.
    """
    tokens = _MARKDOWN.parse(text[:_LARGEST])
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = "h3"
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    scrolled = _WIDE.sub(
        r'<div class="wide" tabindex="0" role="group" aria-label="Table"><table>\1</table></div>', html
    )
    return Markup(scrolled)  # noqa: S704  the renderer escapes all text, and html is off


def figures_of_classes(card: str) -> str:
    """The part of a model card with the figures of classes, slices and groups; empty without one."""
    begin = card.find(f"\n{_FIRST}")
    if begin < 0:
        begin = min((place for place in (card.find("\n## Slices"), card.find("\n## Groups")) if place >= 0), default=-1)
    if begin < 0:
        return ""
    end = card.find(f"\n{_END}", begin)
    return card[begin + 1 : end if end >= 0 else len(card)]
