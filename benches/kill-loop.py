#!/usr/bin/env python3
"""Kills a server under load with SIGKILL, again and again, and looks each time whether it lost or doubled anything.

    cargo build --release && benches/kill-loop.py --kills 100

Needs psycopg 3. The load: writers that insert numbers into a stream, one statement or one transaction at a time; one
that moves money between the rows of a table; one that makes and drops views; checkpoints every second. After each
restart:

  * every acknowledged number is there once; of a statement that got no answer all numbers are there, or none;
  * no money was made or lost, and acknowledged transfers are counted;
  * a view whose making or dropping was acknowledged is there or is not;
  * VERIFY finds no difference in any view.

Every tenth time the server is stopped in order instead, and `millrace check` reads the whole directory. It ends with 1
at the first thing that is wrong, keeps the directory, and prints the seed.
"""

import argparse, os, random, shutil, signal, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path

import psycopg

WRITERS, ACCOUNTS, BALANCE = 3, 50, 1000


class Server:
    def __init__(self, program, directory):
        self.program, self.directory, self.process = program, directory, None

    def start(self, workers):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        arguments = ["--pg-addr", f"127.0.0.1:{self.port}", "--http-addr", "127.0.0.1:0", "--checkpoint-seconds", "1"]
        log = open(f"{self.directory}.log", "a")
        self.process = subprocess.Popen(
            [self.program, "serve", "--data-dir", self.directory, "--workers", str(workers), "--log", "warn", *arguments],
            stdout=subprocess.DEVNULL, stderr=log)
        end = time.time() + 120
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None:
                    wrong(f"the server ended with {self.process.returncode} at its start")
                if time.time() > end:
                    wrong("the server does not answer")
                time.sleep(0.02)

    def connect(self):
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=loop dbname=millrace", autocommit=True)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()


def wrong(what):
    print(f"WRONG: {what}\nseed {options.seed}; the directory is kept: {server.directory}", flush=True)
    if server.process and server.process.poll() is None:
        server.process.kill()
    os._exit(1)


class Load(threading.Thread):
    """One client; ends when its connection does."""

    def __init__(self, state, random):
        super().__init__(daemon=True)
        self.state, self.random = state, random
        self.start()

    def run(self):
        try:
            with server.connect() as connection:
                while True:
                    self.step(connection)
        except psycopg.OperationalError:
            pass
        except psycopg.Error as error:
            # 57P01 and its like: the server is going.
            if not (error.sqlstate or "57").startswith(("57", "08")):
                wrong(f"{type(self).__name__}: {error}")


class Writer(Load):
    def step(self, connection):
        state, n = self.state, self.random.choice([1, 1, 3, 50])
        state["asked"] = range(state["next"], state["next"] + n)
        rows = ", ".join(f"({state['id']}, {seq})" for seq in state["asked"])
        if self.random.random() < 0.3:
            with connection.transaction():
                half = n // 2
                for part in [state["asked"][:half], state["asked"][half:]]:
                    if part:
                        rows = ", ".join(f"({state['id']}, {seq})" for seq in part)
                        connection.execute(f"INSERT INTO events VALUES {rows}")
        else:
            connection.execute(f"INSERT INTO events VALUES {rows}")
        state["next"] += n


class Transfers(Load):
    def step(self, connection):
        a, b = self.random.sample(range(ACCOUNTS), 2)
        self.state["asked"] = self.state["done"] + 1
        try:
            with connection.transaction():
                connection.execute(f"UPDATE accounts SET v = v - 7 WHERE id = {a}")
                connection.execute(f"UPDATE accounts SET v = v + 7 WHERE id = {b}")
                connection.execute("UPDATE transfers SET n = n + 1")
        except psycopg.errors.SerializationFailure:
            return
        self.state["done"] += 1


class Views(Load):
    QUERIES = [
        "SELECT v % 10 AS last, count(*) AS n, max(id) AS most FROM accounts GROUP BY 1",
        "SELECT writer, count(*) AS n, min(seq) AS first FROM events GROUP BY writer",
        "SELECT e.seq, a.v FROM events e JOIN accounts a ON e.seq = a.id",
        "SELECT * FROM accounts ORDER BY v DESC LIMIT 5",
    ]

    def step(self, connection):
        state = self.state
        if state["there"] and (len(state["there"]) > 5 or self.random.random() < 0.4):
            name = self.random.choice(sorted(state["there"]))
            state["asked"] = name
            connection.execute(f"DROP MATERIALIZED VIEW {name}")
            state["there"].discard(name)
        else:
            state["made"] += 1
            name = f"made{state['made']}"
            state["asked"] = name
            connection.execute(f"CREATE MATERIALIZED VIEW {name} AS {self.random.choice(self.QUERIES)}")
            state["there"].add(name)
        state["asked"] = None
        time.sleep(self.random.random() * 0.05)


