"""Registered models that gates compare with: which they are, whether a result compares with the present ones, and the outcome.

The data plane compares (evaluation/comparison), because it knows what both models did with each image. The operator states which
model to compare with when it submits an attempt, and judges the result. Gates are not inputs of a training, and another model may
become the champion in the meantime. Another attempt is then made, which finds all stages done and only compares again. A model is
registered only in place of the version that it was compared with (registration). So of two concurrent trainings, the second to
finish is compared with the first.

NotWorse is a test of non-inferiority: all of the interval of the difference must be within the tolerance (G. Piaggio et al.,
Reporting of noninferiority and equivalence randomized trials, JAMA 308, 2012, doi:10.1001/jama.2012.87802).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.api import reasons
from pelagos.api.gates import ChampionGate, ChampionStatus, Gate, Interval
from pelagos.api.reasons import Reason
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions.training_run import figures
from pelagos.decisions.training_run.observed import Champion, Observed
from pelagos_contract import training
from pelagos_contract.metrics import ERRORS, TEST
from pelagos_contract.tags import INSTEAD_OF_TAG, NOBODY

USUAL_ALIAS = "champion"
USUAL_TOLERANCE = "0.01"
MOST_ATTEMPTS = 10
"""Attempts with one retry key after which a new champion no longer causes another one."""
_BETTER = "Better"
_ROUNDING = 1e-9
"""Tolerance for comparisons with a bound: differences of shares are not exact in floating point."""


@dataclass(frozen=True)
class Reference:
    """A registered model by alias or version, with the SHA-256 of the evidence if a gate states it."""

    model: str
    alias: str | None
    version: str | None
    evidence: str | None = None

    @property
    def name(self) -> str:
        """``model@alias`` or ``model/version``, as MLflow writes it."""
        return f"{self.model}@{self.alias}" if self.version is None else f"{self.model}/{self.version}"


@dataclass(frozen=True)
class Judged:
    """The outcome of a gate. ``lack`` is why it is not passed: a reason, and the text after the gate's number in the message."""

    status: ChampionStatus
    value: float | None = None
    lack: tuple[Reason, str] | None = None


def reference(champion: ChampionGate, spec: TrainingRunSpec) -> Reference:
    """The model that a gate names, completed from spec.register."""
    register = spec.register_
    model = champion.model or (register.model if register is not None else "")
    if champion.version is not None:
        return Reference(model, None, str(champion.version), champion.evidence)
    own = register.alias if register is not None and register.model == model else None
    return Reference(model, champion.alias or own or USUAL_ALIAS, None, champion.evidence)


def references(spec: TrainingRunSpec) -> dict[str, Reference]:
    """The references of all gates by name. Of several with the same name, the first that states evidence counts."""
    found: dict[str, Reference] = {}
    for gate in spec.gates:
        if gate.champion is not None:
            each = reference(gate.champion, spec)
            known = found.setdefault(each.name, each)
            found[each.name] = each if known.evidence is None else known
    return found


def requested(seen: Observed) -> list[dict[str, Any]]:
    """The champions for an attempt to compare with, as its request has them."""
    return [
        training.Champion(
            name=name,
            version=found.version,
            evidence_uri=found.evidence_uri,
            evidence_sha256=found.evidence_sha256,
            package=found.package,
        ).written()
        for name in references(seen.spec)
        if (found := seen.champions.get(name)) is not None and not found.doubt and not found.is_own
    ]


def instead_of(seen: Observed) -> str | None:
    """The version that must have the alias when the model takes it over; None if no gate compares with that alias."""
    name = _own_alias(seen)
    if name is None or name not in references(seen.spec):
        return None
    now = seen.champions.get(name)
    return NOBODY if now is None else now.version


def are_outdated(seen: Observed) -> bool:
    """Whether the result compares with another version than the present champion, and another attempt could change that."""
    if seen.version is not None or seen.registry_outage is not None or seen.run is None or seen.report.result is None:
        return False
    if seen.run.attempts_with_key >= MOST_ATTEMPTS and seen.run.retry_key == seen.retry_key:
        return False
    compared = _compared(seen.report.result)
    return any(
        now is not None
        and not now.doubt
        and not now.is_own
        and (name not in compared or not _is_of(compared[name], now))
        for name, now in ((name, seen.champions.get(name)) for name in references(seen.spec))
    )


def objection(seen: Observed) -> str | None:
    """A message about the first champion that cannot be compared with; None when there is none."""
    for number, gate in enumerate(seen.spec.gates):
        if gate.champion is None:
            continue
        now = seen.champions.get(reference(gate.champion, seen.spec).name)
        if now is not None and now.doubt and not now.is_own:
            return f"spec.gates[{number}].champion: {now.doubt}"
    return None


