"""``python -m pelagos.embedded``: the supervisor, in the background after `pelagos up`. Its standard output is its log."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from pelagos.embedded import installation
from pelagos.embedded.failures import StartError
from pelagos.observability import logs
from pelagos.settings import Settings
from pelagos_contract import extensions
from pelagos_contract.extensions import ExtensionError, Plane


def main() -> int:
    """Run until stopped; returns the exit code."""
    os.umask(0o077)  # inherited by all parts, and everything they start
    logs.configure_plain(logging.StreamHandler(sys.stdout))
    try:
        settings = Settings()
        extensions.load(settings.extensions, Plane.CONTROL)  # our definitions of kinds contain what they add
        return asyncio.run(installation.run(settings))
    except (StartError, ExtensionError) as error:
        logging.getLogger(__name__).error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
