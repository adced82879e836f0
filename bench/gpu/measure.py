"""Measures training and serving on a GPU against peers on the same one; at most eight minutes on a recent one.

``python -m bench.gpu.measure [--into FOLDER]`` with the interpreter of the environment ``pipelines``, whose torch must see a GPU,
as in the trainer image. It needs no cluster, no MLflow and no network, draws its own images, and writes ``gpu.md`` and
``gpu.json``.
``--rehearse`` runs everything once on a processor, with tiny sizes: its figures say nothing about a GPU, and are not written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import measuring  # noqa: E402
from bench.gpu import scenes  # noqa: E402
from bench.measuring import Usage  # noqa: E402

LOOKS_PER_SECOND = 10
_OFFLINE = {
    "ULTRALYTICS_SAFE_LOAD": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
    "MPLBACKEND": "Agg",
}


@dataclass(frozen=True)
class Case:
    """A training. ``peer``: the program that ours is compared with; ``rate``: the learning rate of both."""

    architecture: str
    task: str
    size: int
    batch: int
    rate: str
    peer: str


CASES = (
    Case("yolov8n", "Detection", 640, 32, "0.002", "yolo train"),
    Case("yolov8m", "Detection", 640, 32, "0.002", "yolo train"),
    Case("mobilenet_v3_large", "Classification", 224, 128, "0.001", "plain torch"),
    Case("mask2former_swin_t-semantic", "SemanticSegmentation", 512, 8, "0.0005", "plain transformers"),
)
REHEARSED = (
    Case("yolov8n", "Detection", 64, 4, "0.002", "yolo train"),
    Case("mobilenet_v3_small", "Classification", 64, 8, "0.001", "plain torch"),
    Case("mask2former_tiny-semantic", "SemanticSegmentation", 64, 4, "0.0005", "plain transformers"),
)


@dataclass(frozen=True)
class Found:
    """Results of one case: seconds per epoch, as the slope between two trainings. ``busy``: the GPU's share of busy time."""

    architecture: str
    size: int
    batch: int
    ours: float
    peer: float
    images_per_second: float
    busy: float | None


class Machine:
    """Runs steps and peers with this interpreter, in ``folder``."""

    def __init__(self, folder: Path, images: int, epochs: tuple[int, int]) -> None:
        self.folder, self.images, self.epochs = folder, images, epochs
        self._number = 0
        self.environment = _environment(folder)

    def step(self, name: str, arguments: Mapping[str, str]) -> Usage:
        """Run a step of the pipelines without a tracking server."""
        file = self.folder / "arguments.json"
        file.write_text(json.dumps(dict(arguments)), encoding="utf-8")
        return self.run(name, ROOT / "bench/programs/call_step.py", name, file)

    def run(self, log: str, *command: object) -> Usage:
        """Run a program with this interpreter."""
        return measuring.run([sys.executable, *command], self.folder / f"{log}.log", self.environment)

    def workspace(self) -> Path:
        """Create a new folder."""
        self._number += 1
        made = self.folder / f"workspace-{self._number}"
        made.mkdir()
        return made


