# POSTGRES_PASSWORD and POSTGRES_INITDB_ARGS as in the official image: create the cluster once, then run.
set -eu
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?must be given}"
    (umask 077 && echo "$POSTGRES_PASSWORD" > /tmp/password)
    initdb --pgdata="$PGDATA" --username=postgres --pwfile=/tmp/password --auth=scram-sha-256 --no-instructions ${POSTGRES_INITDB_ARGS:-}
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=
