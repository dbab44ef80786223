#!/usr/bin/env bash
# Run a command with the secrets in its environment: each variable named here is read from the file that NAME_FILE
# names, where that is set. For programs that know secrets as variables alone.
set -euo pipefail

for name in PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_TRACKING_PASSWORD; do
    file=${name}_FILE
    [ -n "${!file:-}" ] || continue
    if ! [ -s "${!file}" ] || ! [ -r "${!file}" ]; then
        echo "entrypoint.sh: $file is ${!file}, which is empty or cannot be read" >&2
        exit 2
    fi
    export "$name=$(cat "${!file}")"
done
exec "$@"
