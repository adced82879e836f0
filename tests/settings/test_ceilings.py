"""The ceilings for strangers' input are settings, and every step and server gets them by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from pelagos.engines.kubeflow import engine as kubeflow
from pelagos.engines.model_server.options import Options
from pelagos.settings import Settings
from value_sets import DEFAULTS

DATA_PLANE = Path(__file__).parents[2] / "pipelines" / "pelagos_pipelines" / "sandbox" / "ceilings.py"


def defaults_of_the_data_plane() -> dict[str, int]:
    """The data plane's defaults, read from its source: it cannot be imported here."""
    (kind,) = (node for node in ast.parse(DATA_PLANE.read_text()).body if isinstance(node, ast.ClassDef))
    fields = [node for node in kind.body if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(field.target): ast.literal_eval(field.value) for field in fields if field.value is not None}


def test_operator_chart_and_data_plane_have_the_same_ceilings() -> None:
    defaults = defaults_of_the_data_plane()

    assert {f"PELAGOS_MAX_{name.upper()}": str(value) for name, value in defaults.items()} == Settings().ceilings()
    assert DEFAULTS["ceilings"] == {to_camel(name): value for name, value in defaults.items()}


def test_steps_and_servers_on_a_cluster_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEGAPIXELS", "333")
    settings = Settings()

    assert settings.ceilings().items() <= dict(kubeflow.pod_defaults(settings).environment).items()
    assert dict(Options.from_settings(settings, "/objects").ceilings) == {
        name: value for name, value in settings.ceilings().items() if "IMAGE" in name
    }
    assert settings.ceilings()["PELAGOS_MAX_IMAGE_MEGAPIXELS"] == "333"


@pytest.mark.parametrize("value", ["0", "-1", "much", "1e99"])
def test_a_ceiling_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PELAGOS_MAX_IMAGE_MEGAPIXELS", value)
    with pytest.raises(ValueError, match="max_image_megapixels"):
        Settings()
