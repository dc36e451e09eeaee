//! The random oracle: from one seed a schema, views and changes; after them every view must equal the batch
//! answer to its query.
//!
//! A case is a list of steps, one a line, so that it can be kept, shrunk, read, and given to psql:
//!
//! ```text
//!   -- open 3
//!   CREATE TABLE t0 (c0 int PRIMARY KEY, c1 text)
//!   CREATE MATERIALIZED VIEW v0 AS SELECT r0.c1 AS c0, count(*) AS c1 FROM t0 AS r0 GROUP BY r0.c1
//!   INSERT INTO t0 VALUES (1, 'a'), (2, NULL) ON CONFLICT (c0) DO NOTHING
//!   -- check
//!   -- crash 2
//! ```
//!
//! [`generate`] makes a case of a seed, [`run`] runs it, [`shrink`] drops what a failure does not need.

pub mod aggregates;
pub mod changes;
pub mod expression;
pub mod final_rows;
pub mod from;
pub mod generate;
pub mod lateral;
pub mod ordered;
pub mod query;
pub mod recursive;
pub mod run;
pub mod sets;
pub mod shrink;
pub mod subqueries;
pub mod windows;

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Sql(String),
    /// Kill the engine and open it again with so many workers.
    Crash(usize),
    /// Stop the engine in order, and open it again with so many workers.
    Restart(usize),
    /// Compare every view with its query.
    Check,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Workers at first.
    pub workers: usize,
    pub steps: Vec<Step>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Sql(sql) => write!(f, "{sql};"),
            Step::Crash(workers) => write!(f, "-- crash {workers}"),
            Step::Restart(workers) => write!(f, "-- restart {workers}"),
            Step::Check => write!(f, "-- check"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- open {}", self.workers)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl Case {
    /// Reads what `Display` wrote. Other comments are skipped.
    pub fn parse(text: &str) -> Case {
        let mut case = Case { workers: 1, steps: Vec::new() };
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let number = |rest: &str| rest.trim().parse().expect("a number of workers");
            if let Some(rest) = line.strip_prefix("-- open") {
                case.workers = number(rest);
            } else if let Some(rest) = line.strip_prefix("-- crash") {
                case.steps.push(Step::Crash(number(rest)));
            } else if let Some(rest) = line.strip_prefix("-- restart") {
                case.steps.push(Step::Restart(number(rest)));
            } else if line == "-- check" {
                case.steps.push(Step::Check);
            } else if !line.starts_with("--") {
                case.steps.push(Step::Sql(line.trim_end_matches(';').to_string()));
            }
        }
        case
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_survives_its_text_and_depends_on_its_seed_alone() {
        for seed in 0..50 {
            let case = generate::case(seed);
            assert_eq!(Case::parse(&case.to_string()), case);
            assert_eq!(generate::case(seed), case);
        }
    }
}
