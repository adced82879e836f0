#!/usr/bin/env bash
# Resolves requirements/*.in into lock files with hashes, which name no registry host.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
UV=${UV:-../.venvs/tools/bin/uv}
compile() { "$UV" pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header "$@"; }
for name in control-plane gateway hub dev pipelines pipelines-dev tracking deepaas object-storage kserve-storage cvat-sdk label-studio metadata oracles oscar tensorboard wandb sbom oidc site tools; do compile "$name.in" -o "$name.txt"; done
for name in triton triton-gpu kserve samples; do compile --no-deps "$name.in" -o "$name.txt"; done
