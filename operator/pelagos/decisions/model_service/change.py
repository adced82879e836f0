"""Changes the endpoint where it differs from the desired one."""

from __future__ import annotations

from dataclasses import replace

from pelagos.api import kinds, reasons
from pelagos.api.model_service import Endpoints, ModelServiceStatus
from pelagos.api.service_logins import ServiceLogin, may_log_in
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import ApplyService, PublishLogin
from pelagos.decisions.model_service import endpoint, model, probing
from pelagos.decisions.model_service.conditions import MODEL_LOADED, MODEL_POLL
from pelagos.decisions.model_service.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos.ports.cluster import Key
from pelagos.ports.serving import ObservedService, ServiceState


def addresses_published(seen: Observed) -> Passed:
    """Publishes the addresses, even while another model is still served: its successor has the same ones.

    A service of the engine that was configured before has other addresses. They stay published until its successor has answered
    correctly.
    """
    service = seen.service
    if service is not None and service.predecessor and (seen.probe is None or not seen.probe.correct):
        return Passed()
    if service is None or not (service.grpc_url or service.http_url):
        return Passed(status=ModelServiceStatus(url=None, endpoints=None))
    login = _login(seen, service)
    addresses = Endpoints(
        grpc=service.grpc_url or None,
        http=service.http_url or None,
        metrics=service.metrics_url or None,
        gateway_http=seen.gateway.http_of(seen.namespace, seen.name) if service.grpc_url or login else None,
        gateway_grpc=seen.gateway.grpc_of(seen.namespace) if service.grpc_url else None,
    )
    # Before the addresses, which are published only if the gateway was given the login.
    effects = (
        (PublishLogin(Key(kinds.MODEL_SERVICE.kind, seen.namespace, seen.name), seen.uid, login),) if login else ()
    )
    return Passed(effects=effects, status=ModelServiceStatus(url=endpoint.address(service), endpoints=addresses))


def _login(seen: Observed, service: ObservedService) -> ServiceLogin | None:
    """The login that the gateway needs to reach servers by HTTP alone; None without such servers, or without a gateway."""
    if service.grpc_url or not service.authorization or not seen.gateway.http or not may_log_in(service.http_url):
        return None
    return ServiceLogin(service.http_url, service.authorization)


def limits_exceeded(seen: Observed) -> Ended | None:
    """Ends the chain before a change that exceeds the namespace's limits. The endpoint, which was allowed, stays as it is."""
    excess = model.excess(seen)
    if excess is None or not _differs(seen):
        return None
    message = f"{excess.message}. The running server is left as it is"
    refused = Verdict(MODEL_LOADED, ConditionState.REFUSED, excess.reason, message)
    return Ended((refused,), recheck_after=MODEL_POLL)


def around_right_servers(seen: Observed) -> Ended | None:
    """Ends the chain if only scaling differs, or objects that somebody altered: no server has to be replaced for that."""
    service, want = seen.service, endpoint.wanted(seen, seen.served)
    if service is None or not _differs(seen):
        return None
    is_same = service.pods_digest == want.pod_template_digest and service.state is ServiceState.LOADED
    if not is_same or seen.probe is None or not seen.probe.correct:
        return None
    right = probing.proven(seen)
    return replace(right, effects=(*right.effects, ApplyService(want)), recheck_after=1)


def starting(seen: Observed) -> Ended | None:
    """Ends the chain if servers have to be started or replaced. Old ones usually serve until the new ones answer correctly."""
    if not _differs(seen):
        return None
    service, message = seen.service, f"starting the server for {seen.served.source}"
    if service is not None and service.state is ServiceState.LOADED and seen.served_generation is not None:
        message += _meanwhile(seen, service, seen.served_generation)
    elif service is not None and service.predecessor:
        message += (
            f"; until it answers correctly, {service.predecessor} of the previous serving engine continues to serve"
        )
    begun = Verdict(MODEL_LOADED, ConditionState.PROGRESSING, reasons.STARTING, message)
    return Ended((begun,), (ApplyService(endpoint.wanted(seen, seen.served)),), recheck_after=1)


def _meanwhile(seen: Observed, service: ObservedService, generation: int) -> str:
    """The part of the message that says what clients get until the new servers answer correctly."""
    if not seen.spec.old_first or service.is_alone:
        return f"; until it answers correctly, generation {generation} of spec is still served"
    ends = "; an old server ends first (spec.rollout.order: OldFirst)"
    return f"{ends}, and requests fail until the new one answers correctly" if service.replicas <= 1 else ends


def _differs(seen: Observed) -> bool:
    return seen.service is None or seen.service.digest != endpoint.wanted(seen, seen.served).digest
