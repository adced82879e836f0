#!/usr/bin/env bash
# Installs exactly requirements/$1.txt into the environment $2.   environment.sh NAME FOLDER [editable | no-deps]
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 folder=$2 mode=${3:-}
echo "Installing the environment $name"
[ -x "$folder/bin/python" ] || "$UV" venv --quiet --python "${PYTHON:-python3.11}" "$folder"
if [ "$mode" = no-deps ]; then
  "$UV" pip install --quiet --python "$folder/bin/python" --no-deps --require-hashes -r "requirements/$name.txt"
else
  "$UV" pip sync --quiet --python "$folder/bin/python" --require-hashes "requirements/$name.txt"
fi
if [ "$mode" = editable ]; then
  "$UV" pip install --quiet --python "$folder/bin/python" --no-deps --no-build-isolation -e .
fi
