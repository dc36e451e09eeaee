//! How long a row takes from its INSERT until a view shows it, and how many rows per second are taken.
//!
//! ```text
//!   one row:   t0 ─ INSERT acknowledged ─ SELECT from the view, which shows it ─ t1       latency = t1 − t0
//! ```
//!
//! A SELECT sees everything that was acknowledged before it, so each round checks that the view has the row.
//! The view is a join and a GROUP BY. *Loaded* means that a second connection inserts 100 rows at a time
//! into the same stream meanwhile. *Crowded* (`--crowded`, with millions of rows, and only that) means that another
//! view is being made of a long stream, and a third one computes the median of one large group anew, again and again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use futures::SinkExt;
use millrace_benches::clients::Client;
use millrace_benches::embedded::{Embedded, Settings};
use millrace_benches::events::{self, Error, Format};
use millrace_benches::server::{self, Server};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: millrace_engine::allocator::Allocator = millrace_engine::allocator::Allocator;

/// Latency of a row to a view, INSERTs per second, COPY rows per second.
#[derive(Parser)]
struct Args {
    /// The `millrace` program; without it the one beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bids to COPY.
    #[arg(long, default_value_t = 460_000)]
    copy_rows: u64,
    /// One JSON object per figure instead of a table.
    #[arg(long)]
    json: bool,
    /// Only the engine in this process, without a server.
    #[arg(long)]
    embedded_only: bool,
    /// Latency while one view is made of a stream of so many million rows, and another computes a group of a tenth of that
    /// anew with each change.
    #[arg(long)]
    crowded: Option<i64>,
}

impl Args {
    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

const SETUP: &[&str] = &[
    "CREATE TABLE customer (id bigint PRIMARY KEY, region bigint)",
    "INSERT INTO customer SELECT i, i % 100 FROM generate_series(0, 9999) AS g(i)",
    "CREATE STREAM purchase (id bigint, customer bigint, amount bigint)",
    "CREATE MATERIALIZED VIEW by_region AS SELECT c.region, count(*) AS purchases, sum(p.amount) AS amount \
     FROM purchase p JOIN customer c ON p.customer = c.id GROUP BY c.region",
];
const INSERT: &str = "INSERT INTO purchase VALUES ($1, $2, $3)";
const READ: &str = "SELECT purchases FROM by_region WHERE region = $1";
/// The measured rows are of this customer and so of this region; the load leaves both alone.
const CUSTOMER: i64 = 42;

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(millions) = args.crowded {
        return runtime.block_on(crowded(&args, millions));
    }
    for sync in [true, false] {
        let engine = Embedded::open(Settings { workers: 1, log: true, sync, checkpoint: true })?;
        runtime.block_on(async {
            let connect = async || Ok(Client::embedded(engine.session()));
            set_up(connect().await?).await?;
            for loaded in [false, true] {
                latency("engine", &connect, sync, loaded, args.span()).await?.print(args.json);
            }
            engine.engine.shutdown().await?;
            Ok::<(), Error>(())
        })?;
    }
    match args.embedded_only {
        true => Ok(()),
        false => runtime.block_on(through_the_server(&args)),
    }
}

async fn through_the_server(args: &Args) -> Result<(), Error> {
    let program = server::program(args.server.clone())?;
    let span = args.span();
    let print = |figure: Figure| figure.print(args.json);
    for sync in [true, false] {
        let server = Server::start(&program, sync).await?;
        let connect = async || Client::connect(server.port).await;
        set_up(connect().await?).await?;
        for loaded in [false, true] {
            print(latency("pgwire", &connect, sync, loaded, span).await?);
        }
        for connections in [1, 16] {
            print(inserts(&connect, sync, connections, span).await?);
        }
        if sync {
            print(copy(&server, args.copy_rows).await?);
        }
    }
    Ok(())
}

