"""The newest version: what status says about it, and how it goes on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pelagos.api import reasons
from pelagos.api.dataset import DatasetStatus, Splits, Truncated
from pelagos.decisions import bounds, digests
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.dataset import bias, looking, preparation, publication, published_versions, quality, removal
from pelagos.decisions.dataset.conditions import PREPARED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.effects import KeepRecord
from pelagos.decisions.verdicts import READY, ConditionState, Verdict
from pelagos_contract.balancing import Balanced
from pelagos_contract.capture import CaptureCount, Captured, CaptureFinding
from pelagos_contract.dataset import Alteration, ClassCount, Corrections, Excluded, Files, Quality
from pelagos_contract.judgement import Leakage, SliceFigures
from pelagos_contract.measures import Measured
from pelagos_contract.preprocessing import ToldStatistics
from pelagos_contract.remote_sources import Origin
from pelagos_contract.taxonomy import ToldTaxonomy

SHORTEST_REFRESH = 1.0
"""Least seconds between two checks of a source without problems, even if spec.refresh is shorter."""


def counted(seen: Observed) -> Passed:
    """Publishes all figures of the newest version together, so that none of an earlier version stays among them."""
    result = seen.result
    # Results of earlier releases have none of these.
    files, origin, told = result.get("files"), result.get("origin"), result.get("statistics")
    status = DatasetStatus(
        version=result["version"],
        uri=result["uri"],
        task=seen.spec.task,
        images=result["images"],
        annotations=result["annotations"],
        class_count=len(result["classes"]),
        splits=Splits.model_validate(result["splits"], extra="ignore"),
        quality=Quality.model_validate(result["quality"], extra="ignore"),
        leakage=_leakage(result.get("leakage")),
        files=Files.model_validate(files, extra="ignore") if files else None,
        source=Origin.model_validate(bounds.short({**origin, "state": None}), extra="ignore") if origin else None,
        statistics=ToldStatistics.model_validate(bounds.short(told), extra="ignore") if told else None,
    )
    return Passed(status=status)


def listed(seen: Observed) -> Passed:
    """Publishes lists with names that others chose, cut to the size of a status. The record has the full lists."""
    result, full = seen.result, seen.record.uri
    classes, excluded, warnings = (result.get(name) or [] for name in ("classes", "excluded", "warnings"))
    corrected = (result.get("corrections") or [])[: bounds.MOST_CORRECTED]
    measured = (result.get("measured") or [])[: bounds.MOST_MEASURED]
    altered = (result.get("altered") or [])[: bounds.MOST_ALTERED]
    slices = (result.get("slices") or [])[: bounds.MOST_SLICES]
    warnings = [*warnings, *bias.warnings(seen.spec.bias, slices)]
    balance = result.get("balance") or {}
    balanced = balance.get("classes") or []
    captured = result.get("capture")
    cut = (
        bounds.truncated("balance.classes", balanced, bounds.MOST_CLASSES, full),
        *_cut_names(result, full),
        bounds.truncated("classes", classes, bounds.MOST_CLASSES, full),
        bounds.truncated("warnings", warnings, bounds.MOST_WARNINGS, full),
    )
    named = bounds.short(classes[: bounds.MOST_CLASSES])
    status = DatasetStatus(
        classes=[ClassCount.model_validate(entry, extra="ignore") for entry in named],
        excluded=[Excluded.model_validate(bounds.short(entry), extra="ignore") for entry in excluded] or None,
        altered=[Alteration.model_validate(bounds.short(entry), extra="ignore") for entry in altered] or None,
        corrections=[Corrections.model_validate(bounds.short(entry), extra="ignore") for entry in corrected] or None,
        measured=[Measured.model_validate(bounds.short(entry), extra="ignore") for entry in measured] or None,
        slices=[SliceFigures.model_validate(bounds.short(entry), extra="ignore") for entry in slices] or None,
        balance=_balance({**balance, "classes": balanced[: bounds.MOST_CLASSES]}) if balance else None,
        capture=_captured(captured) if captured else None,
        taxonomy=_named(result),
        report=_report(result),
        warnings=bounds.short(warnings[: bounds.MOST_WARNINGS]) or None,
        truncated=[entry for entry in cut if entry is not None] or None,
    )
    return Passed(status=status)


def _balance(found: Mapping[str, Any]) -> Balanced:
    return Balanced.model_validate(bounds.short(found), extra="ignore")


def _captured(told: Mapping[str, Any]) -> Captured:
    """The known facts about the capture, cut to the size of a status."""
    findings = (told.get("findings") or [])[: bounds.MOST_FINDINGS]
    fields = [CaptureCount.model_validate(bounds.short(entry), extra="ignore") for entry in told.get("fields") or []]
    return Captured(
        fields=fields[: bounds.MOST_FINDINGS],
        findings=[CaptureFinding.model_validate(bounds.short(entry), extra="ignore") for entry in findings],
    )


def _cut_names(result: Mapping[str, Any], full: str) -> Iterator[Truncated | None]:
    """A note for each list from a register of names, None for those that fit into a status."""
    told = result.get("taxonomy") or {}
    for name, found in told.items():
        if isinstance(found, list):
            yield bounds.truncated(f"taxonomy.{name}", found, bounds.MOST_NAMES, full)
    parts = [each["of"] for each in told.get("rolledUp") or []]
    yield bounds.truncated("taxonomy.rolledUp[].of", max(parts, key=len, default=[]), bounds.MOST_PARTS, full)


def _named(result: Mapping[str, Any]) -> ToldTaxonomy | None:
    """The answer of a register of names, cut to the size of a status; None without a register."""
    told = result.get("taxonomy")
    if not told:
        return None
    short = {name: found[: bounds.MOST_NAMES] if isinstance(found, list) else found for name, found in told.items()}
    short["rolledUp"] = [{**each, "of": each["of"][: bounds.MOST_PARTS]} for each in short.get("rolledUp") or []]
    return ToldTaxonomy.model_validate(bounds.short(short), extra="ignore")


def _leakage(stated: Mapping[str, Any] | None) -> Leakage | None:
    if not stated:
        return None
    found = (stated.get("found") or [])[: bounds.MOST_LEAKED]
    return Leakage.model_validate(bounds.short({**stated, "found": found}), extra="ignore")


def _report(result: Mapping[str, Any]) -> str | None:
    """The uri of the version's report; None unless it is inside the version, since the result may name any place."""
    stated = result.get("report")
    return stated if isinstance(stated, str) and stated.startswith(f"{result['uri']}/") else None


