#!/usr/bin/env bash
# The first process of a test node: sets up the node's network and file systems inside new namespaces (see unshare(1)), then adopts
# and reaps processes until it is killed, which ends everything in the node. Nothing outside is changed.
#   init.sh FOLDER NAME SERVICE_RANGE BRIDGE ADDRESS
# BRIDGE is the link for pods, and ADDRESS (with its prefix length) the node's own address on it.
set -euo pipefail
folder=$1 name=$2 services=$3 bridge=$4 address=$5
# Read from the /proc of the parent namespace, which is still mounted here: this is the PID that the machine sees.
read -r pid _ </proc/self/stat

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/pids /run/kept/upper /run/kept/work /run/cgroup /run/sysctl
mount -t proc proc /proc
# A /sys that shows the new network, with the machine's control groups.
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount --lazy /run/cgroup
# The kubelet writes into these folders whatever its configuration says.
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/kept/upper,workdir=/run/kept/work /var/lib
mount -t tmpfs tmpfs /var/log
# The kubelet requires settings that affect the whole machine's kernel. It reads these files instead; the kernel is unchanged.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=/run/sysctl/$(tr / . <<<"${setting%=*}")
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done
# Let other containers see volumes that one container mounts, as on a real node. Not earlier, or the mounting
# and unmounting above would propagate.
mount --make-rshared /

hostname "$name"
ip link set lo up
# Route the service addresses to a bridge without ports: no packet to them leaves the node, even before kube-proxy has its rules.
ip link add svc0 type bridge
ip link set svc0 up
ip route add "$services" dev svc0
ip link add "$bridge" type bridge
ip address add "$address" dev "$bridge"
ip link set "$bridge" up
echo 1 >/proc/sys/net/ipv4/ip_forward

echo "$pid" >"$folder/init.pid.new"
mv "$folder/init.pid.new" "$folder/init.pid"
while :; do
  sleep 3600 &
  wait || true
done