def main() -> int:
    """Measure all cases, and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.measure", description="Measure Pelagos on a GPU.")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "bench", help="folder of the results")
    parser.add_argument("--rehearse", action="store_true", help="try everything with tiny sizes on a processor")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not options.rehearse:
        print("torch sees no GPU here; `--rehearse` tries the script without one", file=sys.stderr)
        return 2
    began, found, notes = time.monotonic(), list[Found](), list[str]()
    with tempfile.TemporaryDirectory(prefix="pelagos-bench-") as name:
        images, epochs = (12, (1, 2)) if options.rehearse else (512, (2, 6))
        machine = Machine(Path(name), images, epochs)
        for case in REHEARSED if options.rehearse else CASES:
            try:
                found.append(_measure(machine, case))
            except measuring.MeasurementError as error:  # the other cases are still useful
                notes.append(f"{case.architecture}: not measured: {str(error).splitlines()[0]}")
                print(error, file=sys.stderr)
        notes += _served(machine)
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a processor"
    page = _page(device, torch.__version__, found, [*notes, f"{time.monotonic() - began:.0f} s in all."])
    if options.rehearse:
        print("\n".join([f"{len(found)} of {len(REHEARSED)} trainings ran, with their peers.", *notes]))
    else:
        print(page)
        options.into.mkdir(parents=True, exist_ok=True)
        (options.into / "gpu.md").write_text(page, encoding="utf-8")
        record = {"device": device, "torch": torch.__version__, "found": [asdict(one) for one in found], "notes": notes}
        (options.into / "gpu.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0 if found and not any("not measured:" in note for note in notes) else 1


def _measure(machine: Machine, case: Case) -> Found:
    version = _version(machine, case)
    peer = _PEERS[case.peer](machine, case, version)
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    busy: list[float] = []
    for epochs in machine.epochs:
        with _looking(busy):
            seconds["ours"].append(_train(machine, case, version, epochs).wall)
        seconds["peer"].append(peer(epochs).wall)
        print(
            f"{case.architecture}, {epochs} epochs: {seconds['ours'][-1]:.1f} s, {case.peer} {seconds['peer'][-1]:.1f} s",
            flush=True,
        )
    short, long = machine.epochs
    ours, other = ((times[1] - times[0]) / (long - short) for times in seconds.values())
    shown = version["splits"]["train"]["images"]
    return Found(
        case.architecture, case.size, case.batch, ours, other, shown / ours, sum(busy) / len(busy) if busy else None
    )


def _version(machine: Machine, case: Case) -> dict[str, Any]:
    """Create a dataset version of drawn images by the real step; the images of a task are drawn once."""
    report = machine.folder / "prepared" / f"{case.task}-{case.size}"
    if not (report / "result.json").exists():
        data = machine.folder / "data" / f"{case.task}-{case.size}"
        request = {
            "source": {"volume": {"path": data.name}},
            "task": case.task,
            **scenes.draw(data, case.task, machine.images, case.size),
        }
        request["split"] = {"policy": "Random", "ratios": {"train": 80, "validation": 10, "test": 10}, "seed": 0}
        places = {"data_root": str(data.parent), "store": str(machine.folder / "store"), "report": str(report)}
        machine.step("prepare", {"request": json.dumps(request), **places})
    version: dict[str, Any] = json.loads((report / "result.json").read_text(encoding="utf-8"))
    return version


def _arguments(
    machine: Machine, case: Case, version: Mapping[str, Any], epochs: int, workspace: Path
) -> dict[str, str]:
    parameters = {"imageSize": case.size, "batchSize": case.batch, "learningRate": case.rate, "weightDecay": "0.0005"}
    request = {
        "dataset": {"name": "drawn", "version": version["version"], "uri": version["uri"]},
        "task": case.task,
        "model": {"architecture": case.architecture},
        "hyperparameters": parameters | {"epochs": epochs, "optimizer": "AdamW"},
        "resources": {"cpu": 8},
    }
    places = {"store": str(workspace / "store"), "report": str(workspace / "report"), "workspace": str(workspace)}
    silent = {"tracking_uri": "", "tracking_run": ""}
    return {"request": json.dumps(request), "data_root": str(machine.folder / "data"), **places, **silent}


def _train(machine: Machine, case: Case, version: Mapping[str, Any], epochs: int) -> Usage:
    return machine.step("train", _arguments(machine, case, version, epochs, machine.workspace()))


def _yolo(machine: Machine, case: Case, version: Mapping[str, Any]) -> Callable[[int], Usage]:
    # Its trackers would write into this folder.
    integrations = ("clearml", "comet", "dvc", "mlflow", "raytune", "sync", "vscode_msg", "openvino_msg")
    machine.run("settings", "-c", _YOLO, "settings", *(f"{name}=False" for name in integrations))
    view, data = machine.folder / f"yolo-{case.size}", machine.folder / f"yolo-{case.size}.yaml"
    if not view.exists():
        machine.run("view", "-c", _VIEW, version["uri"], "yolo", view)
    names = {index: entry["name"] for index, entry in enumerate(version["classes"])}
    content = {"path": str(view), "train": "images/train", "val": "images/validation", "names": names}
    data.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    import torch

    amp = "bf16" if torch.cuda.is_available() else "False"
    device = "0" if torch.cuda.is_available() else "cpu"

    def train(epochs: int) -> Usage:
        return machine.run(
            "yolo", "-c", _YOLO,
            *("detect", "train", f"model={case.architecture}.yaml", f"data={data}", f"project={machine.workspace()}"),
            *(f"epochs={epochs}", f"imgsz={case.size}", f"batch={case.batch}", f"nbs={case.batch}", f"lr0={case.rate}"),
            *("weight_decay=0.0005", "optimizer=AdamW", "mosaic=0.0", "close_mosaic=0", "patience=0", "seed=0"),
            *("deterministic=True", "pretrained=False", "plots=False", "cache=ram", "workers=8", f"device={device}"),
            *(f"amp={amp}", "verbose=False"),
        )  # fmt: skip

    return train


def _classifier(machine: Machine, case: Case, version: Mapping[str, Any]) -> Callable[[int], Usage]:
    view = machine.folder / f"folders-{case.size}"
    if not view.exists():
        machine.run("view", "-c", _VIEW, version["uri"], "imagefolder", view)
    program = ROOT / "bench/programs/train_plainly.py"
    return lambda epochs: machine.run(
        "plain", program, view, case.architecture, epochs, case.size, case.batch, 8, machine.workspace()
    )


def _segmenter(machine: Machine, case: Case, version: Mapping[str, Any]) -> Callable[[int], Usage]:
    arrays = machine.folder / f"arrays-{case.size}.npz"
    machine.run("draw", ROOT / "bench/programs/draw_maps.py", version["uri"], case.size, arrays)
    program, network = ROOT / "bench/programs/train_segmenter_plainly.py", case.architecture.partition("-")[0]
    return lambda epochs: machine.run("plain", program, arrays, network, epochs, case.batch, 8, machine.workspace())


_PEERS: Mapping[str, Callable[[Machine, Case, Mapping[str, Any]], Callable[[int], Usage]]] = {
    "yolo train": _yolo,
    "plain torch": _classifier,
    "plain transformers": _segmenter,
}


def _served(machine: Machine) -> list[str]:
    """Lines about the first case's exported graph: images per second, if onnxruntime can use the GPU."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["Serving: not run, as this onnxruntime has no CUDA (onnxruntime-gpu has)."]
    case = CASES[0]
    workspace = machine.workspace()
    arguments = _arguments(machine, case, _version(machine, case), 1, workspace)
    for name in ("train", "evaluate", "export"):
        machine.step(name, arguments)
    (graph,) = workspace.rglob("*.onnx")
    session = onnxruntime.InferenceSession(str(graph), providers=["CUDAExecutionProvider"])
    import numpy as np

    given = session.get_inputs()[0]
    batch: dict[str, Any] = {
        given.name: np.zeros((32, 3, case.size, case.size), np.uint8 if "uint8" in given.type else np.float32)
    }
    session.run(None, batch)
    began = time.monotonic()
    for _ in range(20):
        session.run(None, batch)
    return [
        f"Serving {case.architecture} by onnxruntime with CUDA: {20 * 32 / (time.monotonic() - began):.0f} images/s, 32 at once."
    ]


