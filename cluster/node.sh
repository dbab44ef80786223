#!/usr/bin/env bash
# Run a Ray node in the foreground; takes the arguments of `ray start`:
#
#   cluster/node.sh --head --dashboard-host 127.0.0.1
#   cluster/node.sh --address HEAD:6379
#
# Spot machines, `docker stop` and Kubernetes announce the end with SIGTERM. The node is then drained (cluster/drain.sh),
# so that trainings on it write a checkpoint before it stops.
set -uo pipefail

ray start "$@" --block &
node=$!

leave() {
    case " $* " in
        *" --head "*) ;; # do not drain the head: the cluster ends with it
        *) "$(dirname "$0")/drain.sh" "$node" ;;
    esac
    kill -TERM "$node" 2>/dev/null
}
trap 'leave "$@"' TERM INT

status=0
while kill -0 "$node" 2>/dev/null; do # a trap interrupts `wait` while the node is still running
    wait "$node"
    status=$?
done
exit "$status"
