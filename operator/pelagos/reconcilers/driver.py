"""One pass over one resource: finalizer, gather, decide, act, report. The only place that maps errors to conditions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pydantic

from pelagos.api import merge_patches, meta, reasons
from pelagos.api.kinds import Kind
from pelagos.decisions import bounds, effects
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, obstacle, summary
from pelagos.observability import metrics
from pelagos.ports.authority import NoKeyError
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import ChangedError, OutageError, RejectedError, TooLargeError, UnfinishedError
from pelagos.reconcilers import announcing, apply_effects, cleanup, forcing, records, reporting, version_users
from pelagos.reconcilers.dependencies import Dependencies

logger = logging.getLogger("pelagos.reconcile")

REJECTED_RETRY = 15.0
FRESH = 1.0
"""Seconds for which the answer to our own write confirms that a resource is there."""
GONE_RETRY = 2.0
"""Seconds until the next pass over a resource for which nothing could be launched; by then the watch should have caught up."""

_ACCEPTED = Decision(
    (Verdict("Ready", ConditionState.PROGRESSING, reasons.ACCEPTED, "seen, and waiting for its first pass"),)
)
_LAUNCHES = (
    effects.CreateTrackedRun,
    effects.SubmitRun,
    effects.RegisterModel,
    effects.ApplyService,
    effects.CreateOwned,
    effects.IssueToken,
)
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

    def turn(self, resource: Resource) -> contextlib.AbstractAsyncContextManager[object]:
        """What a pass over the resource is made in, from looking until it is reported: others may have to wait for its end."""

    async def gather(self, resource: Resource, spec: Any, dependencies: Dependencies) -> Any:
        """Read all that the decision needs, once."""

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
    shown_at = -math.inf
    if meta.FINALIZER not in resource.finalizers:
        # Before the first external effect. Without it, a resource that is deleted while its run is being submitted would be gone
        # at once, and the run would stay with nobody to end it.
        written = await dependencies.cluster.set_finalizers(resource, (*resource.finalizers, meta.FINALIZER))
        if written is None:
            return Pass("gone", None)
        dependencies.cache.put_written(written)
        resource = written  # as it is now: somebody else may have changed it since the watch showed it
        shown_at = asyncio.get_running_loop().time()
    async with reconciler.turn(resource):
        return await _pass(reconciler, resource, dependencies, initialized=initialized, shown_at=shown_at)


async def _pass(
    reconciler: Reconciler, resource: Resource, dependencies: Dependencies, *, initialized: bool, shown_at: float
) -> Pass:
    try:
        decision = await _decide_and_act(reconciler, resource, dependencies, shown_at)
    except GoneError as error:
        # Nothing is reported, because there is nobody to read it. The pass comes back for the case that only what the resource
        # refers to is gone; a watch that is behind should have caught up by then.
        logger.info("nothing is launched for %s/%s: %s is gone", resource.kind.kind, resource.name, error)
        return Pass("gone", GONE_RETRY)
    except RejectedError as error:
        # Asking the same again would not help, so no backoff: a steady, slow pace notices when a person has acted.
        decision = _failure(error)
    except Exception as error:
        decision = _failure(error)
        # Reported before the exception goes on: a fault that shows in the log alone would leave the last status standing.
        await _report(reconciler, resource, decision, dependencies)
        if not isinstance(error, OutageError):
            raise
        return Pass(summary(decision).state.value.lower(), None, failed=True)
    if initialized and any(isinstance(effect, effects.SubmitRun) for effect in decision.effects):
        return Pass("progressing", 0)
    reported = await _report(reconciler, resource, decision, dependencies)
    return Pass(summary(reported).state.value.lower(), reported.recheck_after)


async def write_initial_status(reconciler: Reconciler, resource: Resource, dependencies: Dependencies) -> Pass:
    """Give a new resource its first status at once, when others are before it in the queue; its first real pass follows."""
    # No event: Kubernetes would keep one more object for each resource of a burst, to say nothing.
    await _report(reconciler, resource, _ACCEPTED, dependencies, announce=False)
    return Pass("accepted", 0)


async def _decide_and_act(
    reconciler: Reconciler, resource: Resource, dependencies: Dependencies, shown_at: float
) -> Decision:
    """Returns the decision, less what could not be done and need not be. Raises what the ports raise.

    ``shown_at``: when, by the event loop's clock, the API server showed in this pass that it has the resource.
    """
    try:
        # Servers without CEL admit what breaks the rules across fields, and any server admits what an older CRD allowed.
        spec = reconciler.kind.spec.model_validate(resource.spec)
    except pydantic.ValidationError as error:
        return Decision((Verdict("Ready", ConditionState.REFUSED, reasons.INVALID_SPEC, explain(error)),))
    seen = await reconciler.gather(resource, spec, dependencies)
    decision = reconciler.decide(seen)
    if any(isinstance(effect, _LAUNCHES) for effect in decision.effects):
        # After deciding and not before: most passes launch nothing, and asking costs a request to the API server.
        await _confirm(resource, decision, dependencies, shown_at)
    announced = announcing.announcement(decision, resource.status)
    if announced is not None:
        # Before acting: ending a run may take longer than this pass, and the operator may die in the middle of it.
        with contextlib.suppress(TooLargeError):  # What is ended is ended all the same.
            await _report(reconciler, resource, announced, dependencies)
    for effect in decision.effects:
        # One after another, in the order of the decision: a tracked run must exist before the pipeline that is given its id.
        # When one fails, the rest is left out; the next pass sees what there is by then and decides again.
        if isinstance(effect, effects.KeepRecord):
            decision = await _keep(effect, decision, dependencies)
        elif isinstance(effect, effects.SubmitRun) and effect.aside:
            decision = await _submit_aside(effect, decision, dependencies)
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
        # Status must not name a record that is not there: the next pass would take it for kept.
        return replace(decision, status={**decision.status, "record": None}, recheck_after=pause)
    return decision


async def _submit_aside(effect: effects.SubmitRun, decision: Decision, dependencies: Dependencies) -> Decision:
    """Submit a run that nothing else waits for: why it is refused shows in its own condition, and holds up nothing."""
    try:
        await apply_effects.act(effect, dependencies)
    except RejectedError as error:
        secret = reasons.REPOSITORY_SECRET_INCOMPLETE
        reason = secret if error.reason == reasons.SOURCE_SECRET_INCOMPLETE else error.reason
        verdict = replace(obstacle(effect.aside, reason, str(error)), is_aside=True)
        others = tuple(each for each in decision.verdicts if each.type != effect.aside)
        pause = REJECTED_RETRY if decision.recheck_after is None else min(decision.recheck_after, REJECTED_RETRY)
        return replace(decision, verdicts=(*others, verdict), recheck_after=pause)
    return decision


async def _confirm(resource: Resource, decision: Decision, dependencies: Dependencies, shown_at: float) -> None:
    """Ask the API server whether it still has the resource and what it is made from. Raises GoneError.

    A resource that has just got our finalizer is there, and cannot go without a pass of ours: it is not asked for again.

    The cache may be behind: a watch can expire, or fall silent without an error. What is gone is then dropped from the cache,
    but what is new is left to the watch. If it were put into the cache here, the watch's own event would look like old news, and
    nobody would reconcile what depends on it. A referred resource that is being deleted was known to the decision; its
    deletion may take long, and holds up nobody who can do without it.
    """
    referred = dependencies.cache.referred_to(resource)
    is_fresh = asyncio.get_running_loop().time() - shown_at < FRESH
    for known in (*(() if is_fresh else (resource,)), *([referred] if referred and not referred.deleting else ())):
        found = await _found(known, dependencies)
        if found is None or found.deleting:
            raise GoneError(known.key)
        # Status says by now which version it takes. Whoever removes versions looks at that after having said which.
        asked = [effect.request for effect in decision.effects if isinstance(effect, effects.SubmitRun)]
        if known is not resource and any(version_users.is_leaving(each.parameters["request"], found) for each in asked):
            raise GoneError(f"a version of {known.key}")


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
        meant = summary(decision)
        message = (
            f"status does not fit into the resource ({error}). It would say: {meant.reason}, {meant.message[:500]}. "
            "Shorten spec and annotations of the resource, or divide it"
        )
        verdict = Verdict("Ready", ConditionState.REFUSED, reasons.STATUS_TOO_LARGE, message)
        decision = Decision((verdict,), recheck_after=REJECTED_RETRY)
        await _write(reconciler, resource, decision, dependencies, announce=announce)
    return decision


async def _write(
    reconciler: Reconciler, resource: Resource, decision: Decision, dependencies: Dependencies, *, announce: bool
) -> None:
    # The cache has what this very pass has written before; the resource of the pass does not. A patch computed against the older
    # one would bring back conditions that were just replaced, with wrong transition times.
    known = dependencies.cache.get(resource.key)
    before = known.status if known is not None and known.uid == resource.uid else resource.status
    now = dependencies.clock.now()
    status = reporting.new_status(before, decision, reconciler.conditions, generation=resource.generation, now=now)
    patch = merge_patches.between(before, status)
    if not patch:
        return  # An unchanged resync writes nothing: otherwise our own write would come back as an event, and so on for ever.
    written = await dependencies.cluster.patch_status(resource, patch)
    if written is None:
        return
    # At once, and not when the watch shows it: the next pass may begin before that, and would repeat this patch.
    dependencies.cache.put_written(written)
    for stage, seconds in reporting.stages_ended(before, status):
        metrics.STAGE_SECONDS.labels(resource.kind.kind, stage).observe(seconds)
    waited = reporting.waited_in_queue(before, status)
    if waited is not None:
        metrics.admitted(resource, status["queue"]["name"], status["queue"]["admittedAt"], waited)
    news = reporting.announcement(before, status, decision) if announce else None
    if news is None:
        return
    # After the write: an event about a transition that was then not published would be wrong, a lost event is only missing.
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
        return Pass("gone", None)  # It waits for the finalizers of others; ours is off already, or was never needed.
    try:
        # Cleaning up goes by uid, but what was stored goes by name as well. If the watch missed that this resource went and a new
        # one of its name came, those things belong to the new one.
        if await _found(resource, dependencies) is None:
            return Pass("gone", None)
        await cleanup.clean_up(reconciler.clean_up, resource, dependencies)
    except Exception as error:
        decision = _failure(error)
        if isinstance(error, OutageError | RejectedError) and not isinstance(error, UnfinishedError):
            message = f"cleaning up waits: {error}. {forcing.hint(resource)}"
            decision = Decision((Verdict("Ready", ConditionState.FAILING, reasons.DELETION_BLOCKED, message),))
        await _report(reconciler, resource, decision, dependencies)
        if not isinstance(error, OutageError | RejectedError):
            raise
        return Pass(summary(decision).state.value.lower(), None, failed=True)
    # Last: from here on Kubernetes may drop the resource, and with it all that we know of what it had outside.
    left = tuple(name for name in resource.finalizers if name != meta.FINALIZER)
    await dependencies.cluster.set_finalizers(resource, left)
    return Pass("deleted", None)


def _failure(error: Exception) -> Decision:
    """What is published when an error ended a pass: the one table of errors and conditions."""
    message, pause = str(error), None
    # From the special to the general: three of these are subclasses of the next.
    match error:
        case UnfinishedError():
            verdict = Verdict("Ready", ConditionState.PROGRESSING, reasons.ENDING, message)
        case ChangedError():
            verdict = Verdict("Ready", ConditionState.PROGRESSING, reasons.COMPARING, message)
        case OutageError():
            verdict = Verdict("Ready", ConditionState.UNKNOWN, reasons.SYSTEM_UNAVAILABLE, message)
        case NoKeyError():
            message = f"{message}. It is looked for again every few seconds"
            verdict, pause = obstacle("Ready", reasons.AUTHORITY_KEY_MISSING, message), REJECTED_RETRY
        case RejectedError():
            verdict, pause = obstacle("Ready", error.reason, message), REJECTED_RETRY
            todo = "Correct the cause; it" if verdict.state is ConditionState.REFUSED else "It"
            verdict = replace(verdict, message=f"{message}. {todo} is looked at again every few seconds")
        case _:
            message = f"unexpected {type(error).__name__}: {error}. This is a fault of the operator; it tries again"
            verdict = Verdict("Ready", ConditionState.UNKNOWN, reasons.INTERNAL_ERROR, message)
    return Decision((verdict,), recheck_after=pause)


def explain(error: pydantic.ValidationError) -> str:
    """What is wrong with a spec: field, value, what is allowed."""
    parts = []
    for problem in error.errors(include_url=False)[:5]:
        field = ".".join(["spec", *(str(part) for part in problem["loc"])])
        text = problem["msg"][0].lower() + problem["msg"][1:]
        value = "" if problem["type"] == "missing" else f" (it is {bounds.short(repr(problem['input']))})"
        parts.append(f"{field}: {text}{value}")
    return "; ".join(parts) + ". Correct the field and apply the resource again"
