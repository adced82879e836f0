"""Run by the interpreter of the environment metadata: reads a document of MLDCAT-AP as RDF, without network access.

Argument: the document. Prints its statements as JSON: subject, predicate, object.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import rdflib


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError("it asks for something outside of the document")


socket.socket.connect = refuse  # type: ignore[method-assign]
graph = rdflib.Graph().parse(data=Path(sys.argv[1]).read_text(encoding="utf-8"), format="json-ld")
print(json.dumps([[str(part) for part in statement] for statement in graph]))
