"""When each alert fires, with which message, and when it must not fire.

Times are minutes; series use promtool's notation, one sample a minute. Every case runs in its own promtool unit test, in which
time starts at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """Scraped series, and the alert at minute ``at``: ``says`` is None when none should fire."""

    title: str
    alert: str
    series: Mapping[str, str]
    at: int
    says: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


RUN = {"namespace": "plankton", "name": "detector"}
RUN_LABELS = 'namespace="plankton",name="detector"'
MODEL = {"namespace": "plankton", "model": "detector"}
MODEL_LABELS = 'namespace="plankton",model="detector"'
STALLED = "pelagos_resource_stalled_timestamp_seconds"
QUALITY = "pelagos_dataset_quality_failed_timestamp_seconds"
WAITING = "pelagos_resource_waiting_timestamp_seconds"
FAILURES = f'nv_inference_request_failure{{{MODEL_LABELS},reason="BACKEND"}}'
SUCCESSES = f"nv_inference_request_success{{{MODEL_LABELS}}}"
IMAGES = f"nv_inference_count{{{MODEL_LABELS}}}"
REFUSED_IMAGES = f"pelagos_refused_images_total{{{MODEL_LABELS}}}"
CUT_ANSWERS = f"pelagos_cut_answers_total{{{MODEL_LABELS}}}"
PROBES = 'pelagos_model_probes_total{outcome="correct"}'
FAST_PROBES = 'pelagos_model_probe_duration_seconds_bucket{le="0.5"}'
PROBE_SLO = {"slo": "probe"}
INFERENCE_SLO = {"slo": "inference"}


def _leader(instance: str, *, namespace: str = "pelagos-system", lease: str = "pelagos") -> str:
    return f'pelagos_leader{{job="pelagos",instance="{instance}",namespace="{namespace}",lease="{lease}"}}'


CASES = (
    Case(
        "nothing is scraped",
        "PelagosOperatorDown",
        {},
        6,
        "No metrics of an operator have been scraped for 5 minutes. Nothing is reconciled; models are still served.",
    ),
    Case("one operator is scraped", "PelagosOperatorDown", {'pelagos_build_info{version="1"}': "1x20"}, 20),
    Case("a short restart", "PelagosOperatorDown", {'pelagos_build_info{version="1"}': "1x10 stale _x3 1x20"}, 14),
    Case(
        "all operators wait",
        "PelagosNoLeader",
        {_leader("a"): "0x10"},
        3,
        "Operators run in pelagos-system, and none of them has held the lease pelagos for 2 minutes. Nothing is reconciled.",
        {"lease": "pelagos", "namespace": "pelagos-system"},
    ),
    Case("one leads and one waits", "PelagosNoLeader", {_leader("a"): "0x10", _leader("b"): "1x10"}, 10),
    Case("leadership moves within a minute", "PelagosNoLeader", {_leader("a"): "1x5 0 1x10"}, 8),
    Case(
        "two lead",
        "PelagosSeveralLeaders",
        {_leader("a"): "1x10", _leader("b"): "1x10"},
        3,
        "2 operators in pelagos-system say that they hold the lease pelagos. Only one may.",
        {"lease": "pelagos", "namespace": "pelagos-system"},
    ),
    Case(
        "two installations have a leader each",
        "PelagosSeveralLeaders",
        {_leader("a"): "1x10", _leader("b", namespace="other"): "1x10"},
        10,
    ),
    Case(
        "two operators share a cluster, each with a lease of its own",
        "PelagosSeveralLeaders",
        {_leader("a", lease="east"): "1x10", _leader("b", lease="west"): "1x10"},
        10,
    ),
    Case(
        "a watch is silent",
        "PelagosWatchStale",
        {
            'pelagos_watch_last_event_timestamp_seconds{job="pelagos",instance="a",kind="Dataset"}': "0x30",
            'pelagos_leader{job="pelagos",instance="a"}': "1x30",
        },
        15,
        "The API server has sent nothing on the watch of Dataset for 15m 0s; changes go unseen.",
        {"job": "pelagos", "instance": "a", "kind": "Dataset"},
    ),
    Case(
        "bookmarks come every minute",
        "PelagosWatchStale",
        {
            'pelagos_watch_last_event_timestamp_seconds{job="pelagos",instance="a",kind="Dataset"}': "0+60x30",
            'pelagos_leader{job="pelagos",instance="a"}': "1x30",
        },
        30,
    ),
    Case(
        "an operator that does not lead watches nothing",
        "PelagosWatchStale",
        {
            'pelagos_watch_last_event_timestamp_seconds{job="pelagos",instance="a",kind="Dataset"}': "0x30",
            'pelagos_leader{job="pelagos",instance="a"}': "0x30",
        },
        30,
    ),
    Case(
        "the gateway has no Envoy",
        "PelagosGatewayDown",
        {'pelagos_gateway_envoy_up{job="gateway",instance="a"}': "0x30"},
        10,
        "The gateway a has no Envoy that answers, or cannot follow the API server or write its configuration: models cannot be "
        "called, or only those of some minutes ago.",
        {"job": "gateway", "instance": "a"},
    ),
    Case(
        "the gateway is well",
        "PelagosGatewayDown",
        {
            'pelagos_gateway_envoy_up{job="gateway",instance="a"}': "1x30",
            'pelagos_gateway_stale{job="gateway",instance="a",kind="Trial"}': "0x30",
        },
        30,
    ),
    Case(
        "every tenth answer of the hub is a failure",
        "PelagosHubFailing",
        {
            'pelagos_hub_requests_total{job="hub",instance="a",route="/",code="200"}': "0+54x40",
            'pelagos_hub_requests_total{job="hub",instance="a",route="/trials",code="503"}': "0+6x40",
        },
        20,
        "The hub a answers with errors, or cannot follow the API server: people see old pages, or cannot try models.",
        {"job": "hub", "instance": "a"},
    ),
    Case(
        "the hub hears nothing of Trials",
        "PelagosHubFailing",
        {
            'pelagos_hub_cluster_silence_seconds{job="hub",instance="a",kind="Trial"}': "-1x30",
            'pelagos_hub_cluster_silence_seconds{job="hub",instance="a",kind="ModelService"}': "3x30",
        },
        15,
        "The hub a answers with errors, or cannot follow the API server: people see old pages, or cannot try models.",
        {"job": "hub", "instance": "a"},
    ),
    Case(
        "nobody asks the hub for anything, and it is well",
        "PelagosHubFailing",
        {
            'pelagos_hub_requests_total{job="hub",instance="a",route="/",code="503"}': "7x40",
            'pelagos_hub_cluster_silence_seconds{job="hub",instance="a",kind="Trial"}': "60x40",
        },
        30,
    ),
    Case(
        "a definition is missing",
        "PelagosKindNotServed",
        {
            'pelagos_kind_served{job="pelagos",instance="a",kind="Dataset"}': "0x30",
            'pelagos_kind_served{job="pelagos",instance="a",kind="TrainingRun"}': "1x30",
            'pelagos_leader{job="pelagos",instance="a"}': "1x30",
        },
        10,
        "The API server does not serve Dataset as this operator needs it: its definition is missing or of another version. "
        "Other kinds are reconciled.",
        {"job": "pelagos", "instance": "a", "kind": "Dataset"},
    ),
    Case(
        "a definition is replaced",
        "PelagosKindNotServed",
        {
            'pelagos_kind_served{job="pelagos",instance="a",kind="Dataset"}': "1x5 0 0 1x30",
            'pelagos_leader{job="pelagos",instance="a"}': "1x40",
        },
        30,
    ),
    Case(
        "three of four calls fail",
        "PelagosOutboundFailing",
        {
            'pelagos_outbound_call_errors_total{system="mlflow",operation="find_runs"}': "0+45x30",
            'pelagos_outbound_call_duration_seconds_count{system="mlflow",operation="find_runs"}': "0+60x30",
        },
        10,
        "75% of the operator's calls to mlflow failed in the last 5 minutes.",
        {"system": "mlflow"},
    ),
    Case(
        "one operation of three fails",
        "PelagosOutboundFailing",
        {
            'pelagos_outbound_call_errors_total{system="mlflow",operation="find_runs"}': "0+20x30",
            'pelagos_outbound_call_duration_seconds_count{system="mlflow",operation="find_runs"}': "0+20x30",
            'pelagos_outbound_call_duration_seconds_count{system="mlflow",operation="find_by_uid"}': "0+40x30",
        },
        30,
    ),
    Case(
        "passes raise",
        "PelagosReconcileErrors",
        {'pelagos_reconciles_total{kind="Dataset",result="error"}': "0+1x60"},
        30,
        "The operator has met unexpected errors with Dataset resources for 15 minutes. This is a fault of the operator.",
        {"kind": "Dataset"},
    ),
    Case(
        "a resource says InternalError",
        "PelagosReconcileErrors",
        {'pelagos_resource_reasons{kind="ModelService",reason="InternalError"}': "1x60"},
        16,
        "The operator has met unexpected errors with ModelService resources for 15 minutes. This is a fault of the operator.",
        {"kind": "ModelService"},
    ),
    Case(
        "passes meet outages",
        "PelagosReconcileErrors",
        {'pelagos_reconciles_total{kind="Dataset",result="unknown"}': "0+1x60"},
        60,
    ),
    Case(
        "more wait than are worked off",
        "PelagosQueueBacklog",
        {"pelagos_queue_depth": "300x30"},
        16,
        "300 resources have been waiting for a pass for 15 minutes; the operator cannot keep up.",
    ),
    Case("a burst is worked off", "PelagosQueueBacklog", {"pelagos_queue_depth": "900x10 0x30"}, 16),
    Case(
        "too many to name",
        "PelagosResourcesUnnamed",
        {"pelagos_resources_unnamed": "12x30"},
        16,
        "12 resources are left out of metrics that name resources, so alerts about single ones may be missing.",
    ),
    Case("all are named", "PelagosResourcesUnnamed", {"pelagos_resources_unnamed": "0x30"}, 30),
    Case(
        "images are corrupt",
        "PelagosResourceStalled",
        {f'{STALLED}{{kind="Dataset",{RUN_LABELS},reason="CorruptImages"}}': "0x30"},
        20,
        "It has been Stalled with reason CorruptImages for 20m 0s. Its condition Ready says what to do.",
        {**RUN, "kind": "Dataset", "reason": "CorruptImages"},
    ),
    Case(
        "a gate has an alert of its own",
        "PelagosResourceStalled",
        {f'{STALLED}{{kind="TrainingRun",{RUN_LABELS},reason="GateFailed"}}': "0x60"},
        60,
    ),
    Case(
        "somebody corrects it soon",
        "PelagosResourceStalled",
        {f'{STALLED}{{kind="Dataset",{RUN_LABELS},reason="CorruptImages"}}': "0x10 stale"},
        17,
    ),
    Case(
        "a source is empty for long",
        "PelagosResourceWaitsLong",
        {f'{WAITING}{{kind="Dataset",{RUN_LABELS},reason="SourceEmpty"}}': "0x60"},
        40,
        "It has been waiting with reason SourceEmpty for 40m 0s. The name may be wrong, or what should create it has failed.",
        {**RUN, "kind": "Dataset", "reason": "SourceEmpty"},
    ),
    Case(
        "images come while others are still uploaded",
        "PelagosResourceWaitsLong",
        {f'{WAITING}{{kind="Dataset",{RUN_LABELS},reason="SourceEmpty"}}': "0x25 stale"},
        40,
    ),
    Case(
        "a version is blocked",
        "PelagosQualityFailed",
        {
            f'{QUALITY}{{{RUN_LABELS},outcome="blocked"}}': "0x90",
            f'{STALLED}{{kind="Dataset",{RUN_LABELS},reason="QualityFailed"}}': "0x90",
        },
        60,
        "It has been blocked for 1h 0m 0s: nothing is trained on it. "
        "The condition QualityPassed says which gate failed, and what to do.",
        {**RUN, "outcome": "blocked", "severity": "warning"},
    ),
    Case(
        "a version that is blocked is told once",
        "PelagosResourceStalled",
        {f'{STALLED}{{kind="Dataset",{RUN_LABELS},reason="QualityFailed"}}': "0x60"},
        60,
    ),
    Case(
        "a version is warned of",
        "PelagosQualityFailed",
        {f'{QUALITY}{{{RUN_LABELS},outcome="warned"}}': "0x60"},
        20,
        (
            "The warning is from 20m 0s ago, and trainings use the version all the same. The condition QualityPassed says which "
            "gate failed."
        ),
        {**RUN, "outcome": "warned", "severity": "info"},
    ),
    Case(
        "somebody lives with the warning",
        "PelagosQualityFailed",
        {f'{QUALITY}{{{RUN_LABELS},outcome="warned"}}': "0x1500"},
        1450,
    ),
    Case(
        "nobody ends trials",
        "PelagosTrialsOverdue",
        {'pelagos_trials_overdue{job="pelagos-operator"}': "0 2x10"},
        5,
        (
            "2 trials are open although their time is over. The gateway no longer accepts their tokens, but their places are "
            "still taken."
        ),
        {"job": "pelagos-operator"},
    ),
    Case(
        "a trial is ended a little late",
        "PelagosTrialsOverdue",
        {'pelagos_trials_overdue{job="pelagos-operator"}': "0 1 0x10"},
        4,
    ),
    Case(
        "a removal does not end",
        "PelagosRemovalStuck",
        {f"pelagos_dataset_removing_timestamp_seconds{{{RUN_LABELS}}}": "0x200"},
        90,
        "Their removal began 1h 30m 0s ago and has not ended; status.removals.message says how far it is. Their space is not "
        "freed yet.",
        RUN,
    ),
    Case(
        "a large store is cleared in half an hour",
        "PelagosRemovalStuck",
        {f"pelagos_dataset_removing_timestamp_seconds{{{RUN_LABELS}}}": "0x30 stale"},
        90,
    ),
    Case(
        "a queue admits nobody for a night and half a day",
        "PelagosRunQueuedLong",
        {f'pelagos_resource_queued_timestamp_seconds{{kind="TrainingRun",{RUN_LABELS},queue="runs"}}': "0x1000"},
        900,
        "Kueue has not admitted its step for 15h 0m 0s. status.queue says why, and its place in the queue.",
        {**RUN, "kind": "TrainingRun", "queue": "runs"},
    ),
    Case(
        "a night in a queue",
        "PelagosRunQueuedLong",
        {f'pelagos_resource_queued_timestamp_seconds{{kind="TrainingRun",{RUN_LABELS},queue="runs"}}': "0x700 stale"},
        760,
    ),
    Case(
        "no epoch ends",
        "PelagosTrainingWithoutProgress",
        {f"pelagos_training_last_progress_timestamp_seconds{{{RUN_LABELS}}}": "0x100"},
        75,
        "It runs, and has not ended an epoch for 1h 15m 0s.",
        RUN,
    ),
    Case(
        "epochs take 50 minutes",
        "PelagosTrainingWithoutProgress",
        {f"pelagos_training_last_progress_timestamp_seconds{{{RUN_LABELS}}}": "0x49 3000x49 6000x49"},
        148,
    ),
    Case(
        "a token has expired",
        "PelagosPublicationStuck",
        {f'pelagos_publication_stuck_timestamp_seconds{{{RUN_LABELS},reason="RepositoryAccessDenied"}}': "0x100"},
        75,
        "Its publication has been stuck with reason RepositoryAccessDenied for 1h 15m 0s. Its condition Published says what to "
        "do. Trainings continue.",
        RUN | {"reason": "RepositoryAccessDenied"},
    ),
    Case(
        "a repository was away for half an hour",
        "PelagosPublicationStuck",
        {f'pelagos_publication_stuck_timestamp_seconds{{{RUN_LABELS},reason="RepositoryAway"}}': "0x30 stale"},
        80,
    ),
    Case(
        "two gates fail",
        "PelagosGateFailed",
        {
            f"pelagos_training_failed_gates{{{RUN_LABELS}}}": "2x30",
            f'{STALLED}{{kind="TrainingRun",{RUN_LABELS},reason="GateFailed"}}': "0x30",
        },
        5,
        "2 gates failed; the model is neither registered nor served.",
        RUN,
    ),
    Case(
        "they failed more than a day ago",
        "PelagosGateFailed",
        {
            f"pelagos_training_failed_gates{{{RUN_LABELS}}}": "2x1500",
            f'{STALLED}{{kind="TrainingRun",{RUN_LABELS},reason="GateFailed"}}': "0x1500",
        },
        1450,
    ),
    Case(
        "a probe is answered wrong",
        "PelagosModelProbeFailing",
        {f"pelagos_service_probe_correct{{{RUN_LABELS}}}": "1x10 0x10"},
        14,
        "Its synthetic inference, whose correct answer is known, has failed for 2 minutes.",
        RUN,
    ),
    Case(
        "one wrong answer",
        "PelagosModelProbeFailing",
        {f"pelagos_service_probe_correct{{{RUN_LABELS}}}": "1x10 0 1x10"},
        13,
    ),
    Case(
        "a service is lost",
        "PelagosModelServiceDown",
        {f"pelagos_service_ready{{{RUN_LABELS}}}": "1x10 0x20"},
        17,
        "It was Ready within the last day and has not been for 5 minutes.",
        RUN,
    ),
    Case(
        "a service has never been Ready",
        "PelagosModelServiceDown",
        {f"pelagos_service_ready{{{RUN_LABELS}}}": "0x60"},
        60,
    ),
    Case(
        "a service waits for a person",
        "PelagosModelServiceDown",
        {
            f"pelagos_service_ready{{{RUN_LABELS}}}": "1x10 0x50",
            f'{STALLED}{{kind="ModelService",{RUN_LABELS},reason="ModelLoadFailed"}}': "_x10 660x50",
        },
        60,
    ),
    Case(
        "requests take two seconds",
        "PelagosInferenceSlow",
        {f"nv_inference_request_duration_us{{{MODEL_LABELS}}}": "0+120000000x30", SUCCESSES: "0+60x30"},
        15,
        "An inference takes 2s on average, queueing included.",
        MODEL,
    ),
    Case(
        "requests take half a second",
        "PelagosInferenceSlow",
        {f"nv_inference_request_duration_us{{{MODEL_LABELS}}}": "0+30000000x30", SUCCESSES: "0+60x30"},
        30,
    ),
    Case(
        "one probe in three is bad",
        "PelagosLatencyBudgetBurn",
        {PROBES: "0+3x120", FAST_PROBES: "0+2x120"},
        10,
        "33.33% of the synthetic inferences were wrong or slower than 0.5 s; 1 % is the objective.",
        {"severity": "critical", **PROBE_SLO},
    ),
    Case(
        "one probe in ten is bad",
        "PelagosLatencyBudgetBurn",
        {PROBES: "0+10x120", FAST_PROBES: "0+9x120"},
        60,
        "10% of the synthetic inferences were wrong or slower than 0.5 s; 1 % is the objective.",
        {"severity": "warning", **PROBE_SLO},
    ),
    Case(
        "one probe in a hundred is bad",
        "PelagosLatencyBudgetBurn",
        {PROBES: "0+100x120", FAST_PROBES: "0+99x120"},
        120,
    ),
    Case(
        "it was bad, and is over",
        "PelagosLatencyBudgetBurn",
        {PROBES: "0+3x120", FAST_PROBES: "0+2x20 43+3x100"},
        60,
    ),
    Case(
        "one image in five is refused",
        "PelagosImagesRefused",
        {IMAGES: "0+100x120", REFUSED_IMAGES: "0+20x120"},
        90,
        "20% of the images of the last hour got an error instead of a result.",
        MODEL,
    ),
    Case(
        "a token of an annotation server has expired",
        "PelagosSourceNotFetched",
        {'pelagos_datasets_unfetched{source="cvat",reason="SourceAccessDenied"}': "0x5 2x120"},
        90,
        "2 Datasets have had no usable answer for an hour, with reason SourceAccessDenied. Those that had a version keep it, "
        "and it becomes outdated.",
        {"source": "cvat", "reason": "SourceAccessDenied"},
    ),
    Case(
        "a server is updated",
        "PelagosSourceNotFetched",
        {'pelagos_datasets_unfetched{source="cvat",reason="PipelineFailed"}': "0x5 1x30 0x90"},
        90,
    ),
    Case(
        "a client sends a bad batch",
        "PelagosImagesRefused",
        {IMAGES: "0+100x120", REFUSED_IMAGES: "0+0x60 0+100x5 500+0x55"},
        90,
    ),
    Case(
        "nobody asks, so that there is no share",
        "PelagosImagesRefused",
        {IMAGES: "500+0x120", REFUSED_IMAGES: "400+0x120"},
        90,
    ),
    Case(
        "crowds of plankton",
        "PelagosAnswersCut",
        {IMAGES: "0+100x120", CUT_ANSWERS: "0+5x120"},
        90,
        (
            "In 5% of the images of the last hour, more objects were found than spec.maxDetections allows, and the rest was left "
            "out."
        ),
        MODEL,
    ),
    Case(
        "one crowded image in a thousand",
        "PelagosAnswersCut",
        {IMAGES: "0+1000x120", CUT_ANSWERS: "0+1x120"},
        90,
    ),
    Case(
        "one request in ten fails",
        "PelagosErrorBudgetBurn",
        {FAILURES: "0+10x120", SUCCESSES: "0+90x120"},
        10,
        "10% of the requests failed; 0.5 % is the objective.",
        {"severity": "critical", **MODEL, **INFERENCE_SLO},
    ),
    Case(
        "one request in twenty fails",
        "PelagosErrorBudgetBurn",
        {FAILURES: "0+5x120", SUCCESSES: "0+95x120"},
        60,
        "5% of the requests failed; 0.5 % is the objective.",
        {"severity": "warning", **MODEL, **INFERENCE_SLO},
    ),
    Case(
        "clients give up",
        "PelagosErrorBudgetBurn",
        {f'nv_inference_request_failure{{{MODEL_LABELS},reason="CANCELED"}}': "0+50x120", SUCCESSES: "0+50x120"},
        60,
    ),
    Case(
        "nothing has ever failed",
        "PelagosErrorBudgetBurn",
        {SUCCESSES: "0+50x120"},
        60,
    ),
    Case(
        "six requests in a thousand fail",
        "PelagosErrorBudgetSpent",
        {FAILURES: "0+6x120", SUCCESSES: "0+994x120"},
        60,
        "-20% of the 30 days' error budget is left.",
        {**MODEL, **INFERENCE_SLO},
    ),
    Case(
        "one request in a thousand fails",
        "PelagosErrorBudgetSpent",
        {FAILURES: "0+1x120", SUCCESSES: "0+999x120"},
        60,
    ),
)
