//! Nexmark: what it costs to maintain each query as a materialized view from the first event to the last,
//! beside one batch run of the same query over the same rows with DataFusion.
//!
//! Each side of each query runs in a process of its own, so that memory and CPU time are its own:
//!
//! ```text
//!   nexmark ─┬─ nexmark --side maintain --queries q3   {"rows_out": …, "cpu_s": …, "peak_rss_bytes": …}
//!            └─ nexmark --side batch    --queries q3   {"rows_out": …, "batch_cpu_s": …}
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use millrace_benches::embedded::Settings;
use millrace_benches::events::{self, Error, Format, TableFile};
use millrace_benches::queries::{self, Query};
use millrace_benches::sums::Sums;
use millrace_benches::{batch, maintain};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Maintains Nexmark's queries, and runs each once in batch for comparison.
#[derive(Parser)]
struct Args {
    /// For example q0,q3; or all.
    #[arg(long, default_value = "all")]
    queries: String,
    /// Events of all three tables. With --input: at most these.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Events per epoch, of all three tables together.
    #[arg(long, default_value_t = 10_000)]
    epoch_events: u64,
    /// A directory with person, auction and bid as .parquet or .csv; without it they are generated.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Read and ingest all columns of a table, or only those that the query needs.
    #[arg(long, value_enum, default_value_t = Columns::All)]
    columns: Columns,
    /// Checkpoint meanwhile.
    #[arg(long)]
    checkpoint: bool,
    /// Log the events, each epoch synced before it counts as taken, as a server does.
    #[arg(long, overrides_with = "no_log")]
    log: bool,
    /// Keep no log: the events live only in the view (the default).
    #[arg(long)]
    no_log: bool,
    /// One JSON object per query instead of a table.
    #[arg(long)]
    json: bool,
    /// One side of one query, in this process.
    #[arg(long, hide = true)]
    side: Option<Side>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Columns {
    All,
    Needed,
}

impl Columns {
    fn word(self) -> &'static str {
        match self {
            Columns::All => "all",
            Columns::Needed => "needed",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Maintain,
    Batch,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::Maintain => "maintain",
            Side::Batch => "batch",
        }
    }
}

