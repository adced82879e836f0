"""The dashboard of the fleet: all resources, why they wait, and the operator's health. Used by dashboards.py."""

from __future__ import annotations

from generators.monitoring.panels import HERE, SOON, Dashboard, Panel, Query, Row
from pelagos.api import reasons

_WELL = "|".join((reasons.SERVING, reasons.COMPLETED, reasons.VERSION_READY, reasons.READY))

FLEET = Dashboard(
    "fleet",
    "Pelagos / Fleet",
    "All resources, what they wait for, and how the operator does.",
    (
        Row(
            "At a glance",
            (
                Panel(
                    "Ready",
                    "Resources that are as they should be.",
                    (Query('sum(pelagos_resources{ready="True"})'),),
                    "stat",
                    width=3,
                ),
                Panel(
                    "In progress",
                    "Resources that the operator works on, or that wait for others.",
                    (Query('sum(pelagos_resources{ready="Unknown"}) or vector(0)'),),
                    "stat",
                    width=3,
                ),
                Panel(
                    "Recovering or suspended",
                    "Resources that are not as they should be, and need nobody: failing and tried again, or suspended.",
                    (
                        Query(
                            '(sum(pelagos_resources{ready="False"}) or vector(0)) - (sum(pelagos_resources_stalled) or vector(0))'
                        ),
                    ),
                    "stat",
                    width=4,
                ),
                Panel(
                    "Waiting for a person",
                    "Stalled resources: nothing happens until somebody changes something.",
                    (Query("sum(pelagos_resources_stalled)"),),
                    "stat",
                    width=4,
                    steps=((1, "red"),),
                ),
                Panel(
                    "Alerts firing",
                    "Of all that Pelagos ships.",
                    (Query('count(ALERTS{alertname=~"Pelagos.*",alertstate="firing"}) or vector(0)'),),
                    "stat",
                    width=3,
                    steps=((1, "red"),),
                ),
                Panel(
                    "Leaders",
                    "Operators that act; exactly one should.",
                    (Query("sum(pelagos_leader)"),),
                    "stat",
                    width=3,
                    below="red",
                    steps=((1, "green"), (2, "red")),
                ),
                Panel(
                    "Memory of the operator",
                    "Resident memory.",
                    (Query("process_resident_memory_bytes and on (job, instance) pelagos_build_info", "memory"),),
                    "stat",
                    "bytes",
                    width=4,
                ),
            ),
            height=4,
        ),
        Row(
            "Resources",
            (
                Panel(
                    "Resources by kind and Ready",
                    "True: as it should be; Unknown: in progress; False: failing or refused.",
                    (Query("sum by (kind, ready) (pelagos_resources)", "{{kind}} {{ready}}"),),
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Reasons",
                    "What Ready says, of those that are not Ready.",
                    (
                        Query(
                            f'sort_desc(sum by (reason) (pelagos_resource_reasons{{reason!~"{_WELL}"}}))',
                            "{{reason}}",
                        ),
                    ),
                    "bargauge",
                    width=12,
                ),
            ),
        ),
        Row(
            "Waiting",
            (
                Panel(
                    "Waiting for what is not there yet",
                    "Longest first. It comes by itself, unless its name is wrong or whoever brings it has failed.",
                    (Query("sort_desc(time() - pelagos_resource_waiting_timestamp_seconds{" + HERE + "})"),),
                    "table",
                    "s",
                    columns=("kind", "namespace", "name", "reason"),
                    value="For",
                    width=12,
                ),
                Panel(
                    "Waiting for a person",
                    "Longest first. The condition Ready of each says what to do.",
                    (Query("sort_desc(time() - pelagos_resource_stalled_timestamp_seconds{" + HERE + "})"),),
                    "table",
                    "s",
                    columns=("kind", "namespace", "name", "reason"),
                    value="For",
                    width=12,
                ),
            ),
        ),
        Row(
            "Operator",
            (
                Panel(
                    "Passes",
                    "Looks at a resource, by result.",
                    (Query(f"sum by (result) (rate(pelagos_reconciles_total{SOON}))", "{{result}}"),),
                    unit="ops",
                    stacked=True,
                ),
                Panel(
                    "Duration of a pass, 99 %",
                    "By kind.",
                    (
                        Query(
                            "histogram_quantile(0.99, sum by (kind, le) "
                            f"(rate(pelagos_reconcile_duration_seconds_bucket{SOON})))",
                            "{{kind}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Queue",
                    "Resources that wait for a pass.",
                    (Query("sum(pelagos_queue_depth)", "waiting"),),
                    steps=((200, "red"),),
                ),
            ),
        ),
        Row(
            "Other systems",
            (
                Panel(
                    "Calls",
                    "By system.",
                    (
                        Query(
                            f"sum by (system) (rate(pelagos_outbound_call_duration_seconds_count{SOON}))", "{{system}}"
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Failed calls",
                    "Share of the calls; refusals are not counted.",
                    (
                        Query(
                            f"sum by (system) (rate(pelagos_outbound_call_errors_total{SOON}))"
                            f" / sum by (system) (rate(pelagos_outbound_call_duration_seconds_count{SOON}))",
                            "{{system}}",
                        ),
                    ),
                    unit="percentunit",
                    steps=((0.5, "red"),),
                    most=1,
                ),
                Panel(
                    "Silence of the watch",
                    "Time since the API server said something, by kind.",
                    (
                        Query(
                            "max by (kind) (time() - pelagos_watch_last_event_timestamp_seconds"
                            " and on (job, instance) pelagos_leader == 1)",
                            "{{kind}}",
                        ),
                    ),
                    unit="s",
                    steps=((300, "red"),),
                ),
            ),
        ),
    ),
    "pelagos_service_ready",
)
