//! One test per file below `slt/` and mode: `views/outer_join::crash`.
//!
//! A line in `known_gaps.txt` names a test whose answers are PostgreSQL's and which Millrace does not give yet. It
//! may fail until then; when it passes it says so, and the line has to go.
//!
//! `UPDATE_SLT=1` writes the answers that come into the files (one worker, or PostgreSQL where
//! `MILLRACE_POSTGRES` names a server): read the diff before you believe it.

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
use millrace_sql_tests::postgres::Server;
use millrace_sql_tests::slt::{Mode, files, run_file};

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let update = std::env::var_os("UPDATE_SLT").is_some();
    let postgres = std::env::var("MILLRACE_POSTGRES").ok().map(Server);
    let modes = match (postgres, update) {
        (Some(server), _) => vec![Mode::Postgres(server)],
        (None, true) => vec![Mode::Workers(1)],
        (None, false) => vec![Mode::Workers(1), Mode::Workers(3), Mode::Crash],
    };
    let gaps: Vec<String> = include_str!("../known_gaps.txt")
        .lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
        .map(|l| l.split_whitespace().next().expect("not empty").to_string())
        .collect();
    let mut trials = Vec::new();
    for path in files(&root) {
        let text = std::fs::read_to_string(&path).expect("a test file can be read");
        let name = path.strip_prefix(&root).expect("found below it").with_extension("");
        for mode in modes.iter().filter(|mode| mode.suits(&text)) {
            let (path, mode) = (path.clone(), mode.clone());
            let test = format!("{}::{}", name.display(), mode.name());
            let gap = gaps.contains(&test) && !update;
            trials.push(Trial::test(test.clone(), move || {
                let name = test;
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .expect("threads can be made");
                match runtime.block_on(run_file(&path, &mode, update)) {
                    Ok(()) => {
                        if gap {
                            eprintln!("{name} passes now: take it out of known_gaps.txt");
                        }
                        Ok(())
                    }
                    Err(_) if gap => Ok(()),
                    Err(error) => Err(Failed::from(error)),
                }
            }));
        }
    }
    assert!(!trials.is_empty(), "no test files below {}", root.display());
    libtest_mimic::run(&arguments, trials).exit();
}
