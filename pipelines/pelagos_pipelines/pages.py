"""Self-contained HTML pages for people: common styles and escaped content. They load nothing, whatever text is in them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

from pelagos_contract.judgement import PAGE_BEGINS
from pelagos_contract.text import shown

_STYLE = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;color:#1b2530;background:#fff;margin:0 auto;max-width:1040px;
padding:24px}h1{font-size:26px;margin:0}h2{font-size:19px;margin:36px 0 6px;border-bottom:1px solid #d7dee5;padding-bottom:4px}
h3{font-size:15px;margin:18px 0 4px}p{margin:6px 0;max-width:80ch}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}.tile{border:1px solid #d7dee5;border-radius:6px;padding:8px 14px;
min-width:96px}.tile b{display:block;font-size:21px}.note{color:#4a5866}.said{border-left:4px solid #E69F00;padding:4px 12px;
background:#fdf6e7;margin:6px 0;overflow-wrap:anywhere}svg{max-width:100%;height:auto}svg text{font-size:11.5px;fill:#1b2530}
.pair{display:flex;flex-wrap:wrap;gap:36px}figure{margin:8px 0;max-width:360px}figcaption{color:#4a5866}
img{max-width:100%;height:auto}.wide{overflow-x:auto}table{border-collapse:collapse;margin:8px 0}
th,td{text-align:left;vertical-align:top;
padding:3px 14px 3px 0;border-bottom:1px solid #e4e9ee;overflow-wrap:break-word}
td img{max-width:none}td.n,th.n{text-align:right}
"""


def rendered(title: str, parts: Iterable[str], style: str = "") -> str:
    """A page of the ``parts``, which are HTML; ``style`` is added to the common styles."""
    head = f'{PAGE_BEGINS}<meta name="viewport" content="width=device-width"><title>{words(title)}</title><style>'
    return "".join((head, _STYLE, style, "</style></head><body>", *parts, "</body></html>\n"))


def words(text: object) -> str:
    """Untrusted text, escaped for HTML."""
    return escape(shown(str(text)))


def picture(content: bytes, described: str, width: int, height: int, kind: str = "png") -> str:
    """An image embedded in the page as a data URL, of a ``kind`` that all browsers show."""
    data = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/{kind};base64,{data}" alt="{words(described)}" width="{width}" height="{height}">'
