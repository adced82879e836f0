"""``python -m pelagos_pipelines.samples --wheel FILE --into FOLDER``. Called by tools/samples.sh.

Writes ``phytoplankton-crops``, the real images, and everything composed from them, and prints which is which.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from pelagos_pipelines.samples import writing
from pelagos_pipelines.samples.wheel import SamplesError, read


def main() -> int:
    """Compose the samples. Returns the exit code: 1 when the wheel is not the expected one."""
    parser = argparse.ArgumentParser(prog="pelagos_pipelines.samples", description="Compose the sample collections.")
    parser.add_argument("--wheel", type=Path, required=True, help="planktonclas-0.2.4-py3-none-any.whl")
    parser.add_argument("--into", type=Path, required=True, help="folder to write into")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        writing.write(read(arguments.wheel), arguments.into)
    except SamplesError as error:
        logging.getLogger("pelagos_pipelines.samples").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
