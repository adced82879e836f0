"""The container image of one model, with the DEEPaaS API, described as an OSCAR service. Called by `pelagos image` and the
hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pelagos_contract import fdl

PORT, HEALTH = 5000, "/v2/models/"
USUAL_MEMORY = "2Gi"
SCRIPT = """#!/bin/sh
# For an image NAME: NAME.json with what is found, and NAME.status.json, which alone says whether that went well: OSCAR says of
# every script that it did.
name=$(basename "$INPUT_FILE_PATH")
deepaas-cli --deepaas_method_output="$TMP_OUTPUT_DIR/$name.json" predict --image="$INPUT_FILE_PATH"
code=$?
if [ "$code" = 0 ]; then state=Succeeded; else state=Failed; fi
printf '{"state": "%s", "exitCode": %d}\\n' "$state" "$code" >"$TMP_OUTPUT_DIR/$name.status.json"
exit "$code"
"""
"""Script of an OSCAR service that runs for each file sent to it."""
_TOLD = 12
"""Number of characters of a digest in a label."""


def description(
    name: str, image: str, onnx_sha256: str, cpu: str, memory: str = USUAL_MEMORY, cluster: str = fdl.CLUSTER
) -> str:
    """The image as an OSCAR service in YAML. It is exposed over HTTP, and also processes files that are sent to it.

    Args:
        name: Name of the ModelService, from which that of the OSCAR service is derived.
        image: The image reference that OSCAR pulls.
        onnx_sha256: SHA-256 of the graph in the image.
        cpu: CPU cores as a Kubernetes quantity.
        memory: Memory as a Kubernetes quantity.
        cluster: Identifier of the cluster for OSCAR's clients.
    """
    service = fdl.Service(
        name=fdl.name_of(name),
        image=image,
        script=SCRIPT,
        cpu=cpu,
        memory=memory,
        labels={"pelagos.dev/onnx": onnx_sha256[:_TOLD]},
        exposed=fdl.Exposed(port=PORT, health_path=HEALTH),
    )
    return _written(fdl.document([service], cluster))


def _written(document: Mapping[str, Any]) -> str:
    """YAML for people, with scripts as blocks."""
    return yaml.dump(document, Dumper=_Lines, sort_keys=False, width=1000)


class _Lines(yaml.SafeDumper):
    """Dumps multi-line strings as literal blocks."""


_Lines.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
