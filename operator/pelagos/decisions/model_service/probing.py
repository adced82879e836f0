"""Whether the server that has loaded the model answers correctly."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.api.model_service import ModelServiceStatus, ServedModel
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import RestartService, RetireService
from pelagos.decisions.model_service import endpoint
from pelagos.decisions.model_service.conditions import MODEL_LOADED, PROBED, WATCH
from pelagos.decisions.model_service.observed import Observed, Unresolved, reference
from pelagos.decisions.verdicts import READY, ConditionState, Verdict, obstacle
from pelagos.ports.serving import ServiceState

PROBE_FAILURES = 3
"""Wrong answers in a row after which the server is restarted."""


def model_published(seen: Observed) -> Passed:
    """Publishes the model, since requests go to it from now on. Until then, status describes the one before."""
    want = endpoint.wanted(seen, seen.served)
    proven = want.pod_template_digest if seen.last_proven == want.pod_template_digest else None
    return Passed(status=_published(seen, proven))


def idle_and_unproven(seen: Observed) -> Ended | None:
    """Ends the chain if the servers were scaled to zero before one has answered correctly."""
    if seen.running.state is not ServiceState.IDLE or _is_proven(seen):
        return None
    message = (
        "no replica runs, and no answer of this version has been verified; the next request starts a replica, whose answer "
        "is then verified"
    )
    return Ended((obstacle(PROBED, reasons.NOT_VERIFIED, message),), recheck_after=WATCH)


def idle(seen: Observed) -> Ended | None:
    """Ends the chain if the servers are scaled to zero, as spec permits. Ready, because they have answered correctly before."""
    if seen.running.state is not ServiceState.IDLE:
        return None
    message = "no replica runs; the next request starts one"
    noted = Verdict(MODEL_LOADED, ConditionState.NOTED, reasons.SCALED_TO_ZERO, message)
    ready = Verdict(READY, ConditionState.DONE, reasons.SCALED_TO_ZERO, "idle; the next request starts a replica")
    return Ended((noted,), recheck_after=WATCH, ready=ready)


def loaded(seen: Observed) -> Passed:
    """ModelLoaded, as the server itself reports. The probe has yet to prove it."""
    del seen
    return Passed((_LOADED,))


def pending(seen: Observed) -> Ended | None:
    """Ends the chain until the first probe has a result."""
    if seen.probe is not None:
        return None
    message = "the first synthetic inference is in progress"
    return Ended((Verdict(PROBED, ConditionState.PROGRESSING, reasons.PROBING, message),), recheck_after=1)


def wrong(seen: Observed) -> Ended | None:
    """Ends the chain if the probe failed. Waiting does not repair a server that answers wrong, so it is restarted in the end."""
    if seen.probe is None or seen.probe.correct:
        return None
    message = f"the synthetic inference failed: {seen.probe.message}"
    failing = Verdict(PROBED, ConditionState.FAILING, reasons.PROBE_FAILED, message)
    effects = (RestartService(seen.uid),) if seen.wrong_probes >= PROBE_FAILURES else ()
    return Ended((failing,), effects, recheck_after=2)


def right(seen: Observed) -> Ended:
    """Ends the chain: the servers have answered correctly. Status remembers that for when they are scaled to zero.

    A predecessor of another engine is retired now.
    """
    message = "a real inference gave the same answer as the training framework"
    probed = Verdict(PROBED, ConditionState.DONE, reasons.PROBE_SUCCEEDED, message)
    status = _published(seen, endpoint.wanted(seen, seen.served).pod_template_digest)
    message, old = f"serving {seen.served.source}{_shortage(seen)}", seen.running.predecessor
    if not old:
        return Ended((probed,), (), status, WATCH, Verdict(READY, ConditionState.DONE, reasons.SERVING, message))
    if seen.running.predecessor_held:
        # A controller that no longer runs removes no finalizer. Retiring it again would have no effect, so the message says what
        # holds it instead.
        message += f"; of the previous serving engine, {seen.running.predecessor_held}"
        return Ended((probed,), (), status, WATCH, Verdict(READY, ConditionState.DONE, reasons.SERVING, message))
    # The successor's address is published first, and the predecessor retired in the next pass, so that clients can move.
    is_told = seen.published_url == endpoint.address(seen.running)
    effects = (RetireService(seen.uid),) if is_told else ()
    message += f"; {old} of the previous serving engine is removed"
    return Ended((probed,), effects, status, 1, Verdict(READY, ConditionState.DONE, reasons.SERVING, message))


def proven(seen: Observed) -> Ended:
    """The same for servers that the checks of loading were skipped for, with ModelLoaded added."""
    found = right(seen)
    return Ended((_LOADED, *found.verdicts), found.effects, found.status, found.recheck_after, found.ready)


_LOADED = Verdict(MODEL_LOADED, ConditionState.DONE, reasons.LOADED, "the server has loaded the model")


def _shortage(seen: Observed) -> str:
    """The part of the message about missing replicas, and why; empty when all are ready. Those that are ready serve anyway."""
    service, asked = seen.running, seen.spec.scaling.min
    if service.replicas >= asked:
        return ""
    if service.is_alone:
        return f"; spec.scaling.min is {asked}, and on one machine there is always one server"
    why = f": {service.message}" if service.message else ""
    return f"; {service.replicas} of {asked} replicas are ready{why}"


def _is_proven(seen: Observed) -> bool:
    return seen.last_proven == endpoint.wanted(seen, seen.served).pod_template_digest


def _published(seen: Observed, proven: str | None) -> ModelServiceStatus:
    model = seen.served
    served = ServedModel(
        name=seen.name,
        uri=model.uri,
        onnx_sha256=model.onnx_sha256,
        manifest_sha256=model.manifest_sha256,
        source=model.source,
        reference=seen.last_reference if isinstance(seen.model, Unresolved) else reference(seen.spec),
        proven=proven,
    )
    if not seen.is_resolved:
        return ModelServiceStatus(model=served)
    return ModelServiceStatus(model=served, served_generation=seen.generation)
