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
"""Seconds until the next pass after a refusal."""
GONE_RETRY = 2.0
"""Seconds until the next pass after a ``GoneError``; by then the watch should have caught up."""

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
"""Effects that create something outside. Nobody would clean that up if the resource had already been deleted."""


class GoneError(Exception):
    """The resource, or the one it is made from, is deleted or being deleted according to the API server. Nothing was launched."""


class Reconciler(Protocol):
    """The part of a pass that differs between kinds."""

    @property
    def kind(self) -> Kind:
        """The kind of resource that this reconciler handles."""

    @property
    def conditions(self) -> Sequence[str]:
        """Types of the conditions that every resource of this kind has, besides Ready."""

    def turn(self, resource: Resource) -> contextlib.AbstractAsyncContextManager[object]:
        """A context that the pass runs in, from gathering to reporting. May make passes over other resources wait."""

    async def gather(self, resource: Resource, spec: Any, dependencies: Dependencies) -> Any:
        """Read everything that the decision needs, each thing once. Returns the Observed of this kind."""

    def decide(self, seen: Any) -> Decision:
        """Conclude from the Observed of this kind which conditions hold and which effects are due. Pure."""

    async def clean_up(self, resource: Resource, dependencies: Dependencies) -> None:
        """End everything outside Kubernetes and, where deletionPolicy says so, remove it. Idempotent."""


@dataclass(frozen=True)
class Pass:
    """Outcome of one pass. ``result`` is a metric label.

    ``recheck_after`` is in seconds; with None, only a change leads to the next pass. After a pass that ``failed``, the loop
    retries with backoff.
    """

    result: str
    recheck_after: float | None
    failed: bool = False


async def reconcile(
    reconciler: Reconciler, resource: Resource, dependencies: Dependencies, *, initialized: bool = False
) -> Pass:
    """Make one pass. An error that the driver does not know is reported and raised; the caller retries it with backoff.

    ``initialized``: this is the first pass after `write_initial_status`. If it submits a run, it reports nothing and asks for
    another pass at once, which reports the state of the run. Status already says that the resource was seen, so a burst of new
    resources costs one write less for each. An operator that dies at this point leaves the same state, which is harmless.
    """
    if resource.deleting:
        return await _delete(reconciler, resource, dependencies)
    if meta.FINALIZER not in resource.finalizers:
        # Before the first external effect. Without it, a resource deleted while its run is being submitted would disappear at
        # once, and the run would stay with nobody to end it.
        written = await dependencies.cluster.set_finalizers(resource, (*resource.finalizers, meta.FINALIZER))
        if written is None:
            return Pass("gone", None)
        dependencies.cache.put_written(written)
        resource = written  # The current state: somebody else may have changed it since the watch reported it.
    async with reconciler.turn(resource):
        return await _pass(reconciler, resource, dependencies, initialized=initialized)


async def _pass(reconciler: Reconciler, resource: Resource, dependencies: Dependencies, *, initialized: bool) -> Pass:
    try:
        decision = await _decide_and_act(reconciler, resource, dependencies)
    except GoneError as error:
        # Nothing is reported: if the resource was deleted, nobody would read it. There is another pass in case only the resource
        # it refers to was deleted; a watch that lags should have caught up by then.
        logger.info("nothing is launched for %s/%s: %s no longer exists", resource.kind.kind, resource.name, error)
        return Pass("gone", GONE_RETRY)
    except RejectedError as error:
        # The same request would be refused again, so there is no backoff: a steady, slow pace notices when a person has acted.
        decision = _failure(error)
    except Exception as error:
        decision = _failure(error)
        # Reported before the exception is raised: an error that is only logged would leave an outdated status in place.
        await _report(reconciler, resource, decision, dependencies)
        if not isinstance(error, OutageError):
            raise
        return Pass(summary(decision).state.value.lower(), None, failed=True)
    if initialized and any(isinstance(effect, effects.SubmitRun) for effect in decision.effects):
        return Pass("progressing", 0)
    reported = await _report(reconciler, resource, decision, dependencies)
    return Pass(summary(reported).state.value.lower(), reported.recheck_after)


