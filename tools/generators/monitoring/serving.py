"""The dashboard of services: whether answers are right, latency, and the remaining error budget. Used by dashboards.py."""

from __future__ import annotations

from generators.monitoring.panels import HERE, SOON, Dashboard, Panel, Query, Row
from pelagos.api import reasons

_NOT_REFUSED = (reasons.OPEN, reasons.EXPIRED, reasons.STARTING, reasons.PENDING, reasons.SERVICE_NOT_READY)


def _share(counter: str) -> str:
    """An expression for the share of requested images that ``counter`` counts."""
    counted, asked = (
        f"sum by (namespace, model) (rate({name}{{{HERE}}}{SOON}))" for name in (counter, "nv_inference_count")
    )
    return f"{counted} / {asked}"


SERVING = Dashboard(
    "serving",
    "Pelagos / Serving",
    "Whether services answer right, how fast, and how much of the error budget is left.",
    (
        Row(
            "At a glance",
            (
                Panel(
                    "Services Ready",
                    "Share of the services that are not suspended.",
                    (Query("avg(pelagos_service_ready{" + HERE + "})"),),
                    "stat",
                    "percentunit",
                    width=6,
                    below="red",
                    steps=((1, "green"),),
                ),
                Panel(
                    "Answering wrong",
                    "Services whose last synthetic inference was wrong.",
                    (Query("count(pelagos_service_probe_correct{" + HERE + "} == 0) or vector(0)"),),
                    "stat",
                    width=6,
                    steps=((1, "red"),),
                ),
                Panel(
                    "Error budget left",
                    "Of 0.5 % failed requests in 30 days, of the model that has least; 0 when it is overspent.",
                    (Query("clamp_min(min(pelagos:inference_budget:remaining_ratio{" + HERE + "}), 0)"),),
                    "stat",
                    "percentunit",
                    width=6,
                    below="red",
                    steps=((0.1, "orange"), (0.5, "green")),
                ),
                Panel(
                    "Requests",
                    "To all models.",
                    (Query("sum(rate(nv_inference_request_success{" + HERE + "}" + SOON + "))"),),
                    "stat",
                    "reqps",
                    width=6,
                ),
            ),
            height=4,
        ),
        Row(
            "Synthetic inference",
            (
                Panel(
                    "Answered right",
                    "1: the last synthetic inference gave the known answer.",
                    (Query("pelagos_service_probe_correct{" + HERE + "}", "{{namespace}}/{{name}}"),),
                    unit="none",
                    most=1,
                ),
                Panel(
                    "Latency",
                    "Of the last one answered right, by service.",
                    (Query("pelagos_service_probe_duration_seconds{" + HERE + "}", "{{namespace}}/{{name}}"),),
                    unit="s",
                    steps=((0.5, "red"),),
                ),
                Panel(
                    "Wrong or slower than 0.5 s",
                    "Share of the synthetic inferences, in windows of 5 min and 1 h; 1 % is the objective.",
                    (
                        Query("pelagos:probe_bad:ratio_rate5m", "5 min"),
                        Query("pelagos:probe_bad:ratio_rate1h", "1 h"),
                    ),
                    unit="percentunit",
                    steps=((0.144, "red"),),
                    most=1,
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    "Requests",
                    "Answered, by model.",
                    (
                        Query(
                            "sum by (namespace, model) (rate(nv_inference_request_success{" + HERE + "}" + SOON + "))",
                            "{{namespace}}/{{model}}",
                        ),
                    ),
                    unit="reqps",
                ),
                Panel(
                    "Failed requests",
                    "Share of the requests, by model, over 5 min; 0.5 % is the objective.",
                    (Query("pelagos:inference_errors:ratio_rate5m{" + HERE + "}", "{{namespace}}/{{model}}"),),
                    unit="percentunit",
                    steps=((0.072, "red"),),
                    most=1,
                ),
                Panel(
                    "Mean time of a request",
                    "By model, queueing included.",
                    (
                        Query(
                            "sum by (namespace, model) (rate(nv_inference_request_duration_us{"
                            + HERE
                            + "}"
                            + SOON
                            + "))"
                            " / sum by (namespace, model) (rate(nv_inference_request_success{"
                            + HERE
                            + "}"
                            + SOON
                            + "))"
                            " / 1e6",
                            "{{namespace}}/{{model}}",
                        ),
                    ),
                    unit="s",
                    steps=((1, "red"),),
                ),
            ),
        ),
        Row(
            "Gateway",
            (
                Panel(
                    "Requests",
                    "That people made through the gateway, and that passed.",
                    (Query("sum(rate(pelagos_gateway_requests_total{" + HERE + "}" + SOON + ")) or vector(0)"),),
                    unit="reqps",
                    width=6,
                ),
                Panel(
                    "Refused",
                    "That did not pass: unknown callers, callers who may not, and too many requests.",
                    (Query("sum(rate(pelagos_gateway_refused_total" + SOON + ")) or vector(0)"),),
                    unit="reqps",
                    width=6,
                ),
                Panel(
                    "Open streams",
                    "By service, and how many a gateway has places for: others are refused as long as all are taken.",
                    (
                        Query("pelagos_gateway_streams{" + HERE + "}", "{{namespace}}/{{service}}"),
                        Query("max(pelagos_gateway_streams_limit)", "places of a gateway"),
                    ),
                    unit="none",
                    width=6,
                ),
                Panel(
                    "Open trials",
                    "Whose tokens are good now.",
                    (Query("sum(pelagos_gateway_trials) or vector(0)"),),
                    unit="none",
                    width=6,
                ),
            ),
        ),
        Row(
            "Hub",
            (
                Panel(
                    "Pages",
                    "Requests that the hub answered, and those among them that failed.",
                    (
                        Query("sum(rate(pelagos_hub_requests_total" + SOON + ")) or vector(0)", "answered"),
                        Query('sum(rate(pelagos_hub_requests_total{code=~"5.."}' + SOON + ")) or vector(0)", "failed"),
                    ),
                    unit="reqps",
                ),
                Panel(
                    "Trials asked for",
                    "By people in the hub, in the last hour.",
                    (Query("sum by (result) (increase(pelagos_hub_trials_total[1h]))", "{{result}}"),),
                    unit="none",
                ),
                Panel(
                    "Signed in",
                    "People with a session.",
                    (Query("sum(pelagos_hub_sessions) or vector(0)"),),
                    unit="none",
                ),
            ),
        ),
        Row(
            "Images",
            (
                Panel(
                    "Refused images",
                    "Share of the images, by model, that got an error instead of a result: damaged, too large, not JPEG or PNG.",
                    (Query(_share("pelagos_refused_images_total"), "{{namespace}}/{{model}}"),),
                    unit="percentunit",
                    steps=((0.1, "red"),),
                    most=1,
                    width=12,
                ),
                Panel(
                    "Answers that leave out objects",
                    "Share of the images, by model, in which more was found than spec.maxDetections. Detection only.",
                    (Query(_share("pelagos_cut_answers_total"), "{{namespace}}/{{model}}"),),
                    unit="percentunit",
                    steps=((0.01, "red"),),
                    most=1,
                    width=12,
                ),
            ),
        ),
        Row(
            "Inference server",
            (
                Panel(
                    "Images in a batch",
                    "Mean, by model.",
                    (
                        Query(
                            "sum by (namespace, model) (rate(nv_inference_count{" + HERE + "}" + SOON + "))"
                            " / sum by (namespace, model) (rate(nv_inference_exec_count{" + HERE + "}" + SOON + "))",
                            "{{namespace}}/{{model}}",
                        ),
                    ),
                    unit="none",
                ),
                Panel(
                    "Time in the queue",
                    "Mean, by model.",
                    (
                        Query(
                            "sum by (namespace, model) (rate(nv_inference_queue_duration_us{" + HERE + "}" + SOON + "))"
                            " / sum by (namespace, model) (rate(nv_inference_request_success{"
                            + HERE
                            + "}"
                            + SOON
                            + "))"
                            " / 1e6",
                            "{{namespace}}/{{model}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Waiting requests",
                    "In the servers, by model.",
                    (
                        Query(
                            "sum by (namespace, model) (nv_inference_pending_request_count{" + HERE + "})",
                            "{{namespace}}/{{model}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Trials",
            (
                Panel(
                    "Trials by phase",
                    "Those that are over are kept for a while; Refused ones say why.",
                    (Query("max by (phase) (pelagos_trials)", "{{phase}}"),),
                ),
                Panel(
                    "Refused, by reason",
                    "As long as they are kept.",
                    (
                        Query(
                            'sum by (reason) (pelagos_resource_reasons{kind="Trial",reason!~"'
                            + "|".join(_NOT_REFUSED)
                            + '"})',
                            "{{reason}}",
                        ),
                    ),
                ),
                Panel(
                    "Not ended in time",
                    "Open although their time was over; the gateway lets nobody in by their tokens.",
                    (Query("max(pelagos_trials_overdue) or vector(0)"),),
                    "stat",
                    steps=((1, "red"),),
                ),
            ),
        ),
    ),
    "pelagos_service_ready",
)
