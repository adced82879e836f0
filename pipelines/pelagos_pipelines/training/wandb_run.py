"""Reports a training to Weights & Biases if its TrainingRun asks for it. An unavailable server never delays or ends a training.

The client is not in the steps' environment: wandb_program.py runs in a separate one. Each report has the same id and sends only
what the server does not have. So data that one report missed are sent with the next, and nothing is sent twice.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pelagos_contract import source_hosts, text
from pelagos_contract.failures import RefusedError
from pelagos_contract.weights_and_biases import API_KEY, ENVIRONMENT, FOLDER, WandbRequest
from pelagos_pipelines.fetching import pinning
from pelagos_pipelines.fetching.patience import FetchError
from pelagos_pipelines.fetching.policy import Policy, Target
from pelagos_pipelines.sources import fetched

if TYPE_CHECKING:
    from pelagos_contract.source_hosts import Address
    from pelagos_pipelines.training.tracking import Tracker
    from pelagos_pipelines.training.training_history import Epoch

log = logging.getLogger(__name__)

SECONDS = 180.0
"""Seconds that the client has for one report. An unavailable server costs this much at the end of a stage, nothing before."""
PATIENCE = 60.0
"""Seconds, within SECONDS, during which a server that does not answer is asked again."""
PERIOD = 300.0
"""Seconds that lie at least between two reports of a running training."""
FIELD = "tracking.wandb"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_NOWHERE = "http://127.0.0.1:9"
"""The discard port, as a proxy for a client that must reach no server."""
_LONGEST = 300
_NOBODY = WandbRequest(project="", name="")
_NOISE = re.compile(r"\x1b\[[0-9;]*m|^wandb: ?", re.M)


@dataclass(frozen=True)
class _Told:
    """The content of one report."""

    epochs: Sequence[Epoch]
    summary: Mapping[str, float] = field(default_factory=dict)
    figures: Sequence[Path] = ()


class WandbRun:
    """The reports of one training; without ``asked`` nothing is reported.

    ``folder`` receives the run directory; ``run`` is the id of the tracked run.
    """

    def __init__(
        self, asked: WandbRequest | None, folder: Path, run: str, config: Mapping[str, str], home: Path | None = None
    ) -> None:
        """Report nothing yet. ``home`` is the client's home folder while it runs."""
        self._asked, self._folder, self._config = asked or _NOBODY, folder, dict(config)
        self._id = re.sub(r"[^A-Za-z0-9]", "", run)[:64] or "unnamed"
        self._home = home or folder.with_name(f".{folder.name}-home")
        self._background: threading.Thread | None = None
        self._began = time.monotonic()

    def offer(self, epochs: Sequence[Epoch]) -> None:
        """Report the finished epochs from a thread, unless a report is running or began less than PERIOD seconds ago."""
        is_busy = self._background is not None and self._background.is_alive()
        if not self._asked.url or is_busy or time.monotonic() - self._began < PERIOD:
            return
        self._began = time.monotonic()
        told = _Told(tuple(epochs))
        self._background = threading.Thread(target=lambda: self._tell(told), name="wandb", daemon=True)
        self._background.start()

    def finish(
        self,
        tracker: Tracker,
        epochs: Sequence[Epoch],
        summary: Mapping[str, float] = MappingProxyType({}),
        figures: Sequence[Path] = (),
    ) -> list[str]:
        """Report everything, keep the run directory with the tracked run, and return sentences about what failed.

        ``summary`` has metrics of the test split; ``figures`` are pictures, which stay in the run directory.
        """
        if self._asked is _NOBODY:
            return []
        if self._background is not None:
            self._background.join(SECONDS + 30)
        why = self._tell(_Told(tuple(epochs), summary, figures))
        for path in sorted(path for path in self._folder.rglob("*") if path.is_file()):
            tracker.file(path, f"{FOLDER}/{path.parent.relative_to(self._folder)}")
        if not why:
            return []
        rest = (
            f"; its run directory is in {FOLDER} of its MLflow run, for wandb sync"
            if any(self._folder.glob("*"))
            else ""
        )
        return [f"Weights & Biases was not told of this training: {why}{rest}"]

    def _tell(self, told: _Told) -> str:
        """Report, and return why that failed; empty if it did not. Raises nothing, because no training may fail for this."""
        try:
            why = self._told(told)
        except (RefusedError, FetchError) as error:
            why = str(error)
        except Exception as error:  # whatever is wrong with the report, the training continues
            why = f"{type(error).__name__}: {error}"
        if why:
            log.warning("Weights & Biases: %s", why)
        return text.shown(why)

    def _told(self, told: _Told) -> str:
        python = Path(sys.prefix).parent / ENVIRONMENT / "bin" / "python"
        if not python.exists():
            return f"its client is not installed at {python.parent.parent} (on one machine: make wandb)"
        if not told.epochs:
            return ""
        program = [str(python), str(Path(__file__).with_name("wandb_program.py"))]
        with ExitStack() as open_meanwhile:
            key, why = self._login()
            way = open_meanwhile.enter_context(self._way()) if key else {}
            return self._run(program, self._document(told, key), key, way) or why

    def _login(self) -> tuple[str, str]:
        """The key, and why there is none that may be used. Both are empty if no server is to be contacted."""
        if not self._asked.url:
            return "", ""
        try:
            self._judged()
        except (RefusedError, FetchError) as error:
            return "", str(error)
        key = (fetched.secret_content() or {}).get(API_KEY, "").strip()
        return key, "" if key else f"the Secret of {FIELD}.secretRef was not given to this step, or has no {API_KEY}"

    def _judged(self) -> tuple[Target, list[Address]]:
        """The server, and its present addresses, after the policy has allowed them. Raises RefusedError, FetchError."""
        policy = Policy.read()
        target = policy.target(self._asked.url, f"{FIELD}.url")
        return target, policy.addresses(target, f"{FIELD}.url")

    @contextmanager
    def _way(self) -> Iterator[dict[str, str]]:
        """Environment variables that lead the client, which resolves names by itself, to the addresses that were allowed.

        If the platform has a proxy, the proxy resolves names, and decides.
        """
        given = {name: os.environ[name] for name in (*_PROXIES, "NO_PROXY", "no_proxy") if os.environ.get(name)}
        target, addresses = self._judged()
        if not given.keys().isdisjoint(_PROXIES) or source_hosts.literal(target.host) is not None:
            yield given
            return
        with pinning.leading_to(target, addresses) as proxy:
            yield dict.fromkeys(_PROXIES, proxy)

    def _document(self, told: _Told, key: str) -> dict[str, Any]:
        began = datetime.fromtimestamp(told.epochs[0].at, UTC)
        rows = [{"number": row.number, "at": row.at, "metrics": {**row.metrics, **row.pace}} for row in told.epochs]
        return {
            "id": self._id,
            "name": self._asked.name,
            "project": self._asked.project,
            "entity": self._asked.entity,
            "config": self._config,
            "stamp": f"{began:%Y%m%d_%H%M%S}",
            "rows": rows,
            "summary": dict(told.summary),
            "figures": [str(path) for path in told.figures],
            "send": bool(key),
            "patience": PATIENCE,
        }

    def _run(
        self, command: list[str], document: dict[str, Any], key: str, way: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """Run the program. Returns what went wrong, in words and without the key; empty if nothing did."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._home.mkdir(parents=True, exist_ok=True)
        with subprocess.Popen(
            [*command, str(self._folder.resolve())],
            cwd=self._home,  # it writes logs into its working directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self._environment(key), **way},
            process_group=0,  # for `_end`; it stays in our session, which the engine ends as a whole
        ) as process:
            try:
                said, _ = process.communicate(json.dumps(document).encode(), timeout=SECONDS)
            except subprocess.TimeoutExpired:
                return f"{self._asked.url or 'the client'} took longer than {SECONDS:.0f} s"
            finally:
                _end(process)
        if process.returncode == 0:
            return ""
        words = _NOISE.sub("", said.decode("utf-8", "replace"))
        for secret in (key, base64.b64encode(f"api:{key}".encode()).decode()) if key else ():
            words = words.replace(secret, "***")
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        return f"{self._asked.url or 'the client'}: {last[:_LONGEST]}"

    def _environment(self, key: str) -> dict[str, str]:
        """The client's environment, except for its proxy: of our variables, only PATH, the key and the certificate authority."""
        home = str(self._home)
        found = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "TMPDIR": home,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "false",
            "WANDB_CACHE_DIR": home,
            "WANDB_CONFIG_DIR": home,
            "WANDB_DATA_DIR": home,
            # Files would be sent to addresses that the server names.
            "WANDB_IGNORE_GLOBS": "*",
        }
        if not key:
            return found | dict.fromkeys(_PROXIES, _NOWHERE)
        if authority := os.environ.get(source_hosts.AUTHORITY):
            found |= {"SSL_CERT_FILE": authority, "REQUESTS_CA_BUNDLE": authority}
        return found | {"WANDB_BASE_URL": self._asked.url.rstrip("/"), "WANDB_API_KEY": key}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the client and its child processes."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
