"""The table of pipelines on a node: the overhead above a resource's work, and its share of the goal."""

from __future__ import annotations

from bench.pods import GOALS, rows

SAMPLE = {"ready": 40.0, "work": 25.0, "preparing": 6.0, "starting": 4.0, "pods": 3.0}


def test_above_its_work_is_what_is_not_work_and_is_compared_with_the_goal() -> None:
    found = {name: cells for name, *cells in rows({kind: [SAMPLE] for kind in GOALS})}

    assert found["**above its work**"] == [[15.0], [15.0]]
    assert found["... of the goal"] == [[0.75], [0.5]]
    assert found["pods"] == [[3.0], [3.0]]
