"""Helm accepts the chart, and reports wrong values before anything reaches a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import rendering
import upstream
from value_sets import NAMESPACE, SETS, values


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_no_fault_in_the_chart(name: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(dict(SETS[name])))

    command = [
        str(upstream.program("helm")),
        "lint",
        "--strict",
        str(rendering.CHART),
        f"--values={file}",
        f"--namespace={NAMESPACE}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"operatr": {}}, "operatr"),
        ({"engines": {"serving": "tensorflow"}}, "/engines/serving"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"tenants": [{"name": "marine-lab"}]}, "/tenants/0"),
        ({"operator": {"replicas": "two"}}, "/operator/replicas"),
        ({"engines": {"podUser": "2147483648"}}, "engines.podUser is 2147483648; allowed: a user from 1 to 2147483647"),
        ({"engines": {"podUser": "9999999999"}}, "engines.podUser is 9999999999"),
    ],
    ids=str,
)
def test_a_mistake_in_the_values_is_refused_by_its_name(wrong: Mapping[str, Any], said: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendering.helm(values(wrong), namespace=NAMESPACE)

    assert said in refused.value.stderr


def test_a_cluster_that_is_too_old_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendering.helm(values(), namespace=NAMESPACE, options=["--kube-version=1.24.17"])

    assert "kubeVersion: >=1.25" in refused.value.stderr