async def write_initial_status(reconciler: Reconciler, resource: Resource, dependencies: Dependencies) -> Pass:
    """Write the first status of a new resource, when the queue is too long to make its first full pass now."""
    # No event: Kubernetes would store one more object for each resource of a burst, without any information in it.
    await _report(reconciler, resource, _ACCEPTED, dependencies, announce=False)
    return Pass("accepted", 0)


async def _decide_and_act(reconciler: Reconciler, resource: Resource, dependencies: Dependencies) -> Decision:
    """Returns the decision, changed where an optional effect failed. Raises what the ports raise."""
    try:
        # API servers without CEL admit specs that break rules across fields, and stored specs may date from an older CRD.
        spec = reconciler.kind.spec.model_validate(resource.spec)
    except pydantic.ValidationError as error:
        return Decision((Verdict("Ready", ConditionState.REFUSED, reasons.INVALID_SPEC, explain(error)),))
    seen = await reconciler.gather(resource, spec, dependencies)
    decision = reconciler.decide(seen)
    if any(isinstance(effect, _LAUNCHES) for effect in decision.effects):
        # After deciding and not before: most passes launch nothing, and this costs a request to the API server.
        await _confirm(resource, decision, dependencies)
    announced = announcing.announcement(decision, resource.status)
    if announced is not None:
        # Before acting: ending a run may take longer than this pass, and the operator may die in the middle of it.
        with contextlib.suppress(TooLargeError):  # A status that does not fit must not keep a run from being ended.
            await _report(reconciler, resource, announced, dependencies)
    for effect in decision.effects:
        # One after another, in the order of the decision: a tracked run must exist before the pipeline that gets its id. When one
        # fails, the rest is skipped; the next pass observes what exists by then and decides again.
        if isinstance(effect, effects.KeepRecord):
            decision = await _keep(effect, decision, dependencies)
        elif isinstance(effect, effects.SubmitRun) and effect.aside:
            decision = await _submit_aside(effect, decision, dependencies)
        else:
            await apply_effects.act(effect, dependencies)
    return decision


async def _keep(effect: effects.KeepRecord, decision: Decision, dependencies: Dependencies) -> Decision:
    """Keep a record. The result is valid without it, so a failure is only logged, and the next pass tries again."""
    try:
        await records.keep(effect.path, effect.record, dependencies)
    except (OutageError, RejectedError) as error:
        logger.warning("a result could not be recorded, and a rebuilt cluster would produce it again: %s", error)
        pause = REJECTED_RETRY if decision.recheck_after is None else min(decision.recheck_after, REJECTED_RETRY)
        # Status must not name a record that was not written, or the next pass would take it for kept.
        return replace(decision, status={**decision.status, "record": None}, recheck_after=pause)
    return decision


async def _submit_aside(effect: effects.SubmitRun, decision: Decision, dependencies: Dependencies) -> Decision:
    """Submit a run that nothing else waits for. A refusal shows in its own condition, ``effect.aside``, and blocks nothing."""
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


async def _confirm(resource: Resource, decision: Decision, dependencies: Dependencies) -> None:
    """Ask the API server whether it still has the resource and the one it is made from. Raises GoneError if not.

    The cache may lag behind: a watch can expire, or fall silent without an error. A deleted resource is therefore dropped from
    the cache here, but a newer version is left to the watch. If it were put into the cache here, the watch's own event would
    count as old, and nobody would reconcile its dependents.
    """
    referred = dependencies.cache.referred_to(resource)
    # The decision already knew of a referred resource that is being deleted. Its deletion may take long, and must not hold up a
    # resource that can do without it.
    for known in (resource, *([referred] if referred and not referred.deleting else ())):
        found = await _found(known, dependencies)
        if found is None or found.deleting:
            raise GoneError(known.key)
        # Closes a race with the removal of versions (decisions/dataset/removal): the Dataset announces in status which it removes
        # before it checks who uses them, and this resource has announced which one it uses. At least one of them sees the other.
        asked = [effect.request for effect in decision.effects if isinstance(effect, effects.SubmitRun)]
        if known is not resource and any(version_users.is_leaving(each.parameters["request"], found) for each in asked):
            raise GoneError(f"a version of {known.key}")


async def _found(known: Resource, dependencies: Dependencies) -> Resource | None:
    """The resource as the API server has it now. None when it was deleted; the cache then forgets it."""
    found = await dependencies.cluster.read(known.kind, known.namespace, known.name)
    # By uid, because the name may belong to a new resource by now.
    if found is not None and found.uid == known.uid:
        return found
    dependencies.cache.remove(known.key, known.uid)
    return None


