"""Both flows with one step that obeys a test: `python controllable_flows.py FOLDER` compiles them, in the pipelines environment.

The step records facts about itself and that it began, then waits for the file ``succeed`` or ``fail``. It ends at SIGTERM, unless
a file ``stubborn`` exists.
"""

import sys

from kfp import compiler, dsl


@dsl.component(  # type: ignore[untyped-decorator]
    base_image="example.org/python", packages_to_install=[], install_kfp_package=False
)
def work(folder: str) -> None:
    import json
    import os
    import pathlib
    import signal
    import subprocess
    import sys
    import tempfile
    import time

    # The first process of a container ignores SIGTERM without a handler; a pod would wait for its whole grace period.
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = pathlib.Path(folder)
    if (place / "stubborn").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    litter = tempfile.mkdtemp()
    child = subprocess.Popen(["sleep", "600"])
    facts = {
        "environment": dict(os.environ),
        "niceness": os.nice(0),
        "pid": os.getpid(),
        "child": child.pid,
        "litter": litter,
    }
    (place / "facts.json").write_text(json.dumps(facts))
    with (place / "begun").open("a") as file:
        file.write("begun\n")
    print("the step is at work")
    while not (place / "succeed").exists():
        failure = place / "fail"
        message = failure.read_text() if failure.exists() else ""
        if message:
            child.kill()
            raise ValueError(message)
        time.sleep(0.02)
    child.kill()


if __name__ == "__main__":
    for name in ("dataset-preparation", "training"):

        @dsl.pipeline(name=name)  # type: ignore[untyped-decorator]
        def flow(folder: str) -> None:
            work(folder=folder)

        compiler.Compiler().compile(flow, f"{sys.argv[1]}/{name}.yaml")