def judged(gate: Gate, seen: Observed) -> Judged:
    """The outcome of a gate that names a champion."""
    assert gate.champion is not None
    asked = reference(gate.champion, seen.spec)
    compared, now = _compared(seen.result).get(asked.name), seen.champions.get(asked.name)
    if _is_settled(seen):
        return _of_registered(gate, asked, seen, compared)
    nobody = Judged(ChampionStatus(model=asked.model))
    if seen.registry_outage is not None:
        return _lacking(asked, None, reasons.REGISTRY_UNAVAILABLE, f"{asked.name}: {seen.registry_outage}")
    if now is None or now.is_own:
        if asked.version is not None and now is None:
            why = f"the registered model {asked.model!r} has no version {asked.version}; name another one"
            return _lacking(asked, None, reasons.CHAMPION_NOT_COMPARABLE, why)
        return nobody
    if now.doubt:
        return _lacking(asked, now, reasons.CHAMPION_NOT_COMPARABLE, now.doubt)
    if compared is None or not _is_of(compared, now):
        before = "with none" if compared is None else f"with version {compared['version']}"
        if compared is not None and compared["version"] == now.version:
            before += ", by other evidence"
        helps = "create a new TrainingRun: the pipeline run of this one is no longer known"
        if seen.run is not None:
            helps = "set pelagos.dev/retry to a new value to compare it again"
        why = f"{asked.name} is now version {now.version}, and the model was compared {before}; {helps}"
        return _lacking(asked, now, reasons.CHAMPION_CHANGED, why)
    return _measured(gate, asked, compared)


def _is_of(compared: Mapping[str, Any], now: Champion) -> bool:
    """Whether a comparison is with this version, by its present evidence. Results of earlier releases name no evidence."""
    evidence = compared.get("evidenceSha256")
    by = evidence == now.evidence_sha256 if evidence is not None else now.package is None
    return bool(compared["version"] == now.version and by)


def _is_settled(seen: Observed) -> bool:
    """Whether the model is registered already, and so keeps the result of its comparison at that time."""
    if seen.version is not None:
        return True
    return seen.registry_outage is not None and seen.published is not None and seen.published.version is not None


def _of_registered(gate: Gate, asked: Reference, seen: Observed, compared: Mapping[str, Any] | None) -> Judged:
    if seen.version is not None and asked.name == _own_alias(seen):
        said = seen.version.tags.get(INSTEAD_OF_TAG)
        if said is None:
            why = f"the model was registered before this gate, as version {seen.version.version}; create a new one"
            return _lacking(asked, None, reasons.CHAMPION_CHANGED, why)
        if said == NOBODY:
            return Judged(ChampionStatus(model=asked.model))
        # The record may have an earlier comparison than the one that it was registered by.
        if compared is None or compared["version"] != said:
            return Judged(ChampionStatus(model=asked.model, version=said))
    return _measured(gate, asked, compared) if compared is not None else Judged(ChampionStatus(model=asked.model))


def _own_alias(seen: Observed) -> str | None:
    register = seen.spec.register_
    if register is None or register.alias is None:
        return None
    return Reference(register.model, register.alias, None).name


def _compared(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {each["name"]: each for each in result.get("champions") or ()}


def _lacking(asked: Reference, now: Champion | None, reason: Reason, why: str) -> Judged:
    version = now.version if now is not None else asked.version
    return Judged(ChampionStatus(model=asked.model, version=version), lack=(reason, why))


def _measured(gate: Gate, asked: Reference, compared: Mapping[str, Any]) -> Judged:
    version = compared["version"]
    status = ChampionStatus(model=asked.model, version=version)
    who = f"version {version} of {asked.model!r}"
    if compared.get("why"):
        return Judged(status, lack=(reasons.CHAMPION_NOT_COMPARABLE, f"{who} cannot be compared: {compared['why']}"))
    metric = gate.name.removeprefix(TEST)
    found = compared["metrics"].get(metric)
    if found is None:
        known = ", ".join(sorted(compared["metrics"]))
        return Judged(
            status, lack=(reasons.GATE_METRIC_UNKNOWN, f"models are not compared by {metric}, but by {known}")
        )
    if None in {found.get("value"), found.get("champion")}:
        why = f"{metric} is undefined for one of the two, because the test split has nothing to compute it from"
        return Judged(status, found.get("value"), (reasons.GATE_METRIC_UNKNOWN, why))
    difference, low, high = found["value"] - found["champion"], found.get("low"), found.get("high")
    level = f"{compared['level']:g}"
    interval = None if low is None else Interval(low=figures.signed(low), high=figures.signed(high), level=level)
    status = status.model_copy(
        update={
            "value": figures.figure(found["champion"]),
            "difference": figures.signed(difference),
            "interval": interval,
        }
    )
    if low is None:
        because = compared.get("noInterval") or "too few of the resamples say anything about it"
        why = f"{who}: it is not known whether the difference is more than chance: {because}"
        return Judged(status, found["value"], (reasons.CHAMPION_NOT_COMPARABLE, why))
    # Losses and errors are better when they are smaller.
    worst, best = (-high, -low) if metric in ERRORS else (low, high)
    assert gate.champion is not None
    is_better = gate.champion.require == _BETTER
    bound = 0.0 if is_better else -float(gate.champion.tolerance or USUAL_TOLERANCE)
    passed = worst > _ROUNDING if is_better else worst >= bound - _ROUNDING
    said = (
        f"{gate.name} is {figures.figure(found['value'])}, and {figures.figure(found['champion'])} of {who}: a difference of "
        f"{figures.signed(difference)} ({figures.percent(level)} interval {figures.signed(low)} to {figures.signed(high)})"
    )
    end = f"below {abs(bound):g}" if metric in ERRORS else f"above {bound:g}"
    help_ = "a larger test split would show more" if worst <= bound <= best else "it needs a better model"
    lack = None if passed else (reasons.GATE_FAILED, f"{said}; all of the interval must be {end}: {help_}")
    return Judged(status, found["value"], lack)
