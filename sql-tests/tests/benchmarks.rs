//! The queries of two benchmarks, TPC-H's 22 and Nexmark's 23, as views over tables whose rows come, change and go.
//!
//! ```text
//!   step:  some random upserts, updates and deletes, a crash now and then
//!          ── q1 … q22:  rows of the view  =  rows of its query  =  rows that PostgreSQL gives (with MILLRACE_POSTGRES)
//! ```
//!
//! The tables are tiny and their keys few, so that rows meet, and the same ones come again. Everything follows from a seed.
//! `nexmark.rs` has the same queries over streams, with results from elsewhere. TPC-H's tables and queries are those of the
//! specification of the Transaction Processing Performance Council, with other values to suit the tiny tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millrace_sql_tests::answer::Answer;
use millrace_sql_tests::millrace::{Database, run};
use millrace_sql_tests::postgres::{Connection, Scratch, Server};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const STEPS: usize = 6;
const CHANGES: usize = 40;

struct Benchmark {
    tables: Vec<String>,
    /// Rows that stay.
    rows: Vec<String>,
    queries: Vec<(String, String)>,
    change: fn(&mut StdRng) -> String,
    /// Of how many queries all rows may stay away in one run, the data being so few.
    empty_max: usize,
}

#[test]
fn tpch_with_one_worker() {
    follow(&tpch(), 1, 3);
}

#[test]
fn tpch_with_three_workers() {
    follow(&tpch(), 3, 1);
}

#[test]
fn nexmark_with_one_worker() {
    follow(&nexmark(), 1, 3);
}

#[test]
fn nexmark_with_three_workers() {
    follow(&nexmark(), 3, 1);
}

/// `then` workers go on after a crash in the middle.
fn follow(benchmark: &Benchmark, workers: usize, then: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started").block_on(async {
        let mut both = Both::create(workers).await;
        for table in &benchmark.tables {
            both.run(table).await;
        }
        for (name, query) in &benchmark.queries {
            both.run(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await;
        }
        for rows in &benchmark.rows {
            both.run(rows).await;
        }
        let mut rng = StdRng::seed_from_u64(workers as u64);
        let mut most = BTreeMap::new();
        for step in 0..STEPS {
            for _ in 0..CHANGES {
                both.run(&(benchmark.change)(&mut rng)).await;
            }
            if step == STEPS / 2 {
                both.database.crash_and_reopen(then).await.expect("a killed engine opens again");
            }
            for (name, query) in &benchmark.queries {
                let rows = both.compare(name, query, step).await;
                let most = most.entry(name.as_str()).or_insert(0);
                *most = rows.max(*most);
            }
        }
        both.database.verify().await.unwrap();
        let empty: Vec<_> = most.iter().filter(|(_, rows)| **rows == 0).map(|(name, _)| *name).collect();
        assert!(empty.len() <= benchmark.empty_max, "without a row all the time: {empty:?}");
        both.end().await;
    });
}

/// Millrace, and PostgreSQL if there is one.
struct Both {
    database: Database,
    postgres: Option<(Scratch, Connection)>,
}

impl Both {
    async fn create(workers: usize) -> Both {
        let database = Database::create(workers).expect("an empty directory opens");
        let postgres = match std::env::var("MILLRACE_POSTGRES") {
            Ok(server) => {
                let scratch = Server(server).scratch().await.expect("a database can be made");
                let connection = scratch.connect().await.expect("it can be connected to");
                Some((scratch, connection))
            }
            Err(_) => None,
        };
        Both { database, postgres }
    }

