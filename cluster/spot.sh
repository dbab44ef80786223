#!/usr/bin/env bash
# Wait for the interruption notice of an AWS spot instance, which comes two minutes ahead, then drain the Ray node.
# `ray up` starts this script beside the node. Compose and Kubernetes do not need it: they send SIGTERM.
set -uo pipefail
metadata=http://169.254.169.254/latest

ask() { curl --silent --fail --max-time 2 "$@"; }

while sleep "${ARAE_SPOT_SECONDS:-5}"; do
    token=$(ask --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/api/token") || continue
    if ask --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/spot/instance-action"; then
        echo "spot.sh: received an interruption notice, draining the node"
        exec "$(dirname "$0")/drain.sh"
    fi
done
