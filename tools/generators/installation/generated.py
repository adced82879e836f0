"""Every generated file below manifests/ except the definitions and those of monitoring/; all others there are written by hand."""

from __future__ import annotations

from pathlib import Path

import yaml

from generators.installation import argocd, editing, roles, writing
from generators.installation.writing import metadata
from pelagos.api import admission, crds, kinds

CHART = "charts/pelagos"
_MANIFESTS = Path(__file__).parents[3] / "manifests"


def files() -> dict[str, str]:
    """The content of every file by its path below manifests/."""
    schemas = {f"schemas/{name}": text for name, text in editing.files().items()}
    definitions = {f"{CHART}/crds/{kind.crd}.yaml": writing.dump(crds.render(kind)) for kind in kinds.KINDS}
    others = {"argocd/argocd-cm.yaml": argocd.patch()}
    return schemas | writing.headed(roles.files() | _policies() | definitions | _monitoring() | others)


def _policies() -> dict[str, str]:
    """Each policy of api/admission.py and its binding, for servers from Kubernetes 1.30 on. They apply to all namespaces."""
    text = writing.dump(
        *(
            body | {"metadata": metadata(body["metadata"]["name"], "admission")}
            for body in admission.rendered(writing.NAMESPACE)
        )
    )
    return {"components/admission/objects.yaml": text, f"{CHART}/files/admission.yaml": text}


def _monitoring() -> dict[str, str]:
    """The chart's copy of the files in manifests/monitoring/kustomization.yaml, as charts cannot read outside their folder."""
    folder = _MANIFESTS / "monitoring"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    bodies = {name: yaml.safe_load_all((folder / name).read_text(encoding="utf-8")) for name in listed}
    return {f"{CHART}/files/monitoring/{name}": writing.dump(*found) for name, found in bodies.items()}
