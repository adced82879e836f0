"""The dashboard of image collections; it needs kube-state-metrics. Used by dashboards.py."""

from __future__ import annotations

from generators.monitoring.panels import HERE, SOON, Dashboard, Panel, Query, Row
from pelagos.api import reasons

DATA = Dashboard(
    "data",
    "Pelagos / Data",
    "Image collections: their versions, classes, splits, and what cleaning found. Needs kube-state-metrics.",
    (
        Row(
            "At a glance",
            (
                Panel(
                    "Datasets",
                    "Image collections.",
                    (Query("count(pelagos_dataset_created_timestamp_seconds{" + HERE + "})"),),
                    "stat",
                    width=6,
                ),
                Panel(
                    "Images",
                    "In the newest versions.",
                    (Query("sum(pelagos_dataset_images{" + HERE + "})"),),
                    "stat",
                    width=6,
                ),
                Panel(
                    "Annotations",
                    "In the newest versions.",
                    (Query("sum(pelagos_dataset_annotations{" + HERE + "})"),),
                    "stat",
                    width=6,
                ),
                Panel(
                    "Not Ready",
                    "Datasets that cannot be trained on as they are now.",
                    (
                        Query(
                            'sum(pelagos_dataset_condition{type="Ready",status="True",' + HERE + "} == bool 0)",
                            "not Ready",
                        ),
                    ),
                    "stat",
                    width=6,
                    steps=((1, "orange"),),
                ),
            ),
            height=4,
        ),
        Row(
            "Versions",
            (
                Panel(
                    "Images",
                    "In the newest version of each Dataset.",
                    (Query("pelagos_dataset_images{" + HERE + "}", "{{namespace}}/{{name}}"),),
                ),
                Panel(
                    "Images by split",
                    "Of the newest versions.",
                    (Query("sum by (name, split) (pelagos_dataset_split_images{" + HERE + "})", "{{name}} {{split}}"),),
                    "bargauge",
                ),
                Panel(
                    "Versions kept",
                    "At most 10 are listed.",
                    (
                        Query(
                            "count by (namespace, name) (pelagos_dataset_version_images{" + HERE + "})",
                            "{{namespace}}/{{name}}",
                        ),
                    ),
                    "bargauge",
                ),
            ),
        ),
        Row(
            "Content",
            (
                Panel(
                    "Images by class",
                    "The 20 smallest classes: what is rare is learned badly.",
                    (Query("sort(bottomk(20, pelagos_dataset_class_images{" + HERE + "}))", "{{name}} {{class}}"),),
                    "bargauge",
                    width=6,
                ),
                Panel(
                    "Imbalance",
                    "Images of the largest class for one of the smallest.",
                    (
                        Query(
                            "max by (namespace, name) (pelagos_dataset_class_images{" + HERE + "})"
                            " / min by (namespace, name) (pelagos_dataset_class_images{" + HERE + "})",
                            "{{namespace}}/{{name}}",
                        ),
                    ),
                    "bargauge",
                    "none",
                    width=6,
                ),
                Panel(
                    "What cleaning found",
                    "Images that were dropped or looked at, and leaks between splits.",
                    (
                        Query(
                            'sum by (finding) (pelagos_dataset_quality_findings{finding!="found",' + HERE + "})",
                            "{{finding}}",
                        ),
                    ),
                    "bargauge",
                    width=6,
                ),
                Panel(
                    "Files that are in no version",
                    "By reason; pelagos dataset excluded lists them.",
                    (Query("sum by (reason) (pelagos_dataset_excluded_files{" + HERE + "})", "{{reason}}"),),
                    "bargauge",
                    width=6,
                ),
            ),
        ),
        Row(
            "Fetching and annotators",
            (
                Panel(
                    "Bytes that were fetched",
                    "For the newest versions, by source; what the store had already is not fetched again.",
                    (Query("pelagos_datasets_fetched_bytes", "{{source}}"),),
                    "bargauge",
                    "bytes",
                    width=8,
                ),
                Panel(
                    "Sources that were not fetched",
                    "Datasets, by source and reason; their condition Prepared says what to do.",
                    (Query("pelagos_datasets_unfetched", "{{source}} {{reason}}"),),
                    "bargauge",
                    width=8,
                ),
                Panel(
                    "What people made of suggestions",
                    "Accepted and moved ones were right; removed ones were of nothing, and added ones were missed.",
                    (Query("pelagos_suggestions", "{{outcome}}"),),
                    "bargauge",
                    width=8,
                ),
            ),
        ),
        Row(
            "Judgement",
            (
                Panel(
                    "FAIR score",
                    "Of the newest versions, by the built-in evaluation; pelagos fair says what would give more.",
                    (Query("sort(pelagos_dataset_fair_score{" + HERE + "})", "{{namespace}}/{{name}}"),),
                    "bargauge",
                    "none",
                    width=7,
                ),
                Panel(
                    "Versions that do not keep spec.quality",
                    "Longest first; blocked ones are not trained on. The condition QualityPassed of each says why.",
                    (Query("sort_desc(time() - pelagos_dataset_quality_failed_timestamp_seconds{" + HERE + "})"),),
                    "table",
                    "s",
                    columns=("namespace", "name", "outcome"),
                    value="For",
                    width=9,
                ),
                Panel(
                    "Leaks between splits",
                    "Images of a split that share a group with, repeat, look like, or were taken next to some of another.",
                    (
                        Query(
                            "sort_desc(sum by (name, kind, split, other) (pelagos_dataset_leaked_images{"
                            + HERE
                            + "}) > 0)",
                            "{{name}} {{kind}}: {{split}} of {{other}}",
                        ),
                    ),
                    "bargauge",
                    width=8,
                ),
            ),
            height=6,
        ),
        Row(
            "Publication",
            (
                Panel(
                    "Publications",
                    "Datasets with spec.publish: published, with a draft for people to look at, stuck, or not there yet.",
                    (Query("pelagos_publications", "{{state}}"),),
                    "bargauge",
                    "none",
                    width=24,
                ),
            ),
            height=5,
        ),
        Row(
            "Removal of versions",
            (
                Panel(
                    "Versions that were removed",
                    "Bytes of images that stores had after the last removal, and bytes that removals freed; "
                    "spec.history.keep says how many versions stay.",
                    (
                        Query("sum(pelagos_datasets_kept_bytes)", "kept"),
                        Query("sum(pelagos_datasets_freed_bytes)", "freed"),
                    ),
                    "bargauge",
                    "bytes",
                    width=12,
                ),
                Panel(
                    "Versions that are being removed",
                    "Longest first; a removal takes minutes. status.removals.message of each Dataset says how it stands.",
                    (Query("sort_desc(time() - pelagos_dataset_removing_timestamp_seconds{" + HERE + "})"),),
                    "table",
                    "s",
                    columns=("namespace", "name"),
                    value="For",
                    width=12,
                ),
            ),
            height=6,
        ),
        Row(
            "Conditions",
            (
                Panel(
                    "Conditions that do not hold",
                    "Of each Dataset.",
                    (
                        Query(
                            'pelagos_dataset_condition{status=~"False|Unknown",type!~"Reconciling|Stalled|Waiting",'
                            f'reason!="{reasons.NOT_ASKED_FOR}",' + HERE + "} == 1"
                        ),
                    ),
                    "table",
                    "none",
                    width=14,
                    columns=("namespace", "name", "type", "status", "reason"),
                ),
                Panel(
                    "Calls to storage, 95 %",
                    "Duration by system and operation.",
                    (
                        Query(
                            "histogram_quantile(0.95, sum by (system, operation, le) (rate("
                            f'pelagos_outbound_call_duration_seconds_bucket{{system=~"objects|volumes"}}{SOON})))',
                            "{{system}} {{operation}}",
                        ),
                    ),
                    unit="s",
                    width=10,
                ),
            ),
        ),
    ),
    "pelagos_dataset_created_timestamp_seconds",
)
