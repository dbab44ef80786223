#!/usr/bin/env bash
# On a spot machine of AWS: wait for the notice, which comes two minutes before the end, and drain the Ray node.
# `ray up` starts it beside the node; in Compose and Kubernetes the end is a SIGTERM and needs no watching.
set -uo pipefail
metadata=http://169.254.169.254/latest

ask() { curl --silent --fail --max-time 2 "$@"; }

while sleep "${ARAE_SPOT_SECONDS:-5}"; do
    token=$(ask --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/api/token") || continue
    if ask --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/spot/instance-action"; then
        echo "spot.sh: this machine is taken back"
        exec "$(dirname "$0")/drain.sh"
    fi
done
