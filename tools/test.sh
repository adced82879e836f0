#!/usr/bin/env bash
# Runs all checks and all tests; `make test` has installed what they need. Arguments go to pytest.
# Ends with one plain line, "N passed, N failed, N skipped", in which each check counts like a test, and fails on any failure.
set -uo pipefail
cd "$(dirname "$0")/.."
environments=${PELAGOS_ENVIRONMENTS:-$PWD/.venvs}
export PELAGOS_SAMPLES=${PELAGOS_SAMPLES:-${PELAGOS_HOME:-$PWD/.pelagos}/data/samples}
# No test may reach the installation or the cluster that the user works with.
unset PELAGOS_HOME KUBECONFIG

# Most of the control plane's tests wait for servers, so that more of them than there are cores run at a time, each module in one
# process. The longest come first, and nothing is left to wait for at the end.
longest=(main_job monitoring engines)
at_a_time=(-n "${PELAGOS_TEST_PROCESSES:-3}" --dist loadscope --no-loadscope-reorder)

# Tests of what runs inside pipelines and model servers: they need torch and run in the environment pipelines-dev. All other
# folders below tests/ are about the control plane; those on a real cluster run by themselves, so that it disturbs no others.
data_plane=(annotations evaluation export flows preparation samples sandbox serving sources storage training)

reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
control_plane=("${longest[@]/#/tests/}")
for folder in tests/*/; do
  name=$(basename "$folder")
  [[ " ${data_plane[*]} ${longest[*]} " == *" $name "* || $name == cluster || $name == __pycache__ ]] || control_plane+=("tests/$name")
done
present=()
for name in "${data_plane[@]}"; do [ -d "tests/$name" ] && present+=("tests/$name"); done

tools/lint.sh "$reports/lint"
echo "== tests of the control plane"
"$environments/dev/bin/pytest" -q --junitxml="$reports/control-plane.xml" "${at_a_time[@]}" "${control_plane[@]}" "$@"
echo $? >"$reports/control-plane.code"
echo "== tests of the data plane"
"$environments/pipelines-dev/bin/pytest" -q --junitxml="$reports/data-plane.xml" "${present[@]}" "$@"
echo $? >"$reports/data-plane.code"
echo "== tests on a real cluster"
"$environments/dev/bin/pytest" -q --junitxml="$reports/cluster.xml" tests/cluster "$@"
echo $? >"$reports/cluster.code"

"$environments/dev/bin/python" tools/summary.py "$reports"
