"""``python -m pelagos``: the operator process."""

from __future__ import annotations

import os
import sys

# kopf imports the official client, if it is installed, to log in; that alone would triple the operator's memory and
# start-up time (measured: 101 against 43 MB, 2 against 0.5 s). We log in without it.
sys.modules["kubernetes"] = None  # type: ignore[assignment]


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    from pelagos import garbage

    garbage.postpone()

    import functools

    import kopf
    import uvloop

    from pelagos import engine_factory, engine_registry, wiring
    from pelagos.handlers import resources
    from pelagos.observability import logs
    from pelagos.settings import Settings
    from pelagos_contract import extensions
    from pelagos_contract.extensions import Plane

    try:
        settings = Settings()
        extensions.load(settings.extensions, Plane.CONTROL)
        engine_factory.check(settings)
    except ValueError as error:  # A retry would not help; the Pod shows this as its last message.
        sys.exit(f"The operator's settings are wrong. {error}")
    if not engine_registry.is_on_cluster(
        settings
    ):  # on a cluster, steps and model servers with other uids read the operator's files on claims
        os.umask(0o077)
    logs.configure()
    garbage.collect_rarely()
    # With Python's own event loop, sockets and TLS would be a large part of the cost of a pass.
    kopf.run(loop=uvloop.new_event_loop(), **resources.prepared(settings, functools.partial(wiring.start, settings)))


if __name__ == "__main__":
    main()
