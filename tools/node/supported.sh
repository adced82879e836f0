#!/usr/bin/env bash
# Says in one line why no Kubernetes node of the tests can run on this machine, and fails; silent where one can.
set -uo pipefail
no() { echo "$*"; exit 1; }

[ "$(uname -s)" = Linux ] || no "containers need Linux"
[ "$(id -u)" = 0 ] || no "making namespaces and running a container engine need root"
[ -e /etc/debian_version ] && command -v apt-get >/dev/null || no "the node's programs are built from Debian's packages"
for controller in cpu memory pids; do
  [ -w "/sys/fs/cgroup/$controller/cgroup.procs" ] || no "Kubernetes 1.20 needs control groups of version 1 ($controller)"
done
unshare --fork --pid --mount --net --uts --ipc true 2>/dev/null || no "namespaces are not allowed here"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch"/{lower,upper,work,merged}
unshare --mount sh -c 'mount -t tmpfs tmpfs "$1/upper" && mkdir "$1/upper/u" "$1/upper/w" &&
  mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper/u,workdir=$1/upper/w" "$1/merged"' sh "$scratch" 2>/dev/null ||
  no "overlay file systems cannot be mounted here"
