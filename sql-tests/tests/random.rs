//! The random oracle (see `millrace_sql_tests::random`), over as many cases as asked for.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MILLRACE_RANDOM_CASES` | how many cases |
//! | `MILLRACE_RANDOM_SEED` | the first seed; the others follow it |
//! | `MILLRACE_RANDOM_SCRIPT` | a case's text in a file: run just this |
//! | `MILLRACE_RANDOM_PRINT` | a seed: print its case, as plain SQL, and run nothing |
//! | `MILLRACE_POSTGRES` | a server that must agree, e.g. `host=127.0.0.1 user=postgres` |
//!
//! Cases run in child processes, so that a worker's panic, which stops the process, and a hang are found and
//! shrunk like any other failure. A child tells `start SEED`, `done SEED …` or `fail SEED KIND` on its
//! standard output, a line each, and `refused SEED WHY` of views.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use millrace_sql_tests::postgres::Server;
use millrace_sql_tests::random::run::{Report, run};
use millrace_sql_tests::random::shrink::shrink;
use millrace_sql_tests::random::{Case, generate};

const CASES_DEFAULT: u64 = 200;
const CHILDREN: u64 = 2;
/// A case takes a second; one that is silent for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const SILENCE_STEP: Duration = Duration::from_secs(1);
const SHRINKING_MAX: Duration = Duration::from_secs(90);
/// Of the views that were to be made, in percent.
const REFUSED_MAX: usize = 30;