fn main() -> Result<ExitCode, Error> {
    let args = Args::parse();
    let queries = queries::named(&args.queries)?;
    if let Some(side) = args.side {
        let [query] = queries[..] else { return Err("one query for one side".into()) };
        match run_side(side, query, &args) {
            Ok(report) => println!("{report}"),
            Err(error) => {
                eprintln!("{error}");
                return Ok(ExitCode::FAILURE);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let generated = tempfile::tempdir()?;
    let input = match &args.input {
        Some(directory) => directory.as_path(),
        None => {
            events::write(generated.path(), args.events, Format::Parquet)?;
            generated.path()
        }
    };
    if !args.json {
        println!("{}", heading());
    }
    let mut all_agree = true;
    for query in queries {
        // One that fails does not keep the others from being measured.
        let report = compare(query, &args, input)
            .unwrap_or_else(|error| json!({ "query": query.name, "error": error.to_string() }));
        all_agree &= report["agrees"] == json!(true);
        println!("{}", if args.json { report.to_string() } else { line(&report) });
    }
    Ok(if all_agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs both sides, each in its own process, and puts their figures together.
fn compare(query: &Query, args: &Args, input: &Path) -> Result<Value, Error> {
    let mut report = child(Side::Maintain, query, args, input)?;
    let batch = child(Side::Batch, query, args, input)?;
    let ratio = report["cpu_s"].as_f64().unwrap_or(f64::NAN) / batch["batch_cpu_s"].as_f64().unwrap_or(f64::NAN);
    let of = |side: &Value| Sums::from_json(&side["sums"]).ok_or("a child prints its sums");
    let agrees = of(&report)?.agrees(&of(&batch)?);
    let object = report.as_object_mut().ok_or("a child prints an object")?;
    object.insert("batch_cpu_s".into(), batch["batch_cpu_s"].clone());
    object.insert("batch_wall_s".into(), batch["batch_wall_s"].clone());
    object.insert("batch_peak_rss_bytes".into(), batch["peak_rss_bytes"].clone());
    object.insert("ratio".into(), json!(ratio));
    object.insert("agrees".into(), json!(agrees));
    if !agrees {
        eprintln!("{}: the view and the batch run differ: {} {}", query.name, object["sums"], batch["sums"]);
    }
    object.remove("sums");
    Ok(report)
}

fn child(side: Side, query: &Query, args: &Args, input: &Path) -> Result<Value, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--side", side.word(), "--queries", query.name]).arg("--input").arg(input);
    command.args(["--events", &args.events.to_string(), "--workers", &args.workers.to_string()]);
    command.args(["--epoch-events", &args.epoch_events.to_string(), "--columns", args.columns.word()]);
    for (flag, given) in [("--log", args.log), ("--checkpoint", args.checkpoint)] {
        if given {
            command.arg(flag);
        }
    }
    let output = command.stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} side, {}: {}", side.word(), output.status, message.trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn run_side(side: Side, query: &Query, args: &Args) -> Result<Value, Error> {
    let input = args.input.as_deref().ok_or("a side reads --input")?;
    let files = query.tables.iter().map(|table| {
        let mut file = events::find(input, *table)?;
        file.rows = file.rows.min(table.rows_before(args.events));
        Ok(file)
    });
    let mut files = files.collect::<Result<Vec<TableFile>, Error>>()?;
    if args.columns == Columns::Needed {
        let needed = batch::needed_columns(query, &files)?;
        for (file, (_, columns)) in files.iter_mut().zip(needed) {
            file.schema = Arc::new(file.schema.project(&columns.into_iter().collect::<Vec<_>>())?);
        }
    }
    match side {
        Side::Batch => {
            let run = batch::run(query, &files)?;
            Ok(json!({
                "batch_wall_s": run.wall_s,
                "batch_cpu_s": run.cpu_s,
                "peak_rss_bytes": run.peak_rss_bytes,
                "rows_out": run.sums.rows,
                "sums": run.sums.to_json(),
            }))
        }
        Side::Maintain => {
            let settings =
                Settings { workers: args.workers, log: args.log, sync: args.log, checkpoint: args.checkpoint };
            let events: u64 = files.iter().map(|file| file.rows).sum();
            let all_events =
                files.iter().map(|file| file.table.event_of(file.rows.saturating_sub(1)) + 1).max().unwrap_or(0);
            let epochs = all_events.div_ceil(args.epoch_events.max(1)).max(1);
            let run = maintain::run(query, &files, epochs, settings)?;
            Ok(json!({
                "query": query.name,
                "events": all_events,
                "rows_in": events,
                "rows_out": run.sums.rows,
                "wall_s": run.wall_s,
                "cpu_s": run.cpu_s,
                "read_cpu_s": run.read_cpu_s,
                "peak_rss_bytes": run.peak_rss_bytes,
                "state_bytes": run.state_bytes,
                "epochs": run.epochs,
                "epoch_events": args.epoch_events,
                "workers": args.workers,
                "columns": args.columns.word(),
                "log": args.log,
                "checkpoint": args.checkpoint,
                "sums": run.sums.to_json(),
            }))
        }
    }
}

fn heading() -> String {
    format!(
        "{:<5} {:>10} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9} {:>11} {:>7}",
        "query", "events", "rows out", "wall s", "CPU s", "read s", "peak MB", "state MB", "batch CPU s", "ratio"
    )
}

fn line(report: &Value) -> String {
    if let Some(error) = report["error"].as_str() {
        return format!("{:<5} {error}", report["query"].as_str().unwrap_or_default());
    }
    let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    let agrees = if report["agrees"] == json!(true) { "" } else { "   DIFFERS" };
    format!(
        "{:<5} {:>10} {:>10} {:>8.3} {:>8.3} {:>9.3} {:>9.1} {:>9.1} {:>11.3} {:>7.2}{agrees}",
        report["query"].as_str().unwrap_or_default(),
        number("events"),
        number("rows_out"),
        number("wall_s"),
        number("cpu_s"),
        number("read_cpu_s"),
        number("peak_rss_bytes") / 1e6,
        number("state_bytes") / 1e6,
        number("batch_cpu_s"),
        number("ratio")
    )
}
