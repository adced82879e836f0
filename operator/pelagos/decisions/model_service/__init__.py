"""What must hold next for a ModelService."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pelagos.api import reasons
from pelagos.decisions import limits, rules
from pelagos.decisions.effects import ApplyService, Effect, RemoveService, RestartService
from pelagos.decisions.model_service.endpoint import wanted
from pelagos.decisions.model_service.observed import Observed, ResolvedModel, Unresolved, reference
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, obstacle
from pelagos.ports.serving import DesiredService, ObservedService, ServiceState

MODEL_RESOLVED = "ModelResolved"
MODEL_LOADED = "ModelLoaded"
PROBED = "Probed"
CONDITIONS = (MODEL_RESOLVED, MODEL_LOADED, PROBED)

WATCH = 5.0
"""Seconds between two looks at a running endpoint."""
MODEL_POLL = 10.0
LOAD_TIMEOUT = timedelta(seconds=120)
PROBE_FAILURES = 3
"""Wrong answers in a row after which the server is started anew."""


def decide(seen: Observed) -> Decision:
    """Name what must hold next; touch nothing."""
    broken = rules.violation(seen.spec)
    if broken:
        return Decision((Verdict(MODEL_RESOLVED, ConditionState.REFUSED, reasons.INVALID_SPEC, broken),))
    excess = _excess(seen)
    if excess and seen.service is None:
        refused = Verdict(MODEL_RESOLVED, ConditionState.REFUSED, excess.reason, excess.message)
        return Decision((refused,), recheck_after=MODEL_POLL)
    if seen.spec.suspend:
        effects: tuple[Effect, ...] = (RemoveService(seen.uid),) if seen.service else ()
        return _suspended(effects)
    if isinstance(seen.model, ResolvedModel):
        return _serve(
            seen, seen.model, Verdict(MODEL_RESOLVED, ConditionState.DONE, reasons.RESOLVED, seen.model.source)
        )
    verdict = obstacle(MODEL_RESOLVED, seen.model.reason, seen.model.message)
    if seen.last_model is None or seen.service is None:
        return Decision((verdict,), recheck_after=MODEL_POLL)
    # What is served stays served while its reference is away: users of the endpoint come first.
    kept = replace(verdict, message=f"{verdict.message}; the last model stays served")
    if seen.last_reference == reference(seen.spec):
        kept = replace(kept, state=ConditionState.NOTED)
    return _serve(seen, seen.last_model, kept)


def _excess(seen: Observed) -> limits.Excess | None:
    return limits.exceeded(seen.spec.resources.gpus, None, seen.tenant, replicas=seen.spec.scaling.max)


def _suspended(effects: tuple[Effect, ...]) -> Decision:
    paused = Verdict(
        MODEL_LOADED, ConditionState.PAUSED, reasons.SUSPENDED, "spec.suspend is true; set it to false to go on"
    )
    return Decision((paused,), effects, {"url": None, "endpoints": None, "servedGeneration": None})


def _serve(seen: Observed, model: ResolvedModel, resolved: Verdict) -> Decision:
    want = wanted(seen, model)
    named = seen.last_reference if isinstance(seen.model, Unresolved) else reference(seen.spec)
    digests: dict[str, str | None] = {"onnxSha256": model.onnx_sha256, "manifestSha256": model.manifest_sha256}
    proven = want.pod_template_digest if seen.last_proven == want.pod_template_digest else None
    served = {"name": want.model_name, "uri": model.uri, **digests, "source": model.source}
    served |= {"reference": named, "proven": proven}
    status: dict[str, Any] = {"url": None, "endpoints": None}
    service = seen.service
    if service is not None and service.grpc_url:
        # Also while something else is served: clients go on, and what replaces it has the same addresses.
        status["url"] = f"grpc://{service.grpc_url}"
        status["endpoints"] = {"grpc": service.grpc_url, "http": service.http_url, "metrics": service.metrics_url}
    if service is None or service.digest != want.digest:
        excess = _excess(seen)
        if excess:  # What serves was allowed when it was applied, and stays.
            message = f"{excess.message}. What serves stays as it is"
            refused = Verdict(MODEL_LOADED, ConditionState.REFUSED, excess.reason, message)
            return Decision((resolved, refused), recheck_after=MODEL_POLL)
        return _apply(seen, want, resolved, status, served)
    status |= {"restarts": service.restarts, "replicas": service.replicas}
    if service.state is ServiceState.IDLE:
        return _idle(resolved, status | _answering(seen, served))
    if service.state is ServiceState.LOADED:
        return _prove(seen, want, resolved, status | _answering(seen, served))
    verdict, effects, again = _not_loaded(seen, service, want)
    return Decision((resolved, verdict), effects, status, again)


def _answering(seen: Observed, served: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of the model once requests go to it; until then status goes on telling of the one before."""
    return {"model": dict(served)} | ({"servedGeneration": seen.generation} if seen.is_resolved else {})


