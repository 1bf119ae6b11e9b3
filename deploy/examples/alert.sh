#!/bin/sh
# Prints the alert that Falco would send about a running process:  sh alert.sh PID | douse event submit -
set -eu
pid=${1:?"give a process id"}
[ -r "/proc/$pid/stat" ] || { echo "alert.sh: there is no process $pid" >&2; exit 1; }
name=$(cat "/proc/$pid/comm")
# Clock ticks since the boot at which it started: field 22 of stat. The second field may hold spaces.
ticks=$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)
now=$(date +%s%N)
uptime=$(cut -d' ' -f1 /proc/uptime | tr -d .) # in hundredths of a second
hertz=$(getconf CLK_TCK)
started=$(( now - uptime * 10000000 + ticks * 1000000000 / hertz ))
cat <<JSON
{
  "uuid": "$(cat /proc/sys/kernel/random/uuid)",
  "hostname": "$(uname -n)",
  "time": "$(date -u -d "@${now%?????????}" +%Y-%m-%dT%H:%M:%S).${now#??????????}Z",
  "rule": "Douse example",
  "priority": "Warning",
  "source": "syscall",
  "tags": ["example"],
  "output": "An example process is running (process=$name pid=$pid)",
  "output_fields": {
    "evt.time": $now,
    "container.id": "host",
    "proc.pid": $pid,
    "proc.pid.ts": $started,
    "proc.name": "$name",
    "proc.exepath": "$(readlink "/proc/$pid/exe" || true)"
  }
}
JSON
