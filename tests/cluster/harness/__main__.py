"""A cluster for trying things by hand, until Ctrl-C: ``PYTHONPATH=tests .venvs/dev/bin/python -m cluster.harness [IMAGE...]``.

IMAGE is operator, serving or trainer, which is built first. Prints how to reach the cluster.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from cluster.harness import machine
from cluster.harness.cluster import Cluster


def main(images: list[str]) -> None:
    """Start, wait for SIGINT or SIGTERM, stop."""
    if reason := machine.unsupported() or machine.not_installed():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="pelagos-cluster-", ignore_cleanup_errors=True) as folder:
        running = Cluster.start(Path(folder))
        try:
            for name in images:
                print(running.images.build(name), flush=True)
            print(
                f"export KUBECONFIG={running.kubeconfig}\n# audit log: {running.audit_log}\n# Ctrl-C ends it",
                flush=True,
            )
            signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            running.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
