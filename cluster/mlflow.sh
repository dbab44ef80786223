#!/usr/bin/env bash
# Run the MLflow server in the foreground, with password authentication and proxied artifacts.
#
# MLFLOW_BACKEND_STORE_URI        database; default: the Postgres of PGHOST, PGDATABASE, PGUSER and PGPASSWORD
# MLFLOW_ARTIFACTS_DESTINATION    folder or s3://BUCKET/FOLDER
# MLFLOW_AUTH_ADMIN_PASSWORD      password of the user admin, used only when the database is new
# MLFLOW_FLASK_SERVER_SECRET_KEY  key that signs the sign-up forms
set -euo pipefail

for name in MLFLOW_ARTIFACTS_DESTINATION MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
    if [ -z "${!name:-}" ]; then
        echo "mlflow.sh: $name must be set" >&2
        exit 2
    fi
done
# A URI without a host makes libpq read its PG* variables, so no password appears on a command line.
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI:-postgresql+psycopg2://}

# Users and permissions are in separate tables of the same database. New users have no permissions until granted.
MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH
cat > "$MLFLOW_AUTH_CONFIG_PATH" <<EOF
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = ${MLFLOW_BACKEND_STORE_URI//%/%%}
admin_username = admin
EOF
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers "${MLFLOW_WORKERS:-2}"