def result_on_record(seen: Observed) -> Passed:
    """Keeps the version on record, with the history up to it, metadata and publication, unless the record is up to date."""
    metadata = seen.spec.metadata.written() if seen.spec.metadata is not None else None
    digest = digests.digest(metadata) if metadata else None
    status = DatasetStatus(record=seen.record.uri, metadata_digest=digest)
    known = published_versions.current(seen)
    if (
        seen.record.is_kept
        and digest == seen.metadata_digest
        and known == published_versions.recorded(seen.publishing.known)
    ):
        return Passed(status=status)
    made = {
        "versions": [
            version.written() for version in published_versions.named(seen, quality.marked(seen, removal.history(seen)))
        ],
        "store": seen.store,
        "result": dict(seen.result),
        "madeFrom": preparation.made_from(seen, seen.inputs).written(),
        "retryKey": seen.run.retry_key if seen.run is not None else looking.key(seen),
    }
    told = {"metadata": metadata, "publication": known.written() if known is not None else None}
    record = {**seen.record.of, **made, **{name: each for name, each in told.items() if each}}
    return Passed(effects=(KeepRecord(seen.record.path, record), KeepRecord(seen.record.newest, record)), status=status)


def ready(seen: Observed) -> Ended:
    """Ends the chain: the version can be trained on."""
    message = _describe(seen.result)
    prepared = Verdict(PREPARED, ConditionState.DONE, reasons.VERSION_READY, message)
    summary = Verdict(READY, ConditionState.DONE, reasons.VERSION_READY, message)
    again = max(looking.period(seen), SHORTEST_REFRESH)
    pause = min(again, removal.pause(seen), publication.pause(seen))
    return Ended((prepared,), recheck_after=pause, ready=summary)


def _describe(result: Mapping[str, Any]) -> str:
    splits = ", ".join(f"{name} {count['images']}" for name, count in result["splits"].items())
    cut = (result.get("files") or {}).get("tiles") or {}
    tiles = f", of which {cut['tiles']} are tiles of {cut['images']} large ones," if cut.get("images") else ""
    return f"{result['images']} images{tiles} in {len(result['classes'])} classes ({splits})"
