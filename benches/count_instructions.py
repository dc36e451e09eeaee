#!/usr/bin/env python3
"""Counts the instructions that maintaining a Nexmark query takes per event, and compares them with instructions.txt.

    python3 benches/count_instructions.py target/release/nexmark             # fails when one has become too many
    python3 benches/count_instructions.py target/release/nexmark --update    # writes the file

CPU time depends on the machine and on what else it does; instructions hardly do. Each query runs under valgrind's
callgrind (the cheapest of its tools that counts all threads) over two numbers of events, at the same time. The difference,
by event, is free of all that happens once: start-up, planning, shutdown. Reading the files is in it, as it is in `cpu_s`.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
FILE = HERE / "instructions.txt"
QUERIES = ["q0", "q3", "q4", "q5", "q9", "q17", "q18", "q19", "q20"]
FEW, MANY = 20_000, 80_000
# q3 reads 8 % of the events: with more of them, what varies is small against what is counted.
MORE = {"q3": 400_000}
# From run to run counts vary by less than one percent: threads meet differently, and rows are batched differently.
TOLERANCE = 0.10
HEADER = """\
# Instructions per event, by query: what `make bench-count` compares with, and `make bench-count UPDATE=1` writes.
# Of an optimised build. A dependency's or the compiler's new version may change them too.
"""


def start(nexmark, query, events, files, log):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", nexmark]
    command += ["--side", "maintain", "--unchecked", "--queries", query, "--events", str(events), "--input", files]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


def counted(nexmark, query, files):
    """Instructions per event."""
    events = (FEW, MORE.get(query, MANY))
    with tempfile.TemporaryFile("w+") as few, tempfile.TemporaryFile("w+") as many:
        logs = (few, many)
        processes = [start(nexmark, query, n, files, log) for n, log in zip(events, logs)]
        totals = []
        for process, log in zip(processes, logs):
            code = process.wait(timeout=600)
            log.seek(0)
            text = log.read()
            found = re.search(r"Collected : (\d+)", text)
            if code != 0 or not found:
                sys.exit(f"{query}: valgrind ended with {code}:\n{text}")
            totals.append(int(found.group(1)))
    return (totals[1] - totals[0]) / (events[1] - events[0])


def read():
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return {query: int(count) for query, count in (line.split() for line in lines if line and not line.startswith("#"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nexmark", help="the program, built in release")
    parser.add_argument("--update", action="store_true", help="write the file instead of comparing with it")
    parser.add_argument("--queries", default=",".join(QUERIES))
    args = parser.parse_args()
    nexmark = pathlib.Path(args.nexmark).resolve()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: install it (on Debian and Ubuntu the package of that name) and run this again")
    before, now, failed = read(), {}, []
    with tempfile.TemporaryDirectory() as files:
        most = max(MANY, *MORE.values())
        subprocess.run([nexmark.with_name("nexmark-data"), "--events", str(most), files], check=True)
        for query in args.queries.split(","):
            now[query] = round(counted(nexmark, query, files))
            change = now[query] / before[query] - 1 if query in before else None
            told = "" if change is None else f"  {change:+.1%}"
            print(f"{query:<5} {now[query]:>9,} instructions per event{told}", flush=True)
            if change is not None and change > TOLERANCE:
                failed.append(query)
    if args.update:
        lines = "".join(f"{query} {count}\n" for query, count in {**before, **now}.items())
        FILE.write_text(HEADER + lines)
        return
    unknown = [query for query in now if query not in before]
    if unknown:
        print(f"not in {FILE.name} yet: {', '.join(unknown)}")
    if failed:
        sys.exit(f"more than {TOLERANCE:.0%} above {FILE.name}: {', '.join(failed)}")


if __name__ == "__main__":
    main()
