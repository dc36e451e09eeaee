#!/usr/bin/env python3
"""Makes golden/ from the events in a directory: what DuckDB answers to duckdb/qN.sql. docs/testing.md says when.

A golden file has a line with the number of rows and their hash, then the first five rows. Queries over windows have a second
such line, for the rows that are final: those of windows that the watermarks have passed. A row is a line of text, its cells
divided by tabs, as the test makes it too; numbers with a fraction have four places. The hash is FNV-1a's 64 bits over the
lines in the order of their bytes, each with its line feed.
"""

import datetime
import decimal
import pathlib
import re
import sys

import duckdb

HERE = pathlib.Path(__file__).parent
TABLES = {
    "person": "id BIGINT, name VARCHAR, email_address VARCHAR, credit_card VARCHAR, city VARCHAR, state VARCHAR, "
    "date_time TIMESTAMP, extra VARCHAR",
    "auction": "id BIGINT, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT, "
    "date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR",
    "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, extra VARCHAR",
}


def cell(value):
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return value or "(empty)"
    if isinstance(value, datetime.datetime):
        text = value.strftime("%Y-%m-%d %H:%M:%S.%f")
        return text.rstrip("0").rstrip(".")
    if isinstance(value, (float, decimal.Decimal)):
        return f"{value:.4f}"
    assert type(value) is int, value
    return str(value)


def lines(rows):
    return ["\t".join(map(cell, row)) for row in rows]


def summary(which, lines):
    value = 0xCBF29CE484222325
    for line in lines:
        for byte in line.encode() + b"\n":
            value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{which}: {len(lines)} rows, hash {value:016x}"


def main(events):
    golden = HERE / "golden"
    db = duckdb.connect()
    for table, columns in TABLES.items():
        names = [column.split()[0] for column in columns.split(", ")]
        types = {name: column.split()[1] for name, column in zip(names, columns.split(", "))}
        # Numbered in the file's order: were they not, the test would miss the hash that follows.
        db.execute(
            f"CREATE TABLE {table} AS SELECT row_number() OVER () - 1 AS \"row\", * FROM read_csv("
            f"'{events}/{table}.txt', delim = '\t', quote = '', escape = '', header = false, columns = {types})"
        )
        read = lines(db.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY \"row\"").fetchall())
        (golden / f"{table}.txt").write_text(summary("all", read) + "\n")
    for path in sorted((HERE / "duckdb").glob("q*.sql")):
        sql = path.read_text()
        kinds = ["all", "final"] if "_watermark" in sql else ["all"]
        summaries, first = [], None
        for which in kinds:
            for table in TABLES:
                passed = "'infinity'::TIMESTAMP" if which == "all" else "max(date_time) - INTERVAL 4 SECOND"
                db.execute(f"SET VARIABLE {table}_watermark = (SELECT {passed} FROM {table} LIMIT 1)")
            rows = sorted(lines(db.execute(sql).fetchall()), key=str.encode)
            summaries.append(summary(which, rows))
            first = first or rows[:5]
            # For a diff with what the test leaves.
            name = path.stem if which == "all" else f"{path.stem}_final"
            (events / f"{name}.rows").write_text("".join(line + "\n" for line in rows))
        (golden / f"{path.stem}.txt").write_text("\n".join(summaries + first) + "\n")
        print(path.stem, *summaries, sep="\t")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
