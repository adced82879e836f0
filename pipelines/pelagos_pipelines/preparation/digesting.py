"""Computes the digest of a version's description in a folder, for `pelagos lineage`: ``digesting FOLDER`` prints a line of JSON.

FOLDER holds ``manifest.json`` and ``annotations.json``. Its content may come from somebody else, so it is read under ceilings.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from pelagos_pipelines.preparation import versions

MEMORY = 8 * 1024**3
"""Bytes of address space; a version of 10 million boxes needs a quarter of it."""


def main(arguments: Sequence[str]) -> int:
    """Print the digest for the folder named on the command line. Returns the exit code."""
    (folder,) = arguments
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        answer = {"digest": f"sha256:{versions.digest_of(Path(folder))}"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        answer = {"error": f"they are not the files of a version ({type(error).__name__})"}
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    return "error" in answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