async def _report(
    reconciler: Reconciler, resource: Resource, decision: Decision, dependencies: Dependencies, *, announce: bool = True
) -> Decision:
    """Publish the decision or, if it does not fit into the resource, a short status that says so. Returns what was published.

    Raises TooLargeError when even the short status does not fit.
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
    # The cache contains what this pass has written before; the resource of the pass does not. A patch computed against the older
    # status would bring back conditions that were just replaced, with wrong transition times.
    known = dependencies.cache.get(resource.key)
    before = known.status if known is not None and known.uid == resource.uid else resource.status
    now = dependencies.clock.now()
    status = reporting.new_status(before, decision, reconciler.conditions, generation=resource.generation, now=now)
    patch = merge_patches.between(before, status)
    if not patch:
        return  # A pass that changes nothing writes nothing. Otherwise the event about our own write would cause an endless loop.
    written = await dependencies.cluster.patch_status(resource, patch)
    if written is None:
        return
    # Not when the watch reports it: the next pass may begin before that, and would repeat this patch.
    dependencies.cache.put_written(written)
    for stage, seconds in reporting.stages_ended(before, status):
        metrics.STAGE_SECONDS.labels(resource.kind.kind, stage).observe(seconds)
    waited = reporting.waited_in_queue(before, status)
    if waited is not None:
        metrics.admitted(resource, status["queue"]["name"], status["queue"]["admittedAt"], waited)
    news = reporting.announcement(before, status, decision) if announce else None
    if news is None:
        return
    # After the write: an event about a transition that was never published would be wrong, while a lost event is only missing.
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
        return Pass("gone", None)  # It waits for the finalizers of others; ours was removed already, or never set.
    try:
        # Most of it is cleaned up by uid, but records are stored by name. If the watch missed that this resource was deleted and
        # another one of its name created, they belong to the new one and must stay.
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
    # Last: from here on Kubernetes may drop the resource, and with it all that we know about its objects outside.
    left = tuple(name for name in resource.finalizers if name != meta.FINALIZER)
    await dependencies.cluster.set_finalizers(resource, left)
    return Pass("deleted", None)


def _failure(error: Exception) -> Decision:
    """The decision to publish when an error ended a pass: the one table that maps errors to conditions."""
    message, pause = str(error), None
    # From special to general: three of these classes are subclasses of another one further down.
    match error:
        case UnfinishedError():
            verdict = Verdict("Ready", ConditionState.PROGRESSING, reasons.ENDING, message)
        case ChangedError():
            verdict = Verdict("Ready", ConditionState.PROGRESSING, reasons.COMPARING, message)
        case OutageError():
            verdict = Verdict("Ready", ConditionState.UNKNOWN, reasons.SYSTEM_UNAVAILABLE, message)
        case NoKeyError():
            message = f"{message}. It is checked again every few seconds"
            verdict, pause = obstacle("Ready", reasons.AUTHORITY_KEY_MISSING, message), REJECTED_RETRY
        case RejectedError():
            verdict, pause = obstacle("Ready", error.reason, message), REJECTED_RETRY
            todo = "Correct the cause; it" if verdict.state is ConditionState.REFUSED else "It"
            verdict = replace(verdict, message=f"{message}. {todo} is checked again every few seconds")
        case _:
            message = f"unexpected {type(error).__name__}: {error}. This is a fault of the operator; it tries again"
            verdict = Verdict("Ready", ConditionState.UNKNOWN, reasons.INTERNAL_ERROR, message)
    return Decision((verdict,), recheck_after=pause)


def explain(error: pydantic.ValidationError) -> str:
    """A message that names the first five invalid fields of a spec, each with its value and what is allowed."""
    parts = []
    for problem in error.errors(include_url=False)[:5]:
        field = ".".join(["spec", *(str(part) for part in problem["loc"])])
        text = problem["msg"][0].lower() + problem["msg"][1:]
        value = "" if problem["type"] == "missing" else f" (it is {bounds.short(repr(problem['input']))})"
        parts.append(f"{field}: {text}{value}")
    return "; ".join(parts) + ". Correct the field and apply the resource again"
