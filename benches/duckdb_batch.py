#!/usr/bin/env python3
"""One batch run of a query with DuckDB, on one thread, from the files to the whole result in memory.

    python3 benches/duckdb_batch.py bid=/tmp/nexmark/bid.parquet:920000 < benches/queries/q17.sql

The query comes on standard input. A table is given as name=file:rows, of which the first `rows` rows are taken, or all
without a number. Measured is what happens from the query's text until its rows are in a temporary table: planning, reading
the columns that it needs, and running it; CPU time is the process's, user and system. Answers one JSON object.
"""

import json
import sys
import time

import duckdb


def main(tables):
    sql = sys.stdin.read().strip().rstrip(";")
    db = duckdb.connect()
    db.execute("SET threads = 1")
    # It would be printed between the lines of the answer.
    db.execute("SET enable_progress_bar = false")
    # A result's order means nothing here, and to keep it would cost DuckDB something.
    db.execute("SET preserve_insertion_order = false")
    for table in tables:
        name, _, source = table.partition("=")
        path, _, rows = source.partition(":")
        limit = f" LIMIT {int(rows)}" if rows else ""
        db.execute(f"CREATE VIEW {name} AS FROM '{path}'{limit}")
    for name in ("person", "auction", "bid"):
        # The tests' texts can leave out windows that the watermarks have not passed: here they have passed all.
        db.execute(f"SET VARIABLE {name}_watermark = 'infinity'::TIMESTAMP")
    wall, cpu = time.perf_counter(), time.process_time()
    db.execute(f"CREATE TEMPORARY TABLE result AS {sql}")
    report = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    report["rows_out"] = db.execute("SELECT count(*) FROM result").fetchone()[0]
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
