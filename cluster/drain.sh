#!/usr/bin/env bash
# Drain the Ray node of this machine: announce that it will stop in $ARAE_DRAIN_SECONDS (30), and wait at most that long
# for its tasks to finish. With a PID as argument: drain the node started by that `ray start --block` process.
#
# Trainings with a worker on the node write a checkpoint immediately and resume from it on other nodes.
set -uo pipefail
seconds=${ARAE_DRAIN_SECONDS:-30}

children() { # print the child processes of $1, read from /proc because slim images have no pgrep
    local stat line
    for stat in /proc/[0-9]*/stat; do
        line=$(cat "$stat" 2>/dev/null) || continue
        set -- "$1" ${line##*) } # the fields after the name in parentheses: state, parent
        if [ "$3" = "$1" ]; then basename "$(dirname "$stat")"; fi
    done
}

raylet=
if [ $# -gt 0 ]; then processes=$(children "$1"); else processes=$(ls /proc | grep '^[0-9]*$'); fi
for process in $processes; do
    [ "$(cat "/proc/$process/comm" 2>/dev/null)" = raylet ] && raylet=$process
done
if [ -z "$raylet" ]; then
    echo "drain.sh: no Ray node is running on this machine" >&2
    exit 1
fi
flag() { tr '\0' '\n' < "/proc/$raylet/cmdline" | sed -n "s/^--$1=//p"; }

ray drain-node --address "$(flag gcs-address)" --node-id "$(flag node_id)" \
    --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "the machine is shutting down" \
    --deadline-remaining-seconds "$seconds" || exit 1

for ((waited = 0; waited < seconds; waited++)); do
    busy=0
    for process in $(children "$raylet"); do
        case $(tr '\0' ' ' < "/proc/$process/cmdline" 2>/dev/null) in
            ray::IDLE* | ray::Dashboard* | ray::RuntimeEnv* | "") ;;
            ray::*) busy=1 ;;
        esac
    done
    [ "$busy" = 0 ] && break
    sleep 1
done
