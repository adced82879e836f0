"""Runs steps that do nothing with kfp.local, as its documentation shows. Started by training.py.

Run with the interpreter of the environment ``pipelines``: ``run_with_kfp.py compile STEPS FLOW`` writes the compiled flow of so
many steps, one after another; ``run_with_kfp.py run FLOW FOLDER`` runs it, with its outputs in FOLDER.
"""

import itertools
import sys

from kfp import compiler, dsl, local
from kfp.components import load_component_from_file


def nothing(request: str, store: str, report: str, workspace: str) -> None:
    """Return at once."""


def compile_flow(steps: int, path: str) -> None:
    """Write the flow of ``steps`` steps."""
    component = dsl.component(nothing, base_image="python", packages_to_install=[], install_kfp_package=False)

    @dsl.pipeline(name="steps")  # type: ignore[untyped-decorator]
    def flow(request: str, store: str, report: str, workspace: str) -> None:
        tasks = [component(request=request, store=store, report=report, workspace=workspace) for _ in range(steps)]
        for before, after in itertools.pairwise(tasks):
            after.after(before)

    compiler.Compiler().compile(flow, path)


def main() -> None:
    """Compile or run."""
    what, first, second = sys.argv[1:]
    if what == "compile":
        compile_flow(int(first), second)
        return
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=second, enable_caching=False)
    load_component_from_file(first)(**dict.fromkeys(("request", "store", "report", "workspace"), "nothing"))


if __name__ == "__main__":
    main()
