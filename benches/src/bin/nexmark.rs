//! Nexmark: what it costs to maintain each query as a materialized view from the first event to the last,
//! beside one batch run of the same query over the same rows with DataFusion, and one with DuckDB.
//!
//! `sides.rs` says how they are run, `report/` what is made of it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use millrace_benches::events::{self, Error, Format};
use millrace_benches::report::{Bench, GROWTH, SectionName};
use millrace_benches::sides::{self, Options, Side};
use millrace_benches::{duckdb, queries};

#[global_allocator]
static ALLOCATOR: millrace_engine::allocator::Allocator = millrace_engine::allocator::Allocator;

/// Maintains Nexmark's queries, and runs each once in batch for comparison.
#[derive(Parser)]
struct Args {
    /// For example q0,q3; or all.
    #[arg(long, default_value = "all")]
    queries: String,
    #[command(flatten)]
    options: Options,
    /// A directory with person, auction and bid as .parquet or .csv; without it they are generated.
    #[arg(long)]
    input: Option<PathBuf>,
    /// What to measure: main alone, or with --report all.
    #[arg(long, value_enum, value_delimiter = ',')]
    sections: Vec<SectionName>,
    /// Every figure is the median of so many runs: of one, or with --report of three.
    #[arg(long)]
    runs: Option<usize>,
    /// Write what was measured to this file, as Markdown, with plots beside it.
    #[arg(long)]
    report: Option<PathBuf>,
    /// One JSON object per query instead of a table.
    #[arg(long, conflicts_with_all = ["report", "sections"])]
    json: bool,
    /// One side of one query, in this process.
    #[arg(long, hide = true)]
    side: Option<Side>,
}

fn main() -> Result<ExitCode, Error> {
    let args = Args::parse();
    let queries = queries::named(&args.queries)?;
    if let Some(side) = args.side {
        let [query] = queries[..] else { return Err("one query for one side".into()) };
        let input = args.input.ok_or("a side reads --input")?;
        return Ok(match sides::here(side, query, &args.options, &input) {
            Ok(report) => {
                println!("{report}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        });
    }
    let reported = args.report.is_some();
    let sections = match args.sections.as_slice() {
        [] if reported => clap::ValueEnum::value_variants(),
        [] => &[SectionName::Main],
        given => given,
    };
    let generated = tempfile::tempdir()?;
    let generate = |name: &str, events: u64| -> Result<PathBuf, Error> {
        let directory = generated.path().join(name);
        events::write(&directory, events, Format::Parquet)?;
        Ok(directory)
    };
    let (input, growth_input) = match &args.input {
        Some(directory) => (directory.clone(), directory.clone()),
        None => {
            let input = generate("events", args.options.events)?;
            let grows = [SectionName::Growth, SectionName::Workers].iter().any(|name| sections.contains(name));
            let growth = if grows { generate("growth", args.options.events * GROWTH)? } else { input.clone() };
            (input, growth)
        }
    };
    let bench = Bench {
        queries,
        options: args.options,
        runs: args.runs.unwrap_or(if reported { 3 } else { 1 }).max(1),
        input,
        growth_input,
        duckdb: duckdb::version(),
        json: args.json,
    };
    let all_right = bench.run(sections, args.report.as_deref())?;
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
