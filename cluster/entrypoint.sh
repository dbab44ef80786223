#!/usr/bin/env bash
# Run a command with secrets in its environment: for each variable NAME below, if NAME_FILE is set, read NAME from that
# file. This serves programs that accept secrets only as environment variables.
set -euo pipefail

for name in PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_TRACKING_PASSWORD; do
    file=${name}_FILE
    [ -n "${!file:-}" ] || continue
    if ! [ -s "${!file}" ] || ! [ -r "${!file}" ]; then
        echo "entrypoint.sh: $file must name a readable file that is not empty, got ${!file}" >&2
        exit 2
    fi
    export "$name=$(cat "${!file}")"
done
exec "$@"
