//! The third side of the comparison: one batch run of a query with DuckDB, on one thread. It needs `python3` with the
//! package `duckdb`; `duckdb_batch.py` says what is measured.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::events::{Error, TableFile};
use crate::queries::Query;

const SCRIPT: &str = include_str!("../duckdb_batch.py");

/// DuckDB's version, if it is there.
pub fn version() -> Option<String> {
    let output = Command::new("python3").args(["-c", "import duckdb; print(duckdb.__version__)"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Runs `query` once: `cpu_s`, `wall_s` and `rows_out`.
pub fn run(query: &Query, files: &[TableFile]) -> Result<Value, Error> {
    let table = |file: &TableFile| {
        let limit = if file.rows < file.rows_in_file { format!(":{}", file.rows) } else { String::new() };
        format!("{}={}{limit}", file.table.name(), file.path.display())
    };
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .args(files.iter().map(table))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    python.stdin.take().expect("it is piped").write_all(query.duckdb_sql().as_bytes())?;
    let output = python.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("DuckDB, {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
