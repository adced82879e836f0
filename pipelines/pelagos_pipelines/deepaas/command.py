"""DEEPaaS' own command line for the model of a package: ``deepaas-cli`` in images/deepaas. Options are those of DEEPaaS.

A refused image or package gives one line on standard error and the exit code EX_DATAERR, without a stack trace.
"""

from __future__ import annotations

import os
import sys

from pelagos_contract.text import shown
from pelagos_pipelines.serving.packages import RefusedError


def main() -> int:
    """Run the command line. Returns the exit code."""
    # DEEPaaS' command line reads its environment when it is loaded.
    os.environ |= {"DEEPAAS_V2_MODEL": "pelagos", "ORT_DISABLE_TELEMETRY": "1"}
    from deepaas.cmd import cli

    from pelagos_pipelines.deepaas.model import BusyError, UnusableImageError

    try:
        cli.main()
    except (UnusableImageError, BusyError, RefusedError) as error:
        print(f"pelagos: {shown(str(error))}", file=sys.stderr)  # noqa: T201 - of a command
        return os.EX_DATAERR
    return 0


if __name__ == "__main__":
    sys.exit(main())
