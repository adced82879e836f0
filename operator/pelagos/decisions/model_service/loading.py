"""Whether the server has loaded the model, and what to do until then."""

from __future__ import annotations

from datetime import timedelta

from pelagos.api import reasons
from pelagos.api.model_service import ModelServiceStatus
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import ApplyService, RestartService, RetireService
from pelagos.decisions.model_service import endpoint
from pelagos.decisions.model_service.conditions import MODEL_LOADED, MODEL_POLL, WATCH
from pelagos.decisions.model_service.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict, obstacle
from pelagos.ports.serving import ServiceState

LOAD_TIMEOUT = timedelta(seconds=120)


def counts_published(seen: Observed) -> Passed:
    """Publishes restarts, replicas and the pod selector: for people, alerts and autoscalers."""
    service = seen.running
    counts = ModelServiceStatus(
        restarts=service.restarts, replicas=service.replicas, selector=service.pod_selector or None
    )
    return Passed(status=counts)


def refused(seen: Observed) -> Ended | None:
    """Ends the chain if the server runs and refuses the model: another attempt would not help."""
    if seen.running.state is not ServiceState.LOAD_FAILED:
        return None
    message = f"the server refuses the model: {seen.running.message}. Correct spec.model; it is then loaded again"
    refused = Verdict(MODEL_LOADED, ConditionState.REFUSED, reasons.MODEL_LOAD_FAILED, message)
    return Ended((refused,), recheck_after=MODEL_POLL)


def unfetched(seen: Observed) -> Ended | None:
    """Ends the chain if the package cannot be fetched. The cluster retries with growing pauses; a person must provide it."""
    if seen.running.state is not ServiceState.FETCH_FAILED:
        return None
    message = f"the model package does not reach the server: {seen.running.message}"
    failing = Verdict(MODEL_LOADED, ConditionState.FAILING, reasons.PACKAGE_NOT_FETCHED, message)
    return Ended((failing,), recheck_after=WATCH)


def unplaced(seen: Observed) -> Ended | None:
    """Ends the chain if the cluster has not placed the server. Restarting it would change nothing."""
    if seen.running.state is not ServiceState.WAITING:
        return None
    service = seen.running
    # The predecessor, which another engine made, counts as an old server and may occupy the room that this one waits for. It is
    # removed as a whole, so only for lack of room: a missing image, for example, would still be missing afterwards.
    is_in_the_way = bool(service.predecessor) and not service.predecessor_held
    gives_way = is_in_the_way and service.lacks_room and seen.spec.old_first
    message = service.message or "it has no node yet"
    if gives_way:
        message += (
            f"; {service.predecessor} is removed first to make room (spec.rollout.order: OldFirst), and requests fail in the "
            "meantime"
        )
    elif service.predecessor:
        message += f"; {service.predecessor} of the previous serving engine continues to serve"
        if service.lacks_room and not seen.spec.old_first:
            message += ". If there is no room for both, spec.rollout.order: OldFirst removes the old one first"
    waits = obstacle(MODEL_LOADED, reasons.WAITING_FOR_CLUSTER, message)
    return Ended((waits,), (RetireService(seen.uid),) if gives_way else (), recheck_after=WATCH)


def ended_in_order(seen: Observed) -> Ended | None:
    """Ends the chain if the server ended in order, as when its machine is shut down. It is started again, without a crash."""
    if seen.running.state is not ServiceState.ENDED:
        return None
    message = f"{seen.running.message or 'it was shut down'}; the server is started again"
    begun = Verdict(MODEL_LOADED, ConditionState.PROGRESSING, reasons.STARTING, message)
    return Ended((begun,), (ApplyService(endpoint.wanted(seen, seen.served)),), recheck_after=1)


def timed_out(seen: Observed) -> Ended | None:
    """Ends the chain if loading takes longer than LOAD_TIMEOUT. A hanging server reports no error, so it is restarted."""
    if seen.running.state is not ServiceState.STARTING or seen.now - seen.running.changed_at <= LOAD_TIMEOUT:
        return None
    message = "the model did not load in time; the server is started again"
    failing = Verdict(MODEL_LOADED, ConditionState.FAILING, reasons.LOAD_TIMEOUT, message)
    return Ended((failing,), (RestartService(seen.uid),), recheck_after=1)


def in_progress(seen: Observed) -> Ended | None:
    """Ends the chain while the model is being loaded, within LOAD_TIMEOUT."""
    if seen.running.state is not ServiceState.STARTING:
        return None
    message = seen.running.message or "the model is being loaded"
    loading = Verdict(MODEL_LOADED, ConditionState.PROGRESSING, reasons.LOADING, message)
    return Ended((loading,), recheck_after=1)


def crashed(seen: Observed) -> Ended | None:
    """Ends the chain if the server died. It is started again 1, 2, 4, ... and at most 30 seconds after that."""
    service = seen.running
    if service.state in (ServiceState.LOADED, ServiceState.IDLE):
        return None
    message = (
        f"the server died ({service.message or 'no message'}; {service.restarts} restarts before); it is started again"
    )
    failing = Verdict(MODEL_LOADED, ConditionState.FAILING, reasons.SERVER_CRASHED, message)
    pause = timedelta(seconds=min(30, 2**service.restarts))
    left = min(service.changed_at + pause - seen.now, pause)  # A clock that was set back must not stretch the pause.
    if left > timedelta():
        return Ended((failing,), recheck_after=max(left.total_seconds(), 0.2))
    return Ended((failing,), (ApplyService(endpoint.wanted(seen, seen.served)),), recheck_after=1)
