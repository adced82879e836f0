"""Writes a training as a run directory of Weights & Biases, and sends it if requested. Started by wandb_run.

A program for the interpreter of the environment `wandb`, which has only the standard library and the client, and none of our
packages. It reads one JSON document from standard input; the API key comes from the environment. It contacts only the server in
WANDB_BASE_URL: telemetry and error reports are off, and files, which the server would have sent to addresses that it names, are
not sent.

    python wandb_program.py FOLDER < document.json
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from typing_extensions import override

_SECONDS = 60.0
"""The client's timeout for its own start, which takes about three seconds."""
_QUERY = (
    "query RunResumeStatus($project: String, $entity: String, $name: String!) { model(name: $project, entityName: $entity)"
    " { bucket(name: $name, missingOk: true) { historyLineCount } } }"
)
"""The query that the client itself sends before it resumes a run."""
_ERROR = b"ERROR"
"""Marks lines of the client's output that report failures."""
_LARGEST = 1024 * 1024
_SERVER_ERRORS = 500


class _Staying(urllib.request.HTTPRedirectHandler):
    """Follows no redirects, so that the key goes only to the server that it is meant for."""

    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse: urllib then raises the redirect as an HTTPError."""


def write(folder: Path, document: dict[str, Any]) -> Path:
    """Write the run directory below ``folder``, and return it. The same training always has the same directory."""
    import wandb

    settings = wandb.Settings(
        mode="offline",
        root_dir=str(folder),
        run_id=document["id"],
        run_name=document["name"],
        project=document["project"],
        entity=document["entity"],
        host="pelagos",
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_viewer=True,
        x_save_requirements=False,
        init_timeout=_SECONDS,
    )
    run = wandb.init(settings=settings, config=document["config"])
    run.define_metric("*", step_metric="epoch")
    for row in document["rows"]:
        run.log({**row["metrics"], "epoch": row["number"], "_timestamp": row["at"]}, step=row["number"])
    for name, value in document["summary"].items():
        run.summary[name] = value
    made = Path(run.settings.sync_dir)
    for path in map(Path, document["figures"]):
        (made / "files" / "figures").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, made / "files" / "figures" / path.name)
        if not document["send"]:  # when sending, the server would choose the addresses that files go to
            run.save(str(made / "files" / "figures" / path.name), base_path=str(made / "files"), policy="end")
    run.finish()
    wandb.teardown()  # the client's background process writes the rest when it ends
    kept = folder / f"offline-run-{document['stamp']}-{document['id']}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    shutil.copyfile(made / f"run-{document['id']}.wandb", kept / f"run-{document['id']}.wandb")
    if (made / "files").is_dir():
        shutil.copytree(made / "files", kept / "files", symlinks=False)
    shutil.rmtree(folder / "wandb", ignore_errors=True)
    return kept


def told(document: dict[str, Any]) -> int:
    """How many rows of the history the server already has; as in the client, only later rows are sent.

    Raises OSError when the server does not answer within the document's ``patience`` in seconds, or refuses the key.
    """
    login = base64.b64encode(f"api:{os.environ['WANDB_API_KEY']}".encode()).decode()
    variables = {"project": document["project"], "entity": document["entity"], "name": document["id"]}
    request = urllib.request.Request(  # noqa: S310 - wandb_run has checked the address
        f"{os.environ['WANDB_BASE_URL']}/graphql",
        json.dumps({"query": _QUERY, "variables": variables}).encode(),
        {"Authorization": f"Basic {login}", "Content-Type": "application/json"},
    )
    deadline, pause = time.monotonic() + document["patience"], 0.5
    while True:
        try:
            with urllib.request.build_opener(_Staying).open(request, timeout=20) as answer:
                found = json.loads(answer.read(_LARGEST))
            bucket = ((found.get("data") or {}).get("model") or {}).get("bucket") or {}
            return int(bucket.get("historyLineCount") or 0)
        except (OSError, ValueError, AttributeError) as error:
            is_final = isinstance(error, urllib.error.HTTPError) and error.code < _SERVER_ERRORS
            if is_final or time.monotonic() + pause > deadline:
                raise OSError(f"the server does not say what it knows of the run: {error}") from error
        time.sleep(pause)
        pause = min(pause * 2, 10.0)


def send(folder: Path, document: dict[str, Any], kept: Path) -> bool:
    """Send what the server does not have yet. Returns whether all of it arrived."""
    known = told(document)
    if known:
        sent = write(folder, {**document, "rows": document["rows"][known:]})
    else:
        sent = Path(shutil.copytree(kept, folder / kept.name))
    command = [sys.executable, "-m", "wandb", "sync", str(sent)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    # The client exits with 0 and leaves its mark even when the server has refused a part, so its output is searched as well.
    errors = [line for line in done.stdout.splitlines() if _ERROR in line]
    sys.stderr.buffer.write(b"\n".join(errors or [done.stdout]) + b"\n")
    return any(sent.glob("*.synced")) and not errors


def main(folder: Path) -> int:
    """Returns the exit code: 0 when all was done, 2 when the run was written but not sent."""
    document = json.load(sys.stdin)
    kept = write(folder, document)
    if not document["send"]:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return 0 if send(Path(scratch), document, kept) else 2
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
