#!/usr/bin/env bash
# Writes a CycloneDX bill of materials for each image, from the locked requirements it is built from.
#   sbom.sh [FOLDER [IMAGE...]]        default: build/sbom, all images
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/sbom}
images=("${@:2}")
bin=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}/sbom/bin
mkdir -p "$folder"
locks=$(mktemp -d)
trap 'rm -rf "$locks"' EXIT
cp requirements/*.txt "$locks"
# As in images/trainer/Dockerfile: without CUDA, and with builds of torch that the locked hashes do not cover.
awk '/^[a-z]/ { torch = /^(torch|torchvision)==/; cuda = /^(cuda-|nvidia-|triton==)/ }
     /^torch(vision)?==/ { print $1 } !torch && !cuda' requirements/pipelines.txt >"$locks/pipelines-cpu.txt"
known=(operator=control-plane deepaas=deepaas serving=triton-gpu serving-cpu=triton trainer=pipelines trainer-cpu=pipelines-cpu)
for later in gateway hub; do [ ! -e "requirements/$later.txt" ] || known+=("$later=$later"); done
for image in "${known[@]}"; do
  [[ ${#images[@]} = 0 || " ${images[*]} " == *" ${image%%=*} "* ]] || continue
  # The lock file has no dependencies between packages, about which the tool warns.
  PYTHONWARNINGS=ignore "$bin/cyclonedx-py" requirements "$locks/${image#*=}.txt" --pyproject pyproject.toml --spec-version 1.6 \
    --short-PURLs --output-reproducible --output-file "$folder/${image%%=*}.cdx.json"
  echo "$folder/${image%%=*}.cdx.json"
done
