"""The kinds of Grafana panels in our dashboards, laid out in rows, as Grafana's JSON. Used by dashboards.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 38
"""The schema version of Grafana 10; newer versions migrate it when they read it."""
COLUMNS = 24
HERE = 'namespace=~"$namespace"'
"""Label matcher for the namespaces that the user has selected."""
SOON = "[$__rate_interval]"
"""Range of a rate that adapts to the zoom."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
Unit = Literal["short", "none", "percentunit", "s", "ops", "reqps", "bytes"]
Form = Literal["timeseries", "stat", "bargauge", "table"]
Color = Literal["green", "orange", "red"]


@dataclass(frozen=True)
class Query:
    """A PromQL expression. ``legend``: a template that names each series by its labels."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel. ``steps``: the colours from each value on, with green below the first. ``width``: in 24ths of the page."""

    title: str
    description: str
    queries: tuple[Query, ...]
    form: Form = "timeseries"
    unit: Unit = "short"
    width: int = 8
    steps: tuple[tuple[float, Color], ...] = ()
    below: Color = "green"
    stacked: bool = False
    most: float | None = None
    columns: tuple[str, ...] = ()
    """Labels that a table shows, in this order, before the value."""
    value: str = "Value"
    """Heading of a table's column of values."""


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it, which share one height."""

    title: str
    panels: tuple[Panel, ...]
    height: int = 7


@dataclass(frozen=True)
class Dashboard:
    """One dashboard. ``namespaces``: a query whose label ``namespace`` provides the values of the variable."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    namespaces: str
    tags: tuple[str, ...] = field(default=("pelagos",))

    def panels(self) -> Iterator[Panel]:
        """All panels, in order."""
        for row in self.rows:
            yield from row.panels


def as_json(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard in Grafana's form. Raises ValueError when a row is wider than the page."""
    return {
        "uid": f"pelagos-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": list(dashboard.tags),
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_alerts()]},
        "links": [
            {
                "type": "dashboards",
                "title": "Pelagos",
                "tags": ["pelagos"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": _variables(dashboard)},
        "panels": list(_laid_out(dashboard.rows)),
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Pelagos.*",alertstate="firing"}',
        "titleFormat": "{{alertname}}",
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    query = f"label_values({dashboard.namespaces}, namespace)"
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0},
        {
            "name": "namespace",
            "label": "Namespace",
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": "namespaces"},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
        },
    ]


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in rows:
        if sum(panel.width for panel in row.panels) > COLUMNS:
            raise ValueError(f"the row {row.title} is wider than {COLUMNS}")
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top, left = top + 1, 0
        for panel in row.panels:
            number += 1
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": row.height})
            left += panel.width
        top += row.height


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": number,
        "type": panel.form,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": position,
        "targets": [_target(panel, query, chr(ord("A") + place)) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.form],
    }
    if panel.form == "table":
        made["transformations"] = [_organized(panel)]
    return made


def _target(panel: Panel, query: Query, letter: str) -> dict[str, Any]:
    now = panel.form != "timeseries"
    return {
        "refId": letter,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": now,
        "range": not now,
        "format": "table" if panel.form == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": panel.below, "value": None}]
    steps += [{"color": color, "value": value} for value, color in panel.steps]
    made: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "palette-classic" if panel.form == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.most is not None:
        made["max"] = panel.most
    if panel.form == "timeseries":
        made["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.steps else "off"},
        }
    return made


def _organized(panel: Panel) -> dict[str, Any]:
    """A transformation that limits a table to the chosen labels in their order; by default Grafana shows all, sorted by name."""
    headings = {name: name.capitalize() for name in panel.columns} | {"Value": panel.value}
    return {
        "id": "organize",
        "options": {
            "excludeByName": {"Time": True, "__name__": True, "job": True, "instance": True, "endpoint": True}
            | {"pod": True, "service": True, "container": True, "prometheus": True},
            "indexByName": {name: place for place, name in enumerate([*panel.columns, "Value"])},
            "renameByName": headings,
        },
    }


_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[Form, dict[str, Any]] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {"reduceOptions": _REDUCED, "colorMode": "value", "graphMode": "none", "textMode": "auto"},
    "bargauge": {
        "reduceOptions": _REDUCED,
        "orientation": "horizontal",
        "displayMode": "basic",
        "showUnfilled": False,
    },
    "table": {"showHeader": True, "footer": {"show": False, "fields": "", "reducer": ["sum"], "countRows": False}},
}
