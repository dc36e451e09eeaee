//! The sides of the comparison: a query maintained by Millrace, and its batch runs. Each runs in a process of its own,
//! so that memory and CPU time are its own, and answers one JSON object:
//!
//! ```text
//!   nexmark ─┬─ nexmark --side maintain --queries q3   {"rows_out": …, "cpu_s": …, "peak_rss_bytes": …}
//!            ├─ nexmark --side batch    --queries q3   {"rows_out": …, "cpu_s": …}
//!            └─ nexmark --side duckdb   --queries q3   {"rows_out": …, "cpu_s": …}
//! ```
//!
//! Sides that are compared run in turn, as often as is asked, and what is told is the median: a machine that slows down
//! for a while then slows all of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::embedded::Settings;
use crate::events::{self, Error, TableFile};
use crate::maintain::Division;
use crate::queries::Query;
use crate::sums::Sums;
use crate::{batch, duckdb, maintain};

/// How a side runs.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Events of all three tables. With --input: at most these.
    #[arg(long, default_value_t = 1_000_000)]
    pub events: u64,
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Events per epoch, of all three tables together.
    #[arg(long, default_value_t = 10_000)]
    pub epoch_events: u64,
    /// Read and ingest all columns of a table, or only those that the query needs.
    #[arg(long, value_enum, default_value_t = Columns::All)]
    pub columns: Columns,
    /// Checkpoint meanwhile.
    #[arg(long)]
    pub checkpoint: bool,
    /// Log the events, each epoch synced before it counts as taken, as a server does.
    #[arg(long, overrides_with = "no_log")]
    pub log: bool,
    /// Keep no log: the events live only in the view (the default).
    #[arg(long)]
    pub no_log: bool,
    /// Read the files before the measured time: it is then the engine's alone.
    #[arg(long)]
    pub read_first: bool,
    /// Tell apart the CPU time of so many consecutive parts of the input.
    #[arg(long, hide = true, default_value_t = 1)]
    pub slices: u64,
    /// End after the measured time: no size of the state, and no sums.
    #[arg(long, hide = true)]
    pub unchecked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Columns {
    All,
    Needed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Millrace, from the first event to the last.
    Maintain,
    /// DataFusion, once.
    Batch,
    /// DuckDB, once.
    Duckdb,
}

/// The word for it on the command line.
pub fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("none is hidden").get_name().to_string()
}

impl Options {
    /// What differs from the defaults, as on the command line.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--events={}", self.events)];
        let mut add = |given: bool, flag: String| {
            if given {
                flags.push(flag);
            }
        };
        add(self.workers != 1, format!("--workers={}", self.workers));
        add(self.epoch_events != 10_000, format!("--epoch-events={}", self.epoch_events));
        add(self.columns != Columns::All, format!("--columns={}", word(&self.columns)));
        add(self.slices != 1, format!("--slices={}", self.slices));
        add(self.checkpoint, "--checkpoint".into());
        add(self.log, "--log".into());
        add(self.read_first, "--read-first".into());
        add(self.unchecked, "--unchecked".into());
        flags
    }
}

/// Runs a side in this process.
pub fn here(side: Side, query: &Query, options: &Options, input: &Path) -> Result<Value, Error> {
    let files = query.tables.iter().map(|table| {
        let mut file = events::find(input, *table)?;
        file.rows = file.rows.min(table.rows_before(options.events));
        Ok(file)
    });
    let mut files = files.collect::<Result<Vec<TableFile>, Error>>()?;
    if options.columns == Columns::Needed {
        let needed = batch::needed_columns(query, &files)?;
        for (file, (_, columns)) in files.iter_mut().zip(needed) {
            file.schema = Arc::new(file.schema.project(&columns.into_iter().collect::<Vec<_>>())?);
        }
    }
    match side {
        Side::Maintain => maintain_here(query, options, &files),
        Side::Batch => {
            let run = batch::run(query, &files)?;
            Ok(json!({
                "wall_s": run.wall_s,
                "cpu_s": run.cpu_s,
                "peak_rss_bytes": run.peak_rss_bytes,
                "rows_out": run.sums.rows,
                "sums": run.sums.to_json(),
            }))
        }
        Side::Duckdb => duckdb::run(query, &files),
    }
}