/// One line of the report: a name, under what conditions, and numbers with their units.
struct Figure {
    name: &'static str,
    conditions: Vec<(&'static str, String)>,
    values: Vec<(&'static str, f64)>,
}

impl Figure {
    fn print(&self, as_json: bool) {
        if as_json {
            let mut object = json!({ "figure": self.name });
            for (key, value) in &self.conditions {
                object[*key] = json!(value);
            }
            for (key, value) in &self.values {
                object[*key] = json!(value);
            }
            println!("{object}");
        } else {
            let conditions: Vec<&str> = self.conditions.iter().map(|(_, value)| value.as_str()).collect();
            let values: Vec<String> = self.values.iter().map(|(key, value)| format!("{key} {value:.1}")).collect();
            println!("{:<8} {:<36} {}", self.name, conditions.join(", "), values.join("   "));
        }
    }
}

async fn set_up(mut client: Client) -> Result<(), Error> {
    for sql in SETUP {
        client.run(sql, &[]).await?;
    }
    Ok(())
}

fn sync_word(sync: bool) -> String {
    if sync { "synced" } else { "not synced" }.to_string()
}

async fn latency(
    face: &'static str,
    connect: impl AsyncFn() -> Result<Client, Error>,
    sync: bool,
    loaded: bool,
    span: Duration,
) -> Result<Figure, Error> {
    let mut client = connect().await?;
    let load = if loaded { Some(start_load(connect().await?)) } else { None };
    let mut shown = client.run(READ, &[CUSTOMER]).await?.unwrap_or(0);
    let mut round_trips = Vec::new();
    let began = Instant::now();
    while began.elapsed() < span || round_trips.len() < 20 {
        let started = Instant::now();
        client.run(INSERT, &[shown, CUSTOMER, 1]).await?;
        let now = client.run(READ, &[CUSTOMER]).await?.unwrap_or(0);
        round_trips.push(started.elapsed());
        if now != shown + 1 {
            return Err(format!("the view shows {now} rows after {} were acknowledged", shown + 1).into());
        }
        shown = now;
    }
    let mut values = vec![
        ("p50_us", micros(&mut round_trips, 0.50)),
        ("p99_us", micros(&mut round_trips, 0.99)),
        ("rounds", round_trips.len() as f64),
    ];
    if let Some(load) = load {
        values.push(("load_rows_per_s", load.stop().await?));
    }
    let conditions = vec![
        ("face", face.to_string()),
        ("sync", sync_word(sync)),
        ("load", if loaded { "loaded" } else { "idle" }.to_string()),
    ];
    Ok(Figure { name: "latency", conditions, values })
}

/// The value below which `part` of them are.
fn micros(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e6
}

struct Load {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<f64, Error>>,
}

impl Load {
    /// Rows per second that it got in.
    async fn stop(self) -> Result<f64, Error> {
        // The task may have failed and gone; its own error comes next.
        let _ = self.stop.send(());
        self.task.await?
    }
}

/// Inserts 100 rows at a time, of customers of all regions but the measured one's.
fn start_load(mut client: Client) -> Load {
    const INSERT_100: &str = "INSERT INTO purchase SELECT $1::bigint + i, CASE WHEN i = 42 THEN 43 ELSE i END, i FROM generate_series(0, 99) AS g(i)";
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let (began, mut rows) = (Instant::now(), 0);
        while stopped.try_recv().is_err() {
            client.run(INSERT_100, &[rows]).await?;
            rows += 100;
        }
        Ok(rows as f64 / began.elapsed().as_secs_f64())
    });
    Load { stop, task }
}

const LONG: &[&str] = &[
    "CREATE STREAM history (k bigint, v bigint)",
    "CREATE TABLE large (id bigint PRIMARY KEY, v bigint)",
    "CREATE MATERIALIZED VIEW middle AS SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS middle FROM large",
];
const LONG_ROWS: &str = "INSERT INTO history SELECT i::bigint * 7919 % 1000000, i FROM generate_series($1::bigint, $1::bigint + 999999) AS g(i)";
const LARGE_ROWS: &str = "INSERT INTO large SELECT i, i FROM generate_series($1::bigint, $1::bigint + 99999) AS g(i)";
const HYDRATE: &str =
    "CREATE MATERIALIZED VIEW per_key AS SELECT k, count(*) AS n, sum(v) AS total FROM history GROUP BY k";
const CHANGE_LARGE: &str = "UPDATE large SET v = -v WHERE id = $1";

