"""What the steps of a training consume: measured where the machine reports it, estimated where not, summed over attempts.

The machines of the tests have neither energy counters (RAPL) nor NVIDIA's library (NVML), so RAPL's counters are files here
and NVML is an object with its functions.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pelagos_contract import cost, disk, sealing
from pelagos_pipelines.metering import accelerators, meter, processors
from pelagos_pipelines.metering.accelerators import Nvml
from pelagos_pipelines.metering.meter import Meter
from pelagos_pipelines.metering.processors import Machine, Rapl

KEY = "ab" * 32


class Library:
    """NVML with one GPU, with the functions and errors of `pynvml`. Energy and power are the test's; None means not supported."""

    class NVMLError(Exception):
        pass

    def __init__(self, millijoules: float | None, milliwatts: float | None = 300_000) -> None:
        self.millijoules, self.milliwatts = millijoules, milliwatts
        self.is_lost = False
        self.pids: list[int] = []

    def nvmlInit(self) -> None:  # noqa: N802 - as there
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - as there
        if self.is_lost:
            raise self.NVMLError("GPU is lost")
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - as there
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802 - as there
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802 - as there
        return SimpleNamespace(used=2_000_000_000, total=8_000_000_000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802 - as there
        return SimpleNamespace(gpu=85, memory=20)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> float:  # noqa: N802 - as there
        return self._told(self.millijoules)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> float:  # noqa: N802 - as there
        return self._told(self.milliwatts)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:  # noqa: N802 - as there
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def _told(self, value: float | None) -> float:
        if value is None:
            raise self.NVMLError("Not Supported")
        return value


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes this process a step of one attempt of a run."""

    def begin(number: int) -> None:
        for name, value in {sealing.STEP_KEY: KEY, **sealing.step_identity("run", number)}.items():
            monkeypatch.setenv(name, value)

    begin(1)
    return begin


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with 100 s of busy core time, and a processor with energy counters for its package, cores and memory."""
    found = Machine(tmp_path / "proc", tmp_path / "powercap")
    found.proc.mkdir()
    found.powercap.mkdir()
    busy(found, 100.0)
    (found.proc / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\n")
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram")):
        folder = found.powercap / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
        joules(found, zone, 0)
    return found


def joules(machine: Machine, zone: str, value: float) -> None:
    (machine.powercap / zone / "energy_uj").write_text(f"{int(value * 1e6)}\n")


def busy(machine: Machine, seconds: float) -> None:
    ticks = int(seconds * os.sysconf("SC_CLK_TCK"))
    (machine.proc / "stat").write_text(f"cpu  {ticks} 0 0 1000 0 0 0 0 0 0\ncpu0 1 2 3 4\n")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The processor seconds that this process has used: the last entry of the list."""
    found = [5.0]
    monkeypatch.setattr(processors, "used_seconds", lambda: found[-1])
    return found


@pytest.fixture
def nothing(tmp_path: Path) -> Machine:
    """A machine that reports no energy."""
    return Machine(powercap=tmp_path / "none")


def test_without_a_driver_there_are_no_gpus_and_their_library_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "_DRIVER", "libof-no-driver.so.1")
    monkeypatch.setattr(accelerators, "import_module", lambda name: pytest.fail(f"{name} was imported"))

    assert Nvml().gpus() == []


def test_without_counters_energy_is_estimated_by_watts_of_a_core_and_says_so(
    tmp_path: Path, nothing: Machine, used: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cost.WATTS_PER_CORE, "10")
    monkeypatch.setenv(cost.GRAMS_PER_KWH, "300")
    with Meter(tmp_path / "cost.json", machine=nothing) as metering:
        used.append(5.0 + 3600)
        found = metering.total()

    assert found.cpu_seconds == 3600
    assert found.kilowatt_hours == pytest.approx(0.010)
    assert found.grams == pytest.approx(3.0)
    assert found.grams_per_kwh == 300
    assert found.gpu_seconds == 0, "there is no GPU, which is known"
    assert found.energy_method == "processors estimated as 10 W for each busy core"
    assert found.missing == []


def test_counters_of_the_processor_count_by_the_share_of_processor_time(
    tmp_path: Path, machine: Machine, used: list[float]
) -> None:
    with Meter(tmp_path / "cost.json", machine=machine) as metering:
        joules(machine, "intel-rapl:0", 7000)
        joules(machine, "intel-rapl:0:0", 6000)  # a part of the package, which counts it already
        joules(machine, "intel-rapl:0:1", 1000)  # memory, which the package does not count
        used.append(5.0 + 30)
        busy(machine, 160.0)
        found = metering.total()

    assert found.kilowatt_hours == pytest.approx((7000 + 1000) * 30 / 60 / 3.6e6)
    assert "measured by RAPL" in found.energy_method


def test_a_counter_that_begins_anew_loses_nothing(machine: Machine) -> None:
    joules(machine, "intel-rapl:0", 262_000)
    rapl = Rapl(machine)
    joules(machine, "intel-rapl:0", 100)
    rapl.look()

    assert rapl.joules == pytest.approx(262_143.32885 - 262_000 + 100)


@pytest.mark.parametrize("content", ["", "no number", "-"])
def test_counters_that_cannot_be_read_any_more_are_no_zero(
    tmp_path: Path, machine: Machine, used: list[float], content: str
) -> None:
    with Meter(tmp_path / "cost.json", machine=machine) as metering:
        (machine.powercap / "intel-rapl:0" / "energy_uj").write_text(content)
        used.append(5.0 + 3600)
        busy(machine, 5000.0)
        found = metering.total()

    assert found.kilowatt_hours == pytest.approx(0.012)
    assert "estimated as 12 W" in found.energy_method


def test_the_energy_of_gpus_in_a_pod_is_that_of_their_counter(
    tmp_path: Path, nothing: Machine, used: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(accelerators.IN_A_POD, "10.0.0.1")
    library = Library(millijoules=1_000)
    with Meter(tmp_path / "cost.json", machine=nothing, nvml=Nvml(library)) as metering:
        time.sleep(0.02)
        library.millijoules = 1_000 + 3.6e9
        found = metering.total()

    assert used
    assert found.gpu_seconds == pytest.approx(found.seconds)
    assert found.kilowatt_hours == pytest.approx(1.0)
    assert "GPUs measured by NVML" in found.energy_method


def test_without_such_a_counter_it_is_the_power_at_each_look(
    tmp_path: Path, nothing: Machine, used: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(accelerators.IN_A_POD, "10.0.0.1")
    with Meter(tmp_path / "cost.json", machine=nothing, nvml=Nvml(Library(None, 300_000))) as metering:
        time.sleep(0.05)
        found = metering.total()

    assert used
    assert found.kilowatt_hours == pytest.approx(300 * found.seconds / 3.6e6)


def test_on_one_machine_gpus_count_that_processes_of_the_step_use(tmp_path: Path, nothing: Machine) -> None:
    library = Library(0)
    # A process of another session. Process 1 will not do: in a container it may share ours.
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as somebody_else:
        library.pids = [somebody_else.pid]
        with Meter(tmp_path / "cost.json", machine=nothing, nvml=Nvml(library)) as metering:
            assert metering.total().gpu_seconds == 0
            library.pids = [os.getpid()]
            time.sleep(0.01)
            assert (metering.total().gpu_seconds or 0) > 0
        somebody_else.kill()


@pytest.mark.parametrize("lost", [False, True])
def test_a_gpu_that_tells_no_energy_makes_it_unknown(
    tmp_path: Path, nothing: Machine, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setattr(accelerators, "held", lambda seen: frozenset({"GPU-0"}))
    library = Library(None, None)
    with Meter(tmp_path / "cost.json", machine=nothing, nvml=Nvml(library)) as metering:
        library.is_lost = lost
        found = metering.total()

    assert found.kilowatt_hours is None
    assert found.grams is None
    assert found.gpu_seconds == pytest.approx(found.seconds)
    assert found.missing == ["the energy of GPUs, which the driver does not tell"]
    assert "cost/energy_kwh" not in found.figures()


def test_attempts_are_added_up(
    tmp_path: Path, nothing: Machine, used: list[float], attempt: Callable[[int], None]
) -> None:
    for number in (1, 2):
        attempt(number)
        with Meter(tmp_path / "cost.json", machine=nothing) as metering:
            used.append(used[-1] + 1800)
            found = metering.total()

    assert found.attempts == 2
    assert found.cpu_seconds == 3600
    assert found.missing == []


KILLED = """
    import sys, time
    from pathlib import Path
    from pelagos_pipelines.metering import meter
    meter.PERIOD = 0.05
    with meter.Meter(Path(sys.argv[1])):
        print("at work", flush=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pass
"""


def test_what_a_killed_attempt_took_counts_until_its_last_note_and_that_is_said(
    tmp_path: Path, attempt: Callable[[int], None]
) -> None:
    path = tmp_path / "cost.json"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None
    process.stdout.readline()
    while json.loads(path.read_bytes())["notes"][-1]["cpuSeconds"] < 0.1:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    attempt(2)
    with Meter(path) as metering:
        found = metering.total()

    assert found.cpu_seconds >= 0.1
    assert found.attempts == 2
    assert found.missing == ["what was taken after the last note of attempt 1, which ended without a word"]


def test_attempts_that_left_nothing_are_named(tmp_path: Path, attempt: Callable[[int], None]) -> None:
    attempt(3)
    with Meter(tmp_path / "cost.json") as metering:
        found = metering.total()

    assert found.missing == ["nothing is known of attempts 1, 2, which left no note"]


@pytest.mark.usefixtures("attempt")
@pytest.mark.parametrize("content", ["", "[]", '{"notes": [{"attempt": 1, "seconds": -5}]}', '{"notes": []}'])
def test_notes_that_others_wrote_are_not_counted_and_that_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "cost.json").write_text(content)

    for _ in range(2):  # the second time, the documents carry our seal
        with Meter(tmp_path / "cost.json") as metering:
            found = metering.total()

    assert found.missing == ["what earlier attempts noted was altered by others, and is not counted"]


def test_notes_of_very_many_processes_stay_small_and_lose_nothing(
    tmp_path: Path, nothing: Machine, used: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "MOST_PROCESSES", 3)
    for _ in range(8):
        with Meter(tmp_path / "cost.json", machine=nothing) as metering:
            used.append(used[-1] + 10)
            found = metering.total()

    assert found.cpu_seconds == 80
    assert found.attempts == 8
    assert found.missing == []
    assert len(json.loads((tmp_path / "cost.json").read_bytes())["notes"]) <= 4


def test_a_disk_that_is_full_from_the_beginning_ends_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "write_atomically", _full)
    with Meter(tmp_path / "cost.json") as metering:
        assert metering.total().seconds >= 0


def test_a_disk_that_is_full_ends_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "PERIOD", 0.01)
    with Meter(tmp_path / "cost.json") as metering:
        monkeypatch.setattr(disk, "write_atomically", _full)
        time.sleep(0.05)
        assert metering.total().seconds > 0


def _full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_figures_of_the_system_have_the_names_of_mlflow(tmp_path: Path, machine: Machine, used: list[float]) -> None:
    told: list[dict[str, float]] = []
    with Meter(tmp_path / "cost.json", machine=machine, nvml=Nvml(Library(0))) as metering:
        metering.tell(lambda figures, step, at: told.append(dict(figures)))
        (machine.proc / "stat").write_text(
            f"cpu  {200 * os.sysconf('SC_CLK_TCK')} 0 0 {1000 + 300 * os.sysconf('SC_CLK_TCK')} 0 0 0 0 0 0\n"
        )
        metering.tell(None)

    assert used
    assert told == [
        {
            "system/cpu_utilization_percentage": 25.0,
            "system/system_memory_usage_megabytes": 0.8,
            "system/system_memory_usage_percentage": 75.0,
            "system/gpu_0_utilization_percentage": 85.0,
            "system/gpu_0_power_usage_watts": 300.0,
            "system/gpu_0_memory_usage_megabytes": 2000.0,
            "system/gpu_0_memory_usage_percentage": 25.0,
        }
    ]


def test_they_become_fewer_with_time(nothing: Machine) -> None:
    from pelagos_pipelines.metering.system import Usage

    usage = Usage(nothing)
    day = range(0, 86_400, 10)
    assert 60 < sum(bool(usage.due(second, [])) for second in day) < 500


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (0.000123, "0.00012"), (0.0996, "0.10"), (1.25, "1.2"), (9.96, "10"), (41.2, "41"), (12_345, "12000")],
)
def test_a_figure_has_two_digits(value: float, words: str) -> None:
    assert cost.rounded(value) == words


@pytest.mark.parametrize("told", ["", "much", "-1", "nan", "1e9"])
def test_a_setting_that_is_no_amount_is_the_usual_one(told: str) -> None:
    assert cost.setting({cost.WATTS_PER_CORE: told}, cost.WATTS_PER_CORE) == cost.USUAL_WATTS_PER_CORE
