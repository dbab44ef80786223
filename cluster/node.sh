#!/usr/bin/env bash
# One node of a Ray cluster, in the foreground; the arguments are those of `ray start`:
#
#   cluster/node.sh --head --dashboard-host 127.0.0.1
#   cluster/node.sh --address HEAD:6379
#
# SIGTERM is how a spot machine, `docker stop` and Kubernetes announce the end. The node is then drained first
# (cluster/drain.sh): trainings on it write a checkpoint before it goes.
set -uo pipefail

ray start "$@" --block &
node=$!

leave() {
    case " $* " in
        *" --head "*) ;; # nothing outlives the head, so there is nowhere to go
        *) "$(dirname "$0")/drain.sh" "$node" ;;
    esac
    kill -TERM "$node" 2>/dev/null
}
trap 'leave "$@"' TERM INT

status=0
while kill -0 "$node" 2>/dev/null; do # a trap ends `wait` before the node has ended
    wait "$node"
    status=$?
done
exit "$status"
