//! `millrace check`, `dump` and `restore`: what can be done to a data directory that no server has open.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use millrace_engine::tools::{self, Report};

use crate::serve::Problem;

/// Prints what was found; the exit code is 5 when the directory is damaged.
pub fn check(directory: &Path) -> Result<ExitCode, Problem> {
    report(directory, &tools::check(directory).map_err(Problem::of_engine)?)
}

/// Prints the directory as text.
pub fn dump(directory: &Path, relation: Option<&str>) -> Result<ExitCode, Problem> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let dumped = tools::dump(directory, relation, &mut out);
    // Whoever reads it may have seen enough.
    let flushed = out.flush();
    match dumped {
        Err(_) if flushed.is_err() => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS).map_err(Problem::of_engine),
    }
}

/// Makes a data directory of a backup and checks it.
pub async fn restore(from: &str, name: Option<&str>, directory: &Path) -> Result<ExitCode, Problem> {
    report(directory, &tools::restore(from, name, directory).await.map_err(Problem::of_engine)?)
}

fn report(directory: &Path, report: &Report) -> Result<ExitCode, Problem> {
    let Report { last_epoch, checkpoint, relations, headers, chunks, rows, blocks, problems } = report;
    println!(
        "{}: {relations} relations; log through epoch {last_epoch}: {headers} headers, {rows} rows in {chunks} chunks",
        directory.display()
    );
    println!("checkpoint of epoch {checkpoint}: {blocks} blocks");
    for problem in problems {
        println!("damaged: {problem}");
    }
    match problems.len() {
        0 => println!("no problems found"),
        n => println!("{n} problems found"),
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(5) })
}