def check(writers, transfers, views):
    with server.connect() as connection:
        one = lambda query: connection.execute(query).fetchone()
        for state in writers:
            n, distinct, first, last = one(
                f"SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM events WHERE writer = {state['id']}")
            if n != distinct:
                wrong(f"writer {state['id']}: {n - distinct} numbers are there twice")
            if n and (first != 0 or last != n - 1):
                wrong(f"writer {state['id']}: {n} numbers from {first} to {last}")
            possible = {state["next"], state["asked"].stop if state["asked"] else 0}
            if n not in possible:
                wrong(f"writer {state['id']}: {n} numbers, {state['next']} acknowledged, asked {state['asked']}")
            state["next"] = n
        n, total = one("SELECT count(*), sum(v) FROM accounts")
        if (n, total) != (ACCOUNTS, ACCOUNTS * BALANCE):
            wrong(f"{n} accounts with {total}")
        done = one("SELECT n FROM transfers")[0]
        if done not in (transfers["done"], transfers["asked"]):
            wrong(f"{done} transfers, {transfers['done']} acknowledged")
        transfers["done"] = done
        names = {row[1] for row in connection.execute("SHOW MATERIALIZED VIEWS").fetchall()}
        made = {name for name in names if name.startswith("made")}
        if made ^ views["there"] - {views["asked"]}:
            differs = (made ^ views["there"]) - {views["asked"]}
            if differs:
                wrong(f"views {differs} are there and should not be, or the other way round")
        views["there"] = made
        for name in names:
            rows = connection.execute(f"VERIFY MATERIALIZED VIEW {name}").fetchall()
            if rows:
                wrong(f"view {name} differs from its query in {len(rows)} rows: {rows[:5]}")
    return sum(state["next"] for state in writers), done, len(names)


def main():
    rng = random.Random(options.seed)
    server.start(2)
    with server.connect() as connection:
        for statement in [
            "CREATE STREAM events (writer int, seq int)",
            "CREATE TABLE accounts (id int PRIMARY KEY, v bigint)",
            "CREATE TABLE transfers (n bigint)",
            f"INSERT INTO accounts SELECT i, {BALANCE} FROM generate_series(0, {ACCOUNTS - 1}) g(i)",
            "INSERT INTO transfers VALUES (0)",
            "CREATE MATERIALIZED VIEW per_writer AS SELECT writer, count(*) AS n, max(seq) AS last FROM events GROUP BY writer",
            "CREATE MATERIALIZED VIEW total AS SELECT sum(v) AS v FROM accounts",
            "CREATE MATERIALIZED VIEW above AS SELECT sum(n) AS n FROM per_writer",
        ]:
            connection.execute(statement)
    writers = [{"id": i, "next": 0, "asked": None} for i in range(WRITERS)]
    transfers, views = {"done": 0, "asked": 0}, {"there": set(), "made": 0, "asked": None}
    began = time.time()
    for n in range(1, options.kills + 1):
        new = lambda: random.Random(rng.random())
        load = [Writer(state, new()) for state in writers] + [Transfers(transfers, new()), Views(views, new())]
        time.sleep(rng.uniform(0.1, 1.5))
        orderly = n % 10 == 0
        server.end(signal.SIGTERM if orderly else signal.SIGKILL)
        for client in load:
            client.join(30)
        if orderly:
            done = subprocess.run([server.program, "check", server.directory], capture_output=True, text=True)
            if done.returncode != 0:
                wrong(done.stdout + done.stderr)
        since = time.time()
        server.start(rng.choice([1, 2, 3]))
        took = time.time() - since
        rows, done, names = check(writers, transfers, views)
        print(f"{n}: {rows} rows, {done} transfers, {names} views; up again after {took:.2f} s", flush=True)
    server.end(signal.SIGTERM)
    print(f"{options.kills} kills in {time.time() - began:.0f} s: nothing lost, nothing doubled, every view equal to its query")
    shutil.rmtree(server.directory)
    os.unlink(f"{server.directory}.log")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=str(Path(__file__).parent.parent / "target/release/millrace"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    server = Server(options.server, tempfile.mkdtemp(prefix="millrace-kill-"))
    main()
