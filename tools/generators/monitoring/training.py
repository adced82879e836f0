"""The dashboard of trainings: those in progress, their results, and the gates that refused a model. Used by dashboards.py."""

from __future__ import annotations

from generators.monitoring.panels import HERE, SOON, Dashboard, Panel, Query, Row
from pelagos.api import reasons

_WAITING = "|".join(
    (
        reasons.QUEUED,
        reasons.UNSCHEDULABLE,
        reasons.QUOTA_EXCEEDED,
        reasons.REQUEST_TOO_LARGE,
        reasons.QUEUE_NOT_USABLE,
        reasons.PRIORITY_NOT_USABLE,
        reasons.PREEMPTED,
        reasons.IMAGE_NOT_PULLED,
        reasons.VOLUME_NOT_READY,
        reasons.STEP_NOT_CONFIGURED,
        reasons.POD_REFUSED,
        reasons.NAMESPACE_NOT_READY,
    )
)
"""Reasons for which a pipeline run waits, as a regular expression."""

TRAINING = Dashboard(
    "training",
    "Pelagos / Training",
    "Trainings in progress, what came out of them, and which gates refused a model.",
    (
        Row(
            "At a glance",
            (
                Panel(
                    "In progress",
                    "TrainingRuns whose pipeline runs.",
                    (Query("count(pelagos_training_last_progress_timestamp_seconds{" + HERE + "}) or vector(0)"),),
                    "stat",
                    width=6,
                ),
                Panel(
                    "Queued",
                    "TrainingRuns that wait for capacity.",
                    (
                        Query(
                            f'sum(pelagos_resource_reasons{{kind="TrainingRun",reason="{reasons.QUEUED}"}}) or vector(0)'
                        ),
                    ),
                    "stat",
                    width=6,
                ),
                Panel(
                    "Gates passed",
                    "Of all gates that were judged.",
                    (
                        Query(
                            'sum(pelagos_training_gates{outcome="passed"}) / (sum(pelagos_training_gates) > 0)',
                            "passed",
                        ),
                    ),
                    "stat",
                    "percentunit",
                    width=6,
                    below="orange",
                    steps=((0.9, "green"),),
                ),
                Panel(
                    "Models refused by gates",
                    "TrainingRuns with a gate that was not passed.",
                    (Query("count(pelagos_training_failed_gates{" + HERE + "}) or vector(0)"),),
                    "stat",
                    width=6,
                    steps=((1, "red"),),
                ),
            ),
            height=4,
        ),
        Row(
            "In progress",
            (
                Panel(
                    "Progress",
                    "Share of the epochs done.",
                    (Query("pelagos_training_progress_ratio{" + HERE + "}", "{{namespace}}/{{name}}"),),
                    unit="percentunit",
                    width=12,
                    most=1,
                ),
                Panel(
                    "Time without progress",
                    "Since an epoch ended, or a stage got further; an hour raises an alert.",
                    (
                        Query(
                            "time() - pelagos_training_last_progress_timestamp_seconds{" + HERE + "}",
                            "{{namespace}}/{{name}}",
                        ),
                    ),
                    unit="s",
                    width=12,
                    steps=((3600, "red"),),
                ),
            ),
        ),
        Row(
            "Waiting",
            (
                Panel(
                    "Waiting by reason",
                    "Datasets and TrainingRuns that do not go on, by what Ready says.",
                    (
                        Query(
                            "sum by (reason) (pelagos_resource_reasons{" + f'reason=~"{_WAITING}"' + "})",
                            "{{reason}}",
                        ),
                    ),
                    width=8,
                    stacked=True,
                ),
                Panel(
                    "In a queue",
                    "Longest first. status.queue says at which place, and why.",
                    (Query("sort_desc(time() - pelagos_resource_queued_timestamp_seconds{" + HERE + "})"),),
                    "table",
                    "s",
                    columns=("kind", "namespace", "name", "queue"),
                    value="For",
                    width=8,
                ),
                Panel(
                    "Wait in a queue",
                    "The mean until a step was admitted, of those since the operator started.",
                    (
                        Query(
                            "sum by (queue) (pelagos_queue_wait_seconds_sum)"
                            " / sum by (queue) (pelagos_queue_wait_seconds_count)",
                            "{{queue}}",
                        ),
                    ),
                    unit="s",
                    width=8,
                ),
            ),
        ),
        Row(
            "Stages",
            (
                Panel(
                    "Stages now",
                    "TrainingRuns by what their pipeline runs do.",
                    (
                        Query(
                            'sum by (stage) (pelagos_resource_stages{kind="TrainingRun"})',
                            "{{stage}}",
                        ),
                    ),
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Time of a stage",
                    "The mean of those that ended since the operator started: too few end for a rate.",
                    (
                        Query(
                            'sum by (stage) (pelagos_stage_duration_seconds_sum{kind="TrainingRun"})'
                            ' / sum by (stage) (pelagos_stage_duration_seconds_count{kind="TrainingRun"})',
                            "{{stage}}",
                        ),
                    ),
                    unit="s",
                    width=12,
                ),
            ),
        ),
        Row(
            "Cost",
            (
                Panel(
                    "Energy",
                    "Of the trainings that there are and have ended, as far as it is known.",
                    (Query("pelagos_trainings_energy_joules / 3.6e6", "kilowatt-hours"),),
                    "stat",
                    "none",
                    width=6,
                ),
                Panel(
                    "CO2 equivalent",
                    "Grams, by the setting PELAGOS_POWER_GRAMS_PER_KWH.",
                    (Query("pelagos_trainings_carbon_dioxide_grams", "grams"),),
                    "stat",
                    "none",
                    width=6,
                ),
                Panel(
                    "GPUs and processors",
                    "Time of GPUs, and of processor cores.",
                    (
                        Query("pelagos_trainings_gpu_seconds", "GPUs"),
                        Query("pelagos_trainings_cpu_seconds", "cores"),
                    ),
                    "stat",
                    "s",
                    width=6,
                ),
                Panel(
                    "Partly unknown",
                    "Trainings that took more than is known; status.cost.missing says what is missing.",
                    (Query("pelagos_trainings_cost_unknown"),),
                    "stat",
                    width=6,
                ),
            ),
            height=4,
        ),
        Row(
            "Searches",
            (
                Panel(
                    "Trials by state",
                    "Of all searches for hyperparameters. Failed ones diverged or ran out of memory; pelagos search says which.",
                    (Query("sum by (state) (pelagos_training_trials)", "{{state}}"),),
                    width=24,
                    stacked=True,
                ),
            ),
        ),
        Row(
            "What came out (kube-state-metrics)",
            (
                Panel(
                    "Figures on the test split",
                    "Of each TrainingRun; figures of single classes are left out.",
                    (
                        Query(
                            'sort_desc(pelagos_trainingrun_metric{metric=~"test/[^/]+",' + HERE + "})",
                            "{{name}} {{metric}}",
                        ),
                    ),
                    "bargauge",
                    "none",
                ),
                Panel(
                    "Gates",
                    "Value of each gate that was judged; 1 has passed.",
                    (Query("pelagos_trainingrun_gate_passed{" + HERE + "}"),),
                    "table",
                    "none",
                    columns=("namespace", "name", "metric", "minimum", "maximum", "champion"),
                    value="Passed",
                ),
                Panel(
                    "Duration",
                    "Of trainings that have ended.",
                    (
                        Query(
                            "pelagos_trainingrun_finished_timestamp_seconds{" + HERE + "}"
                            " - pelagos_trainingrun_started_timestamp_seconds{" + HERE + "}"
                        ),
                    ),
                    "table",
                    "s",
                    columns=("namespace", "name"),
                    value="Took",
                ),
            ),
        ),
        Row(
            "Slices of the test split (kube-state-metrics)",
            (
                Panel(
                    "Worst slices",
                    "Main metric of the worst site, depth band and the like, of trainings with spec.evaluation.slices.",
                    (
                        Query(
                            'sort(pelagos_trainingrun_metric{metric=~"worst/.+",' + HERE + "})", "{{name}} {{metric}}"
                        ),
                    ),
                    "bargauge",
                    "none",
                    width=24,
                ),
            ),
        ),
        Row(
            "Pipelines and tracking",
            (
                Panel(
                    "TrainingRuns by reason",
                    "What their condition Ready says.",
                    (Query('sum by (reason) (pelagos_resource_reasons{kind="TrainingRun"})', "{{reason}}"),),
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Calls to pipelines and tracking, 95 %",
                    "Duration by system.",
                    (
                        Query(
                            "histogram_quantile(0.95, sum by (system, le) (rate("
                            f'pelagos_outbound_call_duration_seconds_bucket{{system=~"kfp|mlflow"}}{SOON})))',
                            "{{system}}",
                        ),
                    ),
                    unit="s",
                    width=12,
                ),
            ),
        ),
    ),
    "pelagos_training_last_progress_timestamp_seconds",
)