async fn crowded(args: &Args, millions: i64) -> Result<(), Error> {
    let server = Server::start(&server::program(args.server.clone())?, true).await?;
    let connect = async || Client::connect(server.port).await;
    set_up(connect().await?).await?;
    let mut other = connect().await?;
    for sql in LONG {
        other.run(sql, &[]).await?;
    }
    for million in 0..millions {
        other.run(LONG_ROWS, &[million * 1_000_000]).await?;
        other.run(LARGE_ROWS, &[million * 100_000]).await?;
    }
    other.run("SELECT middle FROM middle", &[]).await?;
    latency("pgwire", &connect, true, false, args.span()).await?.print(args.json);

    let changes: tokio::task::JoinHandle<Result<(), Error>> = tokio::spawn(async move {
        let mut done = 0;
        loop {
            other.run(CHANGE_LARGE, &[done]).await?;
            other.run("SELECT middle FROM middle", &[]).await?;
            done += 1;
            CHANGES.store(done, Ordering::Relaxed);
        }
    });
    let mut maker = connect().await?;
    let began = Instant::now();
    let making = tokio::spawn(async move { maker.run(HYDRATE, &[]).await.map(|_| began.elapsed()) });
    let mut rounds = 0.0;
    while !making.is_finished() {
        let mut figure = latency("pgwire", &connect, true, false, args.span()).await?;
        figure.conditions[2].1 = "crowded".into();
        figure.print(args.json);
        rounds += 1.0;
    }
    changes.abort();
    let seconds = making.await??.as_secs_f64();
    let values = vec![
        ("million_rows_per_s", millions as f64 / seconds),
        ("large_groups_computed", CHANGES.load(Ordering::Relaxed) as f64),
        ("measured", rounds),
    ];
    Figure { name: "hydrate", conditions: vec![("rows", format!("{millions} million rows"))], values }.print(args.json);
    Ok(())
}

/// How often the large group has been changed.
static CHANGES: AtomicI64 = AtomicI64::new(0);

/// Single-row INSERTs, each acknowledged before the connection's next.
async fn inserts(
    connect: impl AsyncFn() -> Result<Client, Error>,
    sync: bool,
    connections: usize,
    span: Duration,
) -> Result<Figure, Error> {
    let mut tasks = Vec::new();
    for number in 0..connections as i64 {
        let mut client = connect().await?;
        client.run(INSERT, &[0, number, 1]).await?;
        tasks.push(tokio::spawn(async move {
            let (began, mut done) = (Instant::now(), 0);
            while began.elapsed() < span {
                client.run(INSERT, &[done, number, 1]).await?;
                done += 1;
            }
            Ok::<f64, Error>(done as f64 / began.elapsed().as_secs_f64())
        }));
    }
    let mut per_s = 0.0;
    for task in tasks {
        per_s += task.await??;
    }
    let conditions = vec![
        ("face", "pgwire".into()),
        ("sync", sync_word(sync)),
        ("connections", format!("{connections} connections")),
    ];
    Ok(Figure { name: "inserts", conditions, values: vec![("acknowledged_per_s", per_s)] })
}

/// COPY of seven-column bids as CSV into a logged, synced stream.
async fn copy(server: &Server, rows: u64) -> Result<Figure, Error> {
    let directory = tempfile::tempdir()?;
    events::write(directory.path(), rows * 50 / 46, Format::Csv)?;
    let csv = Bytes::from(std::fs::read(directory.path().join("bid.csv"))?);
    let Client::Wire { client, .. } = Client::connect(server.port).await? else {
        unreachable!("connect gives a connection")
    };
    client
        .batch_execute("CREATE STREAM bid (auction bigint, bidder bigint, price bigint, channel text, url text, date_time timestamp, extra text)")
        .await?;
    let began = (Instant::now(), server.cpu_s()?);
    let sink = client.copy_in("COPY bid FROM STDIN WITH (FORMAT csv, HEADER true)").await?;
    let mut sink = std::pin::pin!(sink);
    for start in (0..csv.len()).step_by(1 << 16) {
        sink.send(csv.slice(start..csv.len().min(start + (1 << 16)))).await?;
    }
    let copied = sink.finish().await? as f64;
    let (wall_s, cpu_s) = (began.0.elapsed().as_secs_f64(), server.cpu_s()? - began.1);
    let values = vec![("rows", copied), ("rows_per_s", copied / wall_s), ("rows_per_server_cpu_s", copied / cpu_s)];
    Ok(Figure { name: "copy", conditions: vec![("face", "pgwire".into()), ("sync", sync_word(true))], values })
}