    async fn run(&mut self, sql: &str) {
        let ours = run(&mut self.database.session(), sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        if let Some((_, connection)) = &mut self.postgres {
            let theirs = connection.run(sql).await.unwrap_or_else(|e| panic!("PostgreSQL: {sql}: {e}"));
            assert_eq!(ours.count, theirs.count, "rows changed by {sql}");
        }
    }

    /// How many rows the view has; fails if they are not those of its query.
    async fn compare(&mut self, name: &str, query: &str, step: usize) -> usize {
        let view = format!("SELECT * FROM {name}");
        let mut session = self.database.session();
        let rows = sorted(run(&mut session, &view).await.unwrap_or_else(|e| panic!("{view}: {e}")));
        let batch = sorted(run(&mut session, query).await.unwrap_or_else(|e| panic!("{query}: {e}")));
        assert_eq!(rows, batch, "view {name} and its query, step {step}");
        if let Some((_, connection)) = &mut self.postgres {
            let theirs = sorted(connection.run(&view).await.unwrap_or_else(|e| panic!("PostgreSQL: {view}: {e}")));
            assert_eq!(rows, theirs, "view {name} and PostgreSQL's, step {step}");
        }
        rows.len()
    }

    async fn end(self) {
        if let Some((scratch, connection)) = self.postgres {
            drop(connection);
            scratch.drop_database().await.expect("the database can be dropped");
        }
    }
}

/// The rows in an order of their own, numbers by value to ten digits: PostgreSQL's have as many as they need.
fn sorted(answer: Answer) -> Vec<Vec<String>> {
    let plain = |cell: String| match cell.parse::<f64>() {
        Ok(number) if cell.bytes().all(|b| b.is_ascii_digit() || b".-".contains(&b)) => format!("{number:.9e}"),
        _ => cell,
    };
    let mut rows: Vec<Vec<String>> = answer.rows.into_iter().map(|row| row.into_iter().map(plain).collect()).collect();
    rows.sort_unstable();
    rows
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn one<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

fn words(rng: &mut StdRng) -> String {
    let words = [
        "green",
        "forest",
        "red",
        "blue",
        "special",
        "packages",
        "requests",
        "Customer",
        "Complaints",
        "ironic",
        "final",
    ];
    let count = rng.random_range(1..4);
    (0..count).map(|_| one(rng, &words)).collect::<Vec<_>>().join(" ")
}

fn money(rng: &mut StdRng, least: i64, most: i64) -> String {
    let cents = rng.random_range(least * 100..most * 100);
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

// ---- TPC-H ----

const SUPPLIERS: u32 = 6;
const PARTS: u32 = 10;
const CUSTOMERS: u32 = 12;
const ORDERS: u32 = 30;
const NATIONS: [&str; 6] = ["FRANCE", "GERMANY", "BRAZIL", "CANADA", "INDIA", "SAUDI ARABIA"];
const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
/// Table, columns of its key, all columns.
const TPCH: [(&str, usize, &[&str]); 6] = [
    ("supplier", 1, &["s_suppkey", "s_name", "s_address", "s_nationkey", "s_phone", "s_acctbal", "s_comment"]),
    (
        "part",
        1,
        &["p_partkey", "p_name", "p_mfgr", "p_brand", "p_type", "p_size", "p_container", "p_retailprice", "p_comment"],
    ),
    ("partsupp", 2, &["ps_partkey", "ps_suppkey", "ps_availqty", "ps_supplycost", "ps_comment"]),
    (
        "customer",
        1,
        &["c_custkey", "c_name", "c_address", "c_nationkey", "c_phone", "c_acctbal", "c_mktsegment", "c_comment"],
    ),
    (
        "orders",
        1,
        &[
            "o_orderkey",
            "o_custkey",
            "o_orderstatus",
            "o_totalprice",
            "o_orderdate",
            "o_orderpriority",
            "o_clerk",
            "o_shippriority",
            "o_comment",
        ],
    ),
    (
        "lineitem",
        2,
        &[
            "l_orderkey",
            "l_linenumber",
            "l_partkey",
            "l_suppkey",
            "l_quantity",
            "l_extendedprice",
            "l_discount",
            "l_tax",
            "l_returnflag",
            "l_linestatus",
            "l_shipdate",
            "l_commitdate",
            "l_receiptdate",
            "l_shipinstruct",
            "l_shipmode",
            "l_comment",
        ],
    ),
];

fn tpch() -> Benchmark {
    let tables = read("tpch/tables.sql");
    let nations = NATIONS.iter().enumerate().map(|(i, name)| format!("({i}, '{name}', {}, '')", i % REGIONS.len()));
    let regions = REGIONS.iter().enumerate().map(|(i, name)| format!("({i}, '{name}', '')"));
    Benchmark {
        tables: tables.split(';').map(str::trim).filter(|table| !table.is_empty()).map(str::to_string).collect(),
        rows: vec![
            format!("INSERT INTO region VALUES {}", regions.collect::<Vec<_>>().join(", ")),
            format!("INSERT INTO nation VALUES {}", nations.collect::<Vec<_>>().join(", ")),
        ],
        queries: (1..=22).map(|n| (format!("q{n}"), read(&format!("tpch/q{n}.sql")))).collect(),
        change: tpch_change,
        empty_max: 3,
    }
}

fn tpch_key(rng: &mut StdRng, table: &str) -> Vec<u32> {
    match table {
        "supplier" => vec![rng.random_range(0..SUPPLIERS)],
        "part" => vec![rng.random_range(0..PARTS)],
        "partsupp" => vec![rng.random_range(0..PARTS), rng.random_range(0..SUPPLIERS)],
        "customer" => vec![rng.random_range(0..CUSTOMERS)],
        "orders" => vec![rng.random_range(0..ORDERS)],
        _ => vec![rng.random_range(0..ORDERS), rng.random_range(0..4)],
    }
}

/// The columns after the key, as literals.
fn tpch_values(rng: &mut StdRng, table: &str, key: &[u32]) -> Vec<String> {
    let text = |text: String| format!("'{text}'");
    let nation = |rng: &mut StdRng| rng.random_range(0..NATIONS.len()).to_string();
    let phone =
        |rng: &mut StdRng| format!("'{}-{}'", one(rng, &["13", "31", "23", "29", "99"]), rng.random_range(0..999));
    let date = |rng: &mut StdRng| format!("date '1993-01-01' + {}", rng.random_range(0..5 * 365));
    let number = |rng: &mut StdRng, most: u32| rng.random_range(1..most).to_string();
    match table {
        "supplier" => vec![
            format!("'Supplier#{}'", key[0]),
            text(words(rng)),
            nation(rng),
            phone(rng),
            money(rng, -900, 9000),
            text(words(rng)),
        ],
        "part" => vec![
            text(words(rng)),
            format!("'Mfgr#{}'", rng.random_range(1..3)),
            format!("'Brand#{}'", one(rng, &["12", "23", "45"])),
            format!(
                "'{} {} {}'",
                one(rng, &["ECONOMY", "PROMO", "MEDIUM"]),
                one(rng, &["ANODIZED", "PLATED"]),
                one(rng, &["BRASS", "STEEL"])
            ),
            one(rng, &["1", "3", "9", "14", "15", "19", "23", "36", "45", "49"]).into(),
            format!("'{}'", one(rng, &["SM CASE", "SM BOX", "MED BOX", "MED BAG", "LG CASE"])),
            money(rng, 1, 100),
            text(words(rng).chars().take(20).collect()),
        ],
        "partsupp" => vec![number(rng, 200), money(rng, 1, 50), text(words(rng))],
        "customer" => vec![
            format!("'Customer#{}'", key[0]),
            text(words(rng)),
            nation(rng),
            phone(rng),
            money(rng, -900, 9000),
            format!("'{}'", one(rng, &["BUILDING", "AUTO"])),
            text(words(rng)),
        ],
        // Some are of nobody.
        "orders" => vec![
            rng.random_range(0..CUSTOMERS + 3).to_string(),
            format!("'{}'", one(rng, &["F", "O", "P"])),
            money(rng, 10, 5000),
            date(rng),
            format!("'{}'", one(rng, &["1-URGENT", "2-HIGH", "3-MEDIUM"])),
            "'Clerk'".into(),
            "0".into(),
            text(words(rng)),
        ],
        _ => vec![
            rng.random_range(0..PARTS).to_string(),
            rng.random_range(0..SUPPLIERS).to_string(),
            number(rng, 50),
            money(rng, 1, 1000),
            one(rng, &["0", "0.05", "0.06", "0.07", "0.1"]).into(),
            one(rng, &["0", "0.02"]).into(),
            format!("'{}'", one(rng, &["R", "A", "N"])),
            format!("'{}'", one(rng, &["O", "F"])),
            date(rng),
            date(rng),
            date(rng),
            format!("'{}'", one(rng, &["DELIVER IN PERSON", "NONE"])),
            format!("'{}'", one(rng, &["AIR", "AIR REG", "MAIL", "SHIP"])),
            text(words(rng)),
        ],
    }
}

fn tpch_change(rng: &mut StdRng) -> String {
    let at = match rng.random_range(0..14) {
        0..7 => 5,
        7..10 => 4,
        other => other - 10,
    };
    let (table, key_width, columns) = TPCH[at];
    let mut keys: Vec<Vec<u32>> = (0..[1, 1, 3, 20][rng.random_range(0..4)]).map(|_| tpch_key(rng, table)).collect();
    keys.sort_unstable();
    keys.dedup();
    let is_key = |key: &Vec<u32>| {
        let parts = key.iter().zip(columns).map(|(value, column)| format!("{column} = {value}"));
        format!("({})", parts.collect::<Vec<_>>().join(" AND "))
    };
    let condition = keys.iter().map(is_key).collect::<Vec<_>>().join(" OR ");
    match rng.random_range(0..20) {
        0..14 => {
            let row = |key: &Vec<u32>, rng: &mut StdRng| {
                let values = tpch_values(rng, table, key);
                let all: Vec<String> = key.iter().map(u32::to_string).chain(values).collect();
                format!("({})", all.join(", "))
            };
            let rows: Vec<String> = keys.iter().map(|key| row(key, rng)).collect();
            let set = columns[key_width..].iter().map(|c| format!("{c} = excluded.{c}")).collect::<Vec<_>>().join(", ");
            let action = if rng.random_bool(0.3) { "NOTHING".to_string() } else { format!("UPDATE SET {set}") };
            format!(
                "INSERT INTO {table} ({}) VALUES {} ON CONFLICT ({}) DO {action}",
                columns.join(", "),
                rows.join(", "),
                columns[..key_width].join(", ")
            )
        }
        14..17 => format!("DELETE FROM {table} WHERE {condition}"),
        _ => {
            let values = tpch_values(rng, table, &keys[0]);
            let column = rng.random_range(0..values.len());
            format!("UPDATE {table} SET {} = {} WHERE {condition}", columns[key_width + column], values[column])
        }
    }
}

// ---- Nexmark ----

const PERSONS: u32 = 8;
const AUCTIONS: u32 = 12;

/// The queries over tables, which have no watermarks; bids have no key, and some are there twice.
fn nexmark() -> Benchmark {
    let tables = [
        "person (id bigint PRIMARY KEY, name text, email_address text, credit_card text, city text, state text, \
         date_time timestamp, extra text)",
        "auction (id bigint PRIMARY KEY, item_name text, description text, initial_bid bigint, reserve bigint, \
         date_time timestamp, expires timestamp, seller bigint, category bigint, extra text)",
        "bid (auction bigint, bidder bigint, price bigint, channel text, url text, date_time timestamp, extra text, \
         p_time timestamp)",
        "side (key bigint PRIMARY KEY, value text)",
    ];
    let query = |n: usize| {
        let folder = if [12, 13].contains(&n) { "nexmark" } else { "../benches/queries" };
        // PostgreSQL's forms of the windows are made from the text without what describes it.
        let text = read(&format!("{folder}/q{n}.sql"));
        text.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
    };
    Benchmark {
        tables: tables.iter().map(|table| format!("CREATE TABLE {table}")).collect(),
        rows: vec!["INSERT INTO side SELECT n, 'value ' || n FROM generate_series(0, 8) AS g(n)".into()],
        queries: (0..=22).map(|n| (format!("q{n}"), query(n))).collect(),
        change: nexmark_change,
        empty_max: 2,
    }
}

fn nexmark_change(rng: &mut StdRng) -> String {
    let time =
        |rng: &mut StdRng| format!("timestamp '2015-07-15 23:59:00' + interval '{} s'", rng.random_range(0..120));
    match rng.random_range(0..20) {
        0..4 => {
            let id = rng.random_range(0..PERSONS);
            if rng.random_bool(0.25) {
                return format!("DELETE FROM person WHERE id = {id}");
            }
            format!(
                "INSERT INTO person VALUES ({id}, '{}', 'a@b.c', '1234', '{}', '{}', {}, 'x') ON CONFLICT (id) DO UPDATE \
                 SET name = excluded.name, city = excluded.city, state = excluded.state, date_time = excluded.date_time",
                words(rng),
                one(rng, &["Boise", "Portland"]),
                one(rng, &["OR", "ID", "CA", "WA"]),
                time(rng)
            )
        }
        4..8 => {
            let id = rng.random_range(0..AUCTIONS) * 41;
            if rng.random_bool(0.25) {
                return format!("DELETE FROM auction WHERE id = {id}");
            }
            format!(
                "INSERT INTO auction VALUES ({id}, '{}', 'd', {}, 5, {}, timestamp '2015-07-16 00:01:00' + interval '{} s', \
                 {}, {}, 'x') ON CONFLICT (id) DO UPDATE SET item_name = excluded.item_name, seller = excluded.seller, \
                 category = excluded.category, date_time = excluded.date_time, expires = excluded.expires",
                words(rng),
                rng.random_range(1..100),
                time(rng),
                rng.random_range(0..60),
                rng.random_range(0..PERSONS),
                rng.random_range(9..12)
            )
        }
        8..15 => {
            let bid = |rng: &mut StdRng| {
                format!(
                    "({}, {}, {}, '{}', 'https://www.nexmark.com/{}/item.htm?query=1&channel_id={}', {}, '{}', {})",
                    rng.random_range(0..AUCTIONS) * 41,
                    rng.random_range(0..PERSONS),
                    [100, 5000, 20_000, 1_200_000, 3_000_000][rng.random_range(0..5)] + rng.random_range(0..3),
                    one(rng, &["apple", "google", "facebook", "baidu", "channel-7"]),
                    one(rng, &["abo/de/fgh", "x"]),
                    rng.random_range(0..5),
                    time(rng),
                    one(rng, &["c", "cc", "abc"]),
                    time(rng)
                )
            };
            let mut rows: Vec<String> = (0..rng.random_range(1..5)).map(|_| bid(rng)).collect();
            if rng.random_bool(0.2) {
                rows.push(rows[0].clone());
            }
            format!("INSERT INTO bid VALUES {}", rows.join(", "))
        }
        15 | 16 => format!(
            "DELETE FROM bid WHERE auction = {} AND bidder < {}",
            rng.random_range(0..AUCTIONS) * 41,
            rng.random_range(0..PERSONS)
        ),
        17 => format!("DELETE FROM bid WHERE bidder = {} AND price < 50000", rng.random_range(0..PERSONS)),
        18 => format!(
            "UPDATE bid SET price = price + 1, bidder = (bidder + 1) % {PERSONS} WHERE auction = {}",
            rng.random_range(0..AUCTIONS) * 41
        ),
        _ => format!(
            "UPDATE auction SET expires = expires - interval '30 s', category = 10 WHERE seller = {}",
            rng.random_range(0..PERSONS)
        ),
    }
}
