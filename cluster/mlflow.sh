#!/usr/bin/env bash
# MLflow's server, in the foreground: who may do what is asked by name and password, artifacts go through it.
#
# MLFLOW_BACKEND_STORE_URI        the database; by default the Postgres of PGHOST, PGDATABASE, PGUSER and PGPASSWORD
# MLFLOW_ARTIFACTS_DESTINATION    a folder or s3://BUCKET/FOLDER
# MLFLOW_AUTH_ADMIN_PASSWORD      of the user admin, taken when the database is new
# MLFLOW_FLASK_SERVER_SECRET_KEY  signs the forms of the page for new users
set -euo pipefail

for name in MLFLOW_ARTIFACTS_DESTINATION MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
    if [ -z "${!name:-}" ]; then
        echo "mlflow.sh: $name is not set" >&2
        exit 2
    fi
done
# Without a host in it, the address leaves everything to libpq's variables: no password is on a command line.
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI:-postgresql+psycopg2://}

# Users and permissions are in the same database, in tables of their own. A user whom admin makes sees nothing at first.
MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH
cat > "$MLFLOW_AUTH_CONFIG_PATH" <<EOF
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = ${MLFLOW_BACKEND_STORE_URI//%/%%}
admin_username = admin
EOF
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers "${MLFLOW_WORKERS:-2}"
