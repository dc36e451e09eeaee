#!/bin/sh
# COPY of the same bids into PostgreSQL, for comparison: a logged table, seven columns, CSV.
# Usage: postgres-copy.sh BID.CSV     (nexmark-data --csv DIR writes DIR/bid.csv)
# Starts a PostgreSQL of its own in a fresh directory, with default settings, and removes it again.
# As root it runs as the user postgres, as PostgreSQL insists.
set -eu

csv=$(readlink -f "${1:?usage: postgres-copy.sh BID.CSV}")
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)}
[ -x "$bin/initdb" ] || bin=$(dirname "$(command -v initdb)") || { echo "no PostgreSQL here" >&2; exit 2; }

dir=$(mktemp -d)
as=""
if [ "$(id -u)" = 0 ]; then
  chown postgres "$dir"
  as="setpriv --reuid=postgres --regid=postgres --init-groups"
fi
trap '$as "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1; rm -rf "$dir"' EXIT
cd "$dir"
$as "$bin/initdb" -D "$dir/data" -U postgres -A trust >/dev/null
$as "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "-k '$dir' -c listen_addresses=''" -w start >/dev/null

# The client sends the file, as psql's users do; the server's CPU time is that of its backend.
psql -q -h "$dir" -U postgres -v ON_ERROR_STOP=1 <<SQL
CREATE TABLE bid (auction bigint, bidder bigint, price bigint, channel text, url text, date_time timestamp, extra text);
SELECT pg_backend_pid() AS pid \gset
SELECT split_part(pg_read_file('/proc/' || :pid || '/stat'), ') ', 2) AS stat, clock_timestamp() AS began \gset before_
\copy bid FROM '$csv' WITH (FORMAT csv, HEADER true)
SELECT split_part(pg_read_file('/proc/' || :pid || '/stat'), ') ', 2) AS stat, clock_timestamp() AS ended \gset after_
\pset format unaligned
\pset footer off
SELECT rows, round(rows / wall_s) AS rows_per_s, round(rows / cpu_s) AS rows_per_server_cpu_s
FROM (SELECT count(*) AS rows FROM bid) counted,
     (SELECT extract(epoch FROM :'after_ended'::timestamptz - :'before_began'::timestamptz) AS wall_s,
             (split_part(:'after_stat', ' ', 12)::numeric + split_part(:'after_stat', ' ', 13)::numeric
              - split_part(:'before_stat', ' ', 12)::numeric - split_part(:'before_stat', ' ', 13)::numeric) / 100 AS cpu_s) used;
SQL
