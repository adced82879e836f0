"""Whether the server that has loaded the model answers right."""

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
"""Wrong answers in a row after which the server is started anew."""


def model_published(seen: Observed) -> Passed:
    """Requests go to it; until then status goes on telling of the one before."""
    want = endpoint.wanted(seen, seen.served)
    proven = want.pod_template_digest if seen.last_proven == want.pod_template_digest else None
    return Passed(status=_published(seen, proven))


def idle_and_unproven(seen: Observed) -> Ended | None:
    """Scaled to zero before an answer was seen to be right."""
    if seen.running.state is not ServiceState.IDLE or _is_proven(seen):
        return None
    message = (
        "no replica runs, and no answer of this version is known to be right; the next request starts and proves it"
    )
    return Ended((obstacle(PROBED, reasons.NOT_VERIFIED, message),), recheck_after=WATCH)


def idle(seen: Observed) -> Ended | None:
    """Scaled to zero by the cluster, which was asked for, and the next request starts it: Ready when proven before."""
    if seen.running.state is not ServiceState.IDLE:
        return None
    message = "no replica runs; the next request starts one"
    noted = Verdict(MODEL_LOADED, ConditionState.NOTED, reasons.SCALED_TO_ZERO, message)
    ready = Verdict(READY, ConditionState.DONE, reasons.SCALED_TO_ZERO, "idle; the next request starts a replica")
    return Ended((noted,), recheck_after=WATCH, ready=ready)


def loaded(seen: Observed) -> Passed:
    """By its own word; that is not yet a proof."""
    del seen
    return Passed((_LOADED,))


def pending(seen: Observed) -> Ended | None:
    """It is made in the background, and takes as long as an inference does."""
    if seen.probe is not None:
        return None
    message = "the first synthetic inference is in progress"
    return Ended((Verdict(PROBED, ConditionState.PROGRESSING, reasons.PROBING, message),), recheck_after=1)


def wrong(seen: Observed) -> Ended | None:
    """A server that runs and answers wrong is not healed by waiting."""
    if seen.probe is None or seen.probe.correct:
        return None
    message = f"the synthetic inference failed: {seen.probe.message}"
    failing = Verdict(PROBED, ConditionState.FAILING, reasons.PROBE_FAILED, message)
    effects = (RestartService(seen.uid),) if seen.wrong_probes >= PROBE_FAILURES else ()
    return Ended((failing,), effects, recheck_after=2)


def right(seen: Observed) -> Ended:
    """What serves is proven, and is remembered as such for when it is scaled to zero."""
    message = "a real inference gave the answer of the training framework"
    probed = Verdict(PROBED, ConditionState.DONE, reasons.PROBE_SUCCEEDED, message)
    status = _published(seen, endpoint.wanted(seen, seen.served).pod_template_digest)
    message, old = f"serving {seen.served.source}{_shortage(seen)}", seen.running.predecessor
    if not old:
        return Ended((probed,), (), status, WATCH, Verdict(READY, ConditionState.DONE, reasons.SERVING, message))
    if seen.running.predecessor_held:
        # A controller that is gone takes no finalizer off: nothing is done again and again, and nothing is said to be done.
        message += f"; of the serving engine that was set before, {seen.running.predecessor_held}"
        return Ended((probed,), (), status, WATCH, Verdict(READY, ConditionState.DONE, reasons.SERVING, message))
    # Clients are told where its successor is one pass before it goes.
    is_told = seen.published_url == endpoint.address(seen.running)
    effects = (RetireService(seen.uid),) if is_told else ()
    message += f"; {old} of the serving engine that was set before is removed"
    return Ended((probed,), effects, status, 1, Verdict(READY, ConditionState.DONE, reasons.SERVING, message))


def proven(seen: Observed) -> Ended:
    """The same of servers whose loading is not looked into."""
    found = right(seen)
    return Ended((_LOADED, *found.verdicts), found.effects, found.status, found.recheck_after, found.ready)


_LOADED = Verdict(MODEL_LOADED, ConditionState.DONE, reasons.LOADED, "the server has loaded the model")


def _shortage(seen: Observed) -> str:
    """That fewer replicas are ready than are asked for, and why. They serve all the same."""
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