@contextmanager
def _looking(busy: list[float]) -> Iterator[None]:
    """Record through NVML how busy the first GPU is, from its first to its last busy moment."""
    try:
        pynvml = import_module("pynvml")

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # no driver, or one that cannot be queried: the load is unknown
        yield
        return
    over, seen = threading.Event(), list[float]()

    def look() -> None:
        while not over.wait(1 / LOOKS_PER_SECOND):
            seen.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        worked = [place for place, value in enumerate(seen) if value]
        if worked:
            # The last, longer training only.
            busy[:] = seen[worked[0] : worked[-1] + 1]


def _page(device: str, torch_version: str, found: list[Found], notes: list[str]) -> str:
    lines = [
        f"# On {device}",
        "",
        f"torch {torch_version}. An epoch is the slope between two trainings; the peer has the same images and arguments.",
        "",
        "| model | image | batch | epoch, s | peer, s | ratio | images/s | GPU busy |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        busy = "unknown" if one.busy is None else f"{one.busy:.2f}"
        times = f"{one.ours:.2f} | {one.peer:.2f} | {one.ours / one.peer:.2f} | {one.images_per_second:.0f}"
        lines.append(f"| {one.architecture} | {one.size} | {one.batch} | {times} | {busy} |")
    return "\n".join([*lines, "", *notes]) + "\n"


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Works also where the packages of Pelagos are not installed.
    paths = {"PYTHONPATH": str(ROOT / "pipelines")}
    return kept | paths | _OFFLINE | {"YOLO_CONFIG_DIR": str(folder / "ultralytics"), "TMPDIR": str(folder)}


_YOLO = "from ultralytics.cfg import entrypoint; entrypoint()"
_VIEW = """
import sys
from pathlib import Path
from pelagos_pipelines.preparation import versions
versions.materialise(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
"""


if __name__ == "__main__":
    sys.exit(main())