fn maintain_here(query: &Query, options: &Options, files: &[TableFile]) -> Result<Value, Error> {
    let settings =
        Settings { workers: options.workers, log: options.log, sync: options.log, checkpoint: options.checkpoint };
    let rows_in: u64 = files.iter().map(|file| file.rows).sum();
    let events = files.iter().map(|file| file.table.event_of(file.rows.saturating_sub(1)) + 1).max().unwrap_or(0);
    let epochs = events.div_ceil(options.epoch_events.max(1)).max(1);
    let division = Division { epochs, slices: options.slices, read_first: options.read_first };
    let run = maintain::run(query, files, division, settings, !options.unchecked)?;
    Ok(json!({
        "query": query.name,
        "events": events,
        "rows_in": rows_in,
        "rows_out": run.sums.rows,
        "wall_s": run.wall_s,
        "cpu_s": run.cpu_s,
        "read_cpu_s": run.read_cpu_s,
        "slice_epoch_cpu_s": run.slice_epoch_cpu_s,
        "peak_rss_bytes": run.peak_rss_bytes,
        "state_bytes": run.state_bytes,
        "epochs": run.epochs,
        "epoch_events": options.epoch_events,
        "workers": options.workers,
        "columns": word(&options.columns),
        "log": options.log,
        "checkpoint": options.checkpoint,
        "sums": run.sums.to_json(),
    }))
}

/// Runs a side in a process of its own.
fn apart(side: Side, query: &Query, options: &Options, input: &Path) -> Result<Value, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--side", &word(&side), "--queries", query.name]).arg("--input").arg(input).args(options.flags());
    let output = command.stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} side, {}: {}", word(&side), output.status, message.trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What one side answered, a report each time that it ran.
#[derive(Debug, Default)]
pub struct Runs(Vec<Value>);

impl Runs {
    /// Of the numbers at a JSON pointer without its first slash (`cpu_s`, `slice_epoch_cpu_s/3`); NaN where there are none.
    pub fn median(&self, pointer: &str) -> f64 {
        median(self.numbers(pointer))
    }

    /// The median of the quotients of runs that belong together.
    pub fn ratio(&self, other: &Runs, pointer: &str) -> f64 {
        median(self.numbers(pointer).zip(other.numbers(pointer)).map(|(one, other)| one / other))
    }

    fn numbers(&self, pointer: &str) -> impl Iterator<Item = f64> {
        let pointer = format!("/{pointer}");
        self.0.iter().map(move |report| report.pointer(&pointer).and_then(Value::as_f64).unwrap_or(f64::NAN))
    }

    /// The first report, with the medians in place of its numbers.
    pub fn to_json(&self) -> Value {
        let mut report = self.0.first().cloned().unwrap_or(Value::Null);
        for (key, value) in report.as_object_mut().into_iter().flatten() {
            if value.is_f64() || value.is_u64() {
                let median = self.median(key);
                *value = if value.is_u64() { json!(median as u64) } else { json!(median) };
            }
        }
        report
    }
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => numbers[n / 2],
        n => (numbers[n / 2 - 1] + numbers[n / 2]) / 2.0,
    }
}

/// What the sides answered, in their order.
#[derive(Debug)]
pub struct Measured {
    pub sides: Vec<Runs>,
    /// Whether all gave the same rows: their numbers, and sums per column (DuckDB: only their numbers).
    pub agrees: bool,
}

/// Runs the sides in turn, `runs` times, every other time from the last to the first.
pub fn measure(query: &Query, sides: &[(Side, Options)], runs: usize, input: &Path) -> Result<Measured, Error> {
    let mut measured: Vec<Runs> = sides.iter().map(|_| Runs::default()).collect();
    for run in 0..runs {
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if run % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (side, options) = &sides[index];
            match apart(*side, query, options, input) {
                Ok(report) => measured[index].0.push(report),
                // It is no part of the build: its column stays empty, and the rest is worth having.
                Err(error) if *side == Side::Duckdb => eprintln!("{}: {error}", query.name),
                Err(error) => return Err(error),
            }
        }
    }
    let agrees = agree(query, measured.iter().flat_map(|runs| &runs.0));
    Ok(Measured { sides: measured, agrees })
}

fn agree<'a>(query: &Query, reports: impl Iterator<Item = &'a Value>) -> bool {
    let mut reports = reports.map(|report| (&report["rows_out"], Sums::from_json(&report["sums"])));
    let Some((rows, sums)) = reports.next() else { return true };
    let mut all = true;
    for (other_rows, other_sums) in reports {
        let same_sums = sums.as_ref().zip(other_sums.as_ref()).is_none_or(|(one, other)| one.agrees(other));
        if other_rows != rows || !same_sums {
            eprintln!("{}: sides differ: {rows} {sums:?}, {other_rows} {other_sums:?}", query.name);
            all = false;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_paired_ratios() {
        let runs = |values: &[f64]| Runs(values.iter().map(|v| json!({ "cpu_s": v, "parts": [v] })).collect());
        let (one, other) = (runs(&[1.0, 6.0, 2.0]), runs(&[2.0, 3.0, 2.0]));
        assert_eq!((one.median("cpu_s"), one.median("parts/0"), runs(&[1.0, 3.0]).median("cpu_s")), (2.0, 2.0, 2.0));
        assert_eq!(one.ratio(&other, "cpu_s"), 1.0);
        assert!(one.median("parts/1").is_nan() && one.ratio(&Runs::default(), "cpu_s").is_nan());
        assert_eq!(one.to_json()["cpu_s"], 2.0);
    }
}
