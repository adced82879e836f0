"""Starts DEEPaaS' own server for the model of a package: ``deepaas-run`` in images/deepaas. Options are those of DEEPaaS.

Before it listens, every file of the package is compared with its digest, as the entrypoint of model servers does; if one differs,
it ends with a line and EX_DATAERR. It also ends when a process that computes is killed: DEEPaaS would wait forever for an answer
from it, and report that all is well.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing import active_children, connection
from multiprocessing.process import BaseProcess
from typing import NoReturn

from pelagos_pipelines.deepaas import settings
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import entrypoint, packages

FORM_BYTES = MEBIBYTE
"""Largest size of a request without its image."""
_LOOK_SECONDS = 0.2
"""Less than an interpreter needs to start: a worker that ends unnoticed has taken no image, and DEEPaaS replaces it."""
_CODE_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_SERVER = "PELAGOS_DEEPAAS_SERVER"
"""Environment variable of workers: the process id of their server."""
_DESCRIPTION = "One model of Pelagos: `GET /v2/models/` says which. `POST /v2/models/pelagos/predict/` takes an image."
"""Shown at the top of the page /api. DEEPaaS' own description makes browsers fetch a picture from another site."""


def main() -> None:
    """Verify the package and run DEEPaaS. Ends the process with a message if that is impossible."""
    os.umask(0o077)
    try:
        given = settings.read(os.environ)
        packages.verify(given.package, given.manifest_sha256)
        uploads = tempfile.mkdtemp(prefix="pelagos-uploads-")
    except packages.RefusedError as error:
        entrypoint.fail(str(error), os.EX_DATAERR)
    except OSError as error:
        entrypoint.fail(entrypoint.failure(error), os.EX_IOERR)
    _set(uploads)
    from deepaas.cmd import run

    from deepaas import api  # type: ignore[attr-defined, unused-ignore] # found as this package where it is not installed

    api.API_DESCRIPTION = _DESCRIPTION
    threading.Thread(target=_watch, args=(uploads,), daemon=True).start()
    code: object = os.EX_SOFTWARE
    try:
        run.main()
        code = 0
    except SystemExit as ended:  # raised on a signal
        code = ended.code
    except packages.RefusedError as error:
        with suppress(SystemExit):
            entrypoint.fail(str(error), os.EX_DATAERR)
        code = os.EX_DATAERR
    except Exception:
        traceback.print_exc()
    _end(code, uploads)


def _set(uploads: str) -> None:
    """Set the environment of DEEPaaS. A limit for requests that the caller has set takes precedence."""
    # DEEPaaS writes requests into temporary files and never removes them.
    os.environ["TMPDIR"] = tempfile.tempdir = uploads
    largest = Ceilings.read().image_mebibytes * MEBIBYTE + FORM_BYTES
    os.environ.setdefault("OS_DEFAULT__CLIENT_MAX_SIZE", str(largest))
    os.environ["OS_DEFAULT__MODEL_NAME"] = "pelagos"
    os.environ[_SERVER] = str(os.getpid())
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Otherwise the last line of the log would be Python's resource tracker warning about semaphores that end with this process.
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"


def _watch(uploads: str) -> None:
    """End this process when one of its workers has ended."""
    known: dict[object, BaseProcess] = {}
    while True:
        known |= {each.sentinel: each for each in active_children()}
        ended = connection.wait([each.sentinel for each in known.values()], timeout=_LOOK_SECONDS) if known else ()
        for sentinel in ended:
            print(  # noqa: T201 - the container's log
                f"pelagos: a process that computes {_how(known[sentinel])}; the server ends, to be restarted",
                file=sys.stderr,
            )
            _end(os.EX_SOFTWARE, uploads)
        if not known:
            time.sleep(_LOOK_SECONDS)


def _how(worker: BaseProcess) -> str:
    """How a process has ended, in words."""
    # A thread of DEEPaaS' pool may be the one that reaps the process; the exit code is available a moment later.
    deadline = time.monotonic() + _CODE_SECONDS
    while worker.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.01)
    code = worker.exitcode
    if code is not None and code < 0:
        return f"was ended by signal {-code}, perhaps for lack of memory"
    return f"ended with code {code}"


def _end(code: object, uploads: str) -> NoReturn:
    """End at once, with the workers: Python would wait for them, and DEEPaaS would replace those that ended."""
    shutil.rmtree(uploads, ignore_errors=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else 0)


def _follow() -> None:
    """Make a worker end with the server, however that ends, and not before it."""
    # A signal to the whole process group, as a terminal sends it, ends the server, and thereby the workers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[_SERVER]):  # the server ended before the signal was requested
        os._exit(os.EX_SOFTWARE)


# The name under which multiprocessing imports the main program in its workers.
if __name__ == "__mp_main__":
    _follow()
if __name__ == "__main__":
    main()