def _apply(
    seen: Observed, want: DesiredService, resolved: Verdict, status: dict[str, Any], served: Mapping[str, Any]
) -> Decision:
    """Bring about what differs. Servers that are as wanted, and answer right, stay Ready while what is around them changes."""
    service, effects = seen.service, (ApplyService(want),)
    is_same = (
        service is not None and service.pods_digest == want.pod_template_digest and service.state is ServiceState.LOADED
    )
    if is_same and seen.probe is not None and seen.probe.correct:
        proven = _prove(seen, want, resolved, status | _answering(seen, served))
        return replace(proven, effects=effects, recheck_after=1)
    message = f"starting the server for {served['source']}"
    if service is not None and service.state is ServiceState.LOADED and seen.served_generation is not None:
        message += f"; until it is right, generation {seen.served_generation} of spec goes on being served"
    loading = Verdict(MODEL_LOADED, ConditionState.PROGRESSING, reasons.STARTING, message)
    return Decision((resolved, loading), effects, status, 1)


def _not_loaded(
    seen: Observed, service: ObservedService, want: DesiredService
) -> tuple[Verdict, tuple[Effect, ...], float]:
    if service.state is ServiceState.LOAD_FAILED:
        message = f"the server refuses the model: {service.message}. Correct spec.model, then it is loaded anew"
        return Verdict(MODEL_LOADED, ConditionState.REFUSED, reasons.MODEL_LOAD_FAILED, message), (), MODEL_POLL
    if service.state is ServiceState.WAITING:
        # Only the cluster, or a person, can make room; starting it anew would change nothing.
        return (
            obstacle(MODEL_LOADED, reasons.WAITING_FOR_CLUSTER, service.message or "no node has taken it yet"),
            (),
            WATCH,
        )
    if service.state is ServiceState.ENDED:
        message = f"{service.message or 'it was ended in order'}; the server is started again"
        return Verdict(MODEL_LOADED, ConditionState.PROGRESSING, reasons.STARTING, message), (ApplyService(want),), 1
    if service.state is ServiceState.STARTING:
        if seen.now - service.changed_at > LOAD_TIMEOUT:
            verdict = Verdict(
                MODEL_LOADED,
                ConditionState.FAILING,
                reasons.LOAD_TIMEOUT,
                "the model did not load in time; the server is started anew",
            )
            return verdict, (RestartService(seen.uid),), 1
        return (
            Verdict(
                MODEL_LOADED,
                ConditionState.PROGRESSING,
                reasons.LOADING,
                service.message or "the model is being loaded",
            ),
            (),
            1,
        )
    pause = timedelta(seconds=min(30, 2**service.restarts))
    left = min(service.changed_at + pause - seen.now, pause)  # A clock that was set back must not stretch the pause.
    message = (
        f"the server died ({service.message or 'no message'}; {service.restarts} restarts before); it is started again"
    )
    verdict = Verdict(MODEL_LOADED, ConditionState.FAILING, reasons.SERVER_CRASHED, message)
    if left > timedelta():
        return verdict, (), max(left.total_seconds(), 0.2)
    return verdict, (ApplyService(want),), 1


def _idle(resolved: Verdict, status: dict[str, Any]) -> Decision:
    """Scaled to zero by the cluster, which was asked for, and the next request starts it: Ready when that was proven before."""
    if not status["model"]["proven"]:
        message = (
            "no replica runs, and no answer of this version is known to be right; the next request starts and proves it"
        )
        unproven = obstacle(PROBED, reasons.NOT_VERIFIED, message)
        return Decision((resolved, unproven), (), status, WATCH)
    loaded = Verdict(
        MODEL_LOADED, ConditionState.NOTED, reasons.SCALED_TO_ZERO, "no replica runs; the next request starts one"
    )
    ready = Verdict("Ready", ConditionState.DONE, reasons.SCALED_TO_ZERO, "idle; the next request starts a replica")
    return Decision((resolved, loaded), (), status, WATCH, ready)


def _prove(seen: Observed, want: DesiredService, resolved: Verdict, status: dict[str, Any]) -> Decision:
    loaded = Verdict(MODEL_LOADED, ConditionState.DONE, reasons.LOADED, "the server has loaded the model")
    probe = seen.probe
    if probe is None:
        probing = Verdict(
            PROBED, ConditionState.PROGRESSING, reasons.PROBING, "the first synthetic inference is in progress"
        )
        return Decision((resolved, loaded, probing), (), status, 1)
    if not probe.correct:
        effects = (RestartService(seen.uid),) if seen.wrong_probes >= PROBE_FAILURES else ()
        failing = Verdict(
            PROBED, ConditionState.FAILING, reasons.PROBE_FAILED, f"the synthetic inference failed: {probe.message}"
        )
        return Decision((resolved, loaded, failing), effects, status, 2)
    status["model"]["proven"] = want.pod_template_digest
    probed = Verdict(
        PROBED,
        ConditionState.DONE,
        reasons.PROBE_SUCCEEDED,
        "a real inference gave the answer of the training framework",
    )
    ready = Verdict("Ready", ConditionState.DONE, reasons.SERVING, f"serving {status['model']['source']}")
    return Decision((resolved, loaded, probed), (), status, WATCH, ready)
