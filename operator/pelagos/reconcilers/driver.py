"""One pass over one resource: finalizer, gather, decide, act, report. The only place that maps errors to conditions."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pydantic

from pelagos.api import merge_patches, meta, reasons
from pelagos.api.kinds import Kind
from pelagos.decisions import effects
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, obstacle, summary
from pelagos.ports.authority import NoKeyError
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import OutageError, RejectedError, TooLargeError, UnfinishedError
from pelagos.reconcilers import apply_effects, cleanup, forcing, foretelling, records, reporting
from pelagos.reconcilers.dependencies import Dependencies

logger = logging.getLogger("pelagos.reconcile")

REJECTED_RETRY = 15.0
GONE_RETRY = 2.0
"""Seconds until a resource is looked at again that could not be launched for; the watch should have told more by then."""


_ACCEPTED = Decision(
    (Verdict("Ready", ConditionState.PROGRESSING, reasons.ACCEPTED, "seen, and waiting for its first pass"),)
)


_LAUNCHES = (effects.CreateTrackedRun, effects.SubmitRun, effects.RegisterModel, effects.ApplyService)
"""Effects that make something outside, which nobody would clean up after a resource that is gone."""


class GoneError(Exception):
    """The API server does not have, or is deleting, what something would have been launched for. Nothing was done."""


class Reconciler(Protocol):
    """What differs between kinds."""

    @property
    def kind(self) -> Kind:
        """The kind."""

    @property
    def conditions(self) -> Sequence[str]:
        """Types of the conditions that this kind always has, beside Ready."""

    async def gather(self, resource: Resource, spec: Any, dependencies: Dependencies) -> Any:
        """Read the world once."""

    def decide(self, seen: Any) -> Decision:
        """Name what must hold next."""

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """End and, where deletionPolicy says so, remove all that is outside of Kubernetes. May be called again."""


@dataclass(frozen=True)
class Pass:
    """Outcome of one pass: ``result`` is a metric label; ``recheck_after`` in seconds, None: only on change.

    After a pass that ``failed`` the loop comes back by itself, in growing pauses.
    """

    result: str
    recheck_after: float | None
    failed: bool = False


async def reconcile(
    reconciler: Reconciler, resource: Resource, dependencies: Dependencies, *, initialized: bool = False
) -> Pass:
    """Make one pass. Raises only what is a bug; the caller retries that with backoff.

    ``initialized``: this is the first pass after `write_initial_status`. If it submits a run, it reports nothing and asks for
    another pass at once, which says what has become of the run. Status says already that the resource was seen, and a burst
    of new resources costs one write less for each. An operator that dies here has not reported either: that is harmless.
    """
    if resource.deleting:
        return await _delete(reconciler, resource, dependencies)
    if meta.FINALIZER not in resource.finalizers:
        # Before the first external effect, so that nothing can be left behind.
        written = await dependencies.cluster.set_finalizers(resource, (*resource.finalizers, meta.FINALIZER))
        if written is None:
            return Pass("gone", None)
        dependencies.cache.put_written(written)
        resource = written
    try:
        decision = await _decide_and_act(reconciler, resource, dependencies)
        if initialized and any(isinstance(effect, effects.SubmitRun) for effect in decision.effects):
            return Pass("progressing", 0)
    except GoneError as error:
        logger.info("nothing is launched for %s/%s: %s is gone", resource.kind.kind, resource.name, error)
        return Pass("gone", GONE_RETRY)
    except UnfinishedError as error:
        await _report(reconciler, resource, _unfinished(error), dependencies)
        return Pass("progressing", None, failed=True)
    except OutageError as error:
        await _report(reconciler, resource, _outage(error), dependencies)
        return Pass("unknown", None, failed=True)
    except (NoKeyError, RejectedError) as error:
        decision = _keyless(error) if isinstance(error, NoKeyError) else _rejected(error)
    except Exception as error:
        await _report(reconciler, resource, _bug(error), dependencies)
        raise
    reported = await _report(reconciler, resource, decision, dependencies)
    return Pass(summary(reported).state.value.lower(), reported.recheck_after)


async def write_initial_status(reconciler: Reconciler, resource: Resource, dependencies: Dependencies) -> Pass:
    """Give a new resource its first status at once, when others stand before it; its first real pass follows."""
    await _report(reconciler, resource, _ACCEPTED, dependencies, announce=False)
    return Pass("accepted", 0)


async def _decide_and_act(reconciler: Reconciler, resource: Resource, dependencies: Dependencies) -> Decision:
    try:
        spec = reconciler.kind.spec.model_validate(resource.spec)
    except pydantic.ValidationError as error:
        return Decision((Verdict("Ready", ConditionState.REFUSED, reasons.INVALID_SPEC, explain(error)),))
    seen = await reconciler.gather(resource, spec, dependencies)
    decision = reconciler.decide(seen)
    if any(isinstance(effect, _LAUNCHES) for effect in decision.effects):
        await _confirm(resource, dependencies)
    foretold = foretelling.foretold(decision, resource.status)
    if foretold is not None:
        with contextlib.suppress(TooLargeError):  # What is ended is ended all the same.
            await _report(reconciler, resource, foretold, dependencies)
    return await _act(decision, dependencies)


async def _act(decision: Decision, dependencies: Dependencies) -> Decision:
    """Carry out all effects. Returns the decision, less what could not be done and need not be."""
    for effect in decision.effects:
        if isinstance(effect, effects.KeepRecord):
            decision = await _keep(effect, decision, dependencies)
        else:
            await apply_effects.act(effect, dependencies)
    return decision


async def _keep(effect: effects.KeepRecord, decision: Decision, dependencies: Dependencies) -> Decision:
    """Keep a record. What was made is no less made when that fails: it is said in the log, and tried again."""
    try:
        await records.keep(effect.path, effect.record, dependencies)
    except (OutageError, RejectedError) as error:
        logger.warning("a result could not be put on record, and a rebuilt cluster would make it again: %s", error)
        pause = REJECTED_RETRY if decision.recheck_after is None else min(decision.recheck_after, REJECTED_RETRY)
        return replace(decision, status={**decision.status, "record": None}, recheck_after=pause)
    return decision


async def _confirm(resource: Resource, dependencies: Dependencies) -> None:
    """Ask the API server whether it still has the resource and what it is made from.

    What the watch has told may be old: a watch can expire, and fall silent. Raises GoneError; what is gone is then forgotten.
    What is new is for the watch to tell, which would take it for known if it were remembered here. Of something that is being
    deleted the decision knew already: that may take long, and keeps nobody from going on without it.
    """
    referred = dependencies.cache.referred_to(resource)
    for known in (resource, *([referred] if referred and not referred.deleting else ())):
        found = await _found(known, dependencies)
        if found is None or found.deleting:
            raise GoneError(known.key)


async def _found(known: Resource, dependencies: Dependencies) -> Resource | None:
    """The resource as the API server has it now; None when it is gone, which is then forgotten."""
    found = await dependencies.cluster.read(known.kind, known.namespace, known.name)
    if found is not None and found.uid == known.uid:
        return found
    dependencies.cache.remove(known.key, known.uid)
    return None


async def _report(
    reconciler: Reconciler, resource: Resource, decision: Decision, dependencies: Dependencies, *, announce: bool = True
) -> Decision:
    """Publish the decision, or that it does not fit into the resource. Returns what was published.

    Raises TooLargeError when not even that fits.
    """
    try:
        await _write(reconciler, resource, decision, dependencies, announce=announce)
    except TooLargeError as error:
        decision = _too_large(decision, error)
        await _write(reconciler, resource, decision, dependencies, announce=announce)
    return decision


async def _write(
    reconciler: Reconciler, resource: Resource, decision: Decision, dependencies: Dependencies, *, announce: bool
) -> None:
    known = dependencies.cache.get(resource.key)  # With what this pass has reported before.
    before = known.status if known is not None and known.uid == resource.uid else resource.status
    status = reporting.new_status(
        before, decision, reconciler.conditions, generation=resource.generation, now=dependencies.clock.now()
    )
    patch = merge_patches.between(before, status)
    if not patch:
        return
    written = await dependencies.cluster.patch_status(resource, patch)
    if written is None:
        return
    dependencies.cache.put_written(written)
    if announce:
        await _announce(resource, reporting.announcement(before, status, decision), dependencies)


async def _announce(resource: Resource, news: reporting.Announcement | None, dependencies: Dependencies) -> None:
    """An event and a log line when Ready changes: on transitions only."""
    if news is None:
        return
    logger.log(
        logging.WARNING if news.warns else logging.INFO,
        "%s: %s",
        news.reason,
        news.message,
        extra={"kind": resource.kind.kind, "namespace": resource.namespace, "resource": resource.name},
    )
    await dependencies.cluster.post_event(
        resource, severity="Warning" if news.warns else "Normal", reason=news.reason, message=news.message
    )


async def _delete(reconciler: Reconciler, resource: Resource, dependencies: Dependencies) -> Pass:
    if meta.FINALIZER not in resource.finalizers:
        return Pass("gone", None)
    try:
        if await _found(resource, dependencies) is None:  # What it had may be that of another one of its name by now.
            return Pass("gone", None)
        await cleanup.clean_up(reconciler.clean_up, resource, dependencies)
    except UnfinishedError as error:
        await _report(reconciler, resource, _unfinished(error), dependencies)
        return Pass("progressing", None, failed=True)
    except (OutageError, RejectedError) as error:
        waiting = Verdict(
            "Ready",
            ConditionState.FAILING,
            reasons.DELETION_BLOCKED,
            f"cleaning up waits: {error}. {forcing.hint(resource)}",
        )
        await _report(reconciler, resource, Decision((waiting,)), dependencies)
        return Pass("failing", None, failed=True)
    except Exception as error:
        await _report(reconciler, resource, _bug(error), dependencies)
        raise
    left = tuple(name for name in resource.finalizers if name != meta.FINALIZER)
    await dependencies.cluster.set_finalizers(resource, left)
    return Pass("deleted", None)


def _too_large(decision: Decision, error: TooLargeError) -> Decision:
    """What is said in the place of a decision that does not fit into the resource."""
    meant = summary(decision)
    message = (
        f"status does not fit into the resource ({error}). It would say: {meant.reason}, {meant.message[:500]}. Shorten spec and "
        "annotations of the resource, or divide it"
    )
    return Decision(
        (Verdict("Ready", ConditionState.REFUSED, reasons.STATUS_TOO_LARGE, message),), recheck_after=REJECTED_RETRY
    )


def _unfinished(error: UnfinishedError) -> Decision:
    return Decision((Verdict("Ready", ConditionState.PROGRESSING, reasons.ENDING, str(error)),))


def _outage(error: OutageError) -> Decision:
    return Decision((Verdict("Ready", ConditionState.UNKNOWN, reasons.SYSTEM_UNAVAILABLE, str(error)),))


def _rejected(error: RejectedError) -> Decision:
    verdict = obstacle("Ready", error.reason, f"{error}. It is looked at again every few seconds")
    if verdict.state is ConditionState.REFUSED:
        verdict = replace(verdict, message=f"{error}. Correct the cause; it is looked at again every few seconds")
    return Decision((verdict,), recheck_after=REJECTED_RETRY)


def _keyless(error: NoKeyError) -> Decision:
    verdict = obstacle("Ready", reasons.AUTHORITY_KEY_MISSING, f"{error}. It is looked for again every few seconds")
    return Decision((verdict,), recheck_after=REJECTED_RETRY)


def _bug(error: Exception) -> Decision:
    message = f"unexpected {type(error).__name__}: {error}. This is a fault of the operator; it tries again"
    return Decision((Verdict("Ready", ConditionState.UNKNOWN, reasons.INTERNAL_ERROR, message),))


def explain(error: pydantic.ValidationError) -> str:
    """What is wrong with a spec: field, value, what is allowed."""
    parts = []
    for problem in error.errors(include_url=False)[:5]:
        field = ".".join(["spec", *(str(part) for part in problem["loc"])])
        text = problem["msg"][0].lower() + problem["msg"][1:]
        value = "" if problem["type"] == "missing" else f" (it is {problem['input']!r})"
        parts.append(f"{field}: {text}{value}")
    return "; ".join(parts) + ". Correct the field and apply the resource again"