/// `FIRST STEP END`: the seeds of a child.
const CHILD: &str = "MILLRACE_RANDOM_CHILD";
const SCRIPT: &str = "MILLRACE_RANDOM_SCRIPT";

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    if arguments.list {
        println!("random: test");
    } else if let Ok(seed) = std::env::var("MILLRACE_RANDOM_PRINT") {
        print!("{}", generate::case(seed.parse().expect("a seed is a number")));
    } else if let Ok(script) = std::env::var(SCRIPT) {
        run_script(Path::new(&script));
    } else if let Ok(seeds) = std::env::var(CHILD) {
        run_child(&seeds);
    } else if arguments.filter.as_ref().is_none_or(|f| "random".contains(f.as_str())) {
        run_parent();
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn run_case(case: &Case, lenient: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be made");
    runtime.block_on(async {
        let Some(server) = std::env::var("MILLRACE_POSTGRES").ok().map(Server) else {
            return run(case, None, lenient).await;
        };
        let scratch = server.scratch().await.expect("the server that MILLRACE_POSTGRES names lets us make databases");
        let mut connection = scratch.connect().await.expect("the database was just made");
        let report = run(case, Some(&mut connection), lenient).await;
        drop(connection);
        scratch.drop_database().await.expect("the database was made here");
        report
    })
}

/// One case from a file; tells its failure in the same words as a child.
fn run_script(path: &Path) {
    let case = Case::parse(&std::fs::read_to_string(path).expect("MILLRACE_RANDOM_SCRIPT names a file"));
    println!("start 0");
    if let Some(failure) = run_case(&case, true).failure {
        println!("fail 0 {}", failure.kind);
        eprintln!("{}: {}", failure.kind, failure.message);
        exit(1);
    }
    println!("done 0 0 0 0 0 0");
}

fn run_child(seeds: &str) {
    let seeds: Vec<u64> = seeds.split(' ').map(|n| n.parse().expect("the parent wrote numbers")).collect();
    for seed in (seeds[0]..seeds[2]).step_by(seeds[1] as usize) {
        println!("start {seed}");
        let report = run_case(&generate::case(seed), false);
        if let Some(failure) = report.failure {
            println!("fail {seed} {}", failure.kind);
            eprintln!("{}: {}", failure.kind, failure.message);
            exit(1);
        }
        for message in report.refusals {
            println!("refused {seed} {}", message.lines().next().unwrap_or_default());
        }
        let Report { statements, checks, views_made, views_refused, final_views, .. } = report;
        println!("done {seed} {statements} {checks} {views_made} {views_refused} {final_views}");
    }
}

/// A child under way, with what it wrote to its standard error.
struct Process {
    child: Child,
    errors: PathBuf,
    lines: Receiver<String>,
}

impl Process {
    fn start(variable: &str, value: &str, errors: PathBuf) -> Process {
        let stderr = std::fs::File::create(&errors).expect("the test's folder is writable");
        let mut child = Command::new(std::env::current_exe().expect("this process has a program"))
            .env(variable, value)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("this program can be started again");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, errors, lines }
    }
    fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
    fn what_it_said(&self) -> String {
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

fn run_parent() {
    let first = number("MILLRACE_RANDOM_SEED", 1);
    let cases = number("MILLRACE_RANDOM_CASES", CASES_DEFAULT);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("random-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the target directory is writable");
    let started = Instant::now();
    let mut children: Vec<Process> = (0..CHILDREN.min(cases))
        .map(|i| {
            let seeds = format!("{} {CHILDREN} {}", first + i, first + cases);
            Process::start(CHILD, &seeds, folder.join(format!("child-{i}")))
        })
        .collect();
    let mut totals = [0usize; 6];
    let mut refusals = BTreeMap::new();
    let mut failed = None;
    for i in 0..children.len() {
        // The children run beside each other; their lines wait here.
        match follow(&children[i], &mut totals, &mut refusals) {
            Followed::Finished => {}
            Followed::Failed { seed, kind } => {
                failed = Some((seed, kind, children[i].what_it_said()));
                break;
            }
        }
    }
    children.iter_mut().for_each(Process::stop);
    let [done, statements, checks, made, refused, finals] = totals;
    println!(
        "random: {done} cases, {statements} statements, {checks} checks, {made} views made ({finals} final), {refused} refused, in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    for (why, count) in refusals {
        println!("  {count} times refused: {why}");
    }
    if let Some((seed, kind, said)) = failed {
        report(seed, &kind, &said, &folder);
        exit(1);
    }
    assert_eq!(done as u64, cases, "a child ended before its last case");
    std::fs::remove_dir_all(&folder).expect("made above");
    let share = refused * 100 / (made + refused).max(1);
    assert!(share <= REFUSED_MAX, "{share} % of the views were refused: such a run proves little");
}

enum Followed {
    Finished,
    Failed { seed: u64, kind: String },
}

/// Reads a child's lines to the end. `totals`: cases, statements, checks, views made, views refused, final views made.
fn follow(process: &Process, totals: &mut [usize; 6], refusals: &mut BTreeMap<String, usize>) -> Followed {
    let mut current = None;
    // Counted, not measured: while the machine sleeps, or all is stopped, nobody can say anything.
    let mut silence = Duration::ZERO;
    loop {
        let line = match process.lines.recv_timeout(SILENCE_STEP) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) if silence < SILENCE_MAX => {
                silence += SILENCE_STEP;
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                return Followed::Failed { seed: current.unwrap_or(0), kind: "hangs".into() };
            }
            Err(RecvTimeoutError::Disconnected) => match current {
                Some(seed) => return Followed::Failed { seed, kind: "process ended".into() },
                None => return Followed::Finished,
            },
        };
        silence = Duration::ZERO;
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words.as_slice() {
            ["start", seed] => current = Some(seed.parse().expect("a child writes numbers")),
            ["done", _, numbers] => {
                current = None;
                totals[0] += 1;
                for (total, n) in totals[1..].iter_mut().zip(numbers.split(' ')) {
                    *total += n.parse::<usize>().expect("a child writes numbers");
                }
            }
            ["refused", _, why] => *refusals.entry(why.to_string()).or_default() += 1,
            ["fail", seed, kind] => {
                return Followed::Failed {
                    seed: seed.parse().expect("a child writes numbers"),
                    kind: kind.to_string(),
                };
            }
            _ => {}
        }
    }
}

/// Shrinks the case and says how to repeat it.
fn report(seed: u64, kind: &str, said: &str, folder: &Path) {
    println!("\nseed {seed} failed: {kind}\n{said}\n\nrepeat it:");
    println!(
        "  MILLRACE_RANDOM_SEED={seed} MILLRACE_RANDOM_CASES=1 cargo test --release -p millrace-sql-tests --test random"
    );
    println!("shrinking …");
    std::io::stdout().flush().expect("standard output is open");
    let mut last_words = String::new();
    let script = folder.join(format!("seed-{seed}.sql"));
    let case = shrink(&generate::case(seed), Instant::now() + SHRINKING_MAX, |case| {
        std::fs::write(&script, case.to_string()).expect("the test's folder is writable");
        let mut process = Process::start(SCRIPT, &script.display().to_string(), folder.join("shrink"));
        let fails = matches!(follow(&process, &mut [0; 6], &mut BTreeMap::new()), Followed::Failed { kind: k, .. } if k == kind);
        process.stop();
        if fails {
            last_words = process.what_it_said();
        }
        fails
    });
    std::fs::write(&script, case.to_string()).expect("the test's folder is writable");
    println!("\n{} of its steps are enough:\n\n{case}\n{last_words}\n", case.steps.len());
    println!("repeat these:\n  {SCRIPT}={} cargo test --release -p millrace-sql-tests --test random", script.display());
}
