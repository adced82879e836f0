"""The container image of one model, with the DEEPaaS API, as a service of OSCAR. Pure; called by `pelagos image` and the hub."""

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
"""Of an OSCAR service, for each file that it is sent."""
_TOLD = 12
"""Characters of a digest in a label."""


def description(
    name: str, image: str, onnx_sha256: str, cpu: str, memory: str = USUAL_MEMORY, cluster: str = fdl.CLUSTER
) -> str:
    """The image as a service of OSCAR, which is exposed, and answers files that it is sent, too; in YAML.

    Args:
        name: Of the ModelService, which OSCAR's is made of.
        image: The image as OSCAR fetches it.
        onnx_sha256: Of the graph that is in it.
        cpu: Cores, as Kubernetes writes them.
        memory: As Kubernetes writes it.
        cluster: How OSCAR's clients call the cluster.
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
    """For people to read: scripts line by line."""
    return yaml.dump(document, Dumper=_Lines, sort_keys=False, width=1000)


class _Lines(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


_Lines.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
