//! The report `docs/performance.md`: sections, each of which asks one question of the queries, measures the sides that
//! answer it in turn, and tells the medians. `sections.rs` has the questions; here is what they share, and the page.

mod machine;
mod peers;
mod plot;
mod sections;
mod table;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::events::Error;
use crate::queries::Query;
use crate::sides::{Measured, Options, Side, measure};

/// The sections on growth and on workers take so many times the events of the others.
pub const GROWTH: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SectionName {
    /// All figures, and the batch runs of DataFusion and DuckDB.
    Main,
    /// Two workers against one, over five times the events.
    Workers,
    /// Epochs of 1,000 and 100 events against 10,000.
    Epochs,
    /// CPU time per event as the state grows, over five times the events.
    Growth,
    /// With log and checkpoints.
    Durable,
}

/// What to measure.
pub struct Bench {
    pub queries: Vec<&'static Query>,
    pub options: Options,
    pub runs: usize,
    pub input: PathBuf,
    /// The input of the sections on growth and on workers.
    pub growth_input: PathBuf,
    /// DuckDB's version, if it is there.
    pub duckdb: Option<String>,
    /// One JSON object per query instead of a table.
    pub json: bool,
}

/// What came of one section.
#[derive(Debug, Default)]
struct Section {
    markdown: String,
    /// What follows the report's name, and the SVG.
    plots: Vec<(&'static str, String)>,
    /// Markdown below the plots.
    after: String,
    /// Queries that failed, or whose sides did not give the same rows.
    wrong: Vec<&'static str>,
}

impl Bench {
    /// Measures and prints the sections, and writes them as Markdown with plots beside it, if asked to. Returns whether
    /// every query gave what it should.
    pub fn run(&self, sections: &[SectionName], report: Option<&Path>) -> Result<bool, Error> {
        let mut page = self.heading();
        let mut wrong = Vec::new();
        for name in sections {
            let section = match name {
                SectionName::Main => self.main(),
                SectionName::Workers => self.workers(),
                SectionName::Epochs => self.epochs(),
                SectionName::Growth => self.growth(),
                SectionName::Durable => self.durable(),
            };
            page += &section.markdown;
            wrong.extend(section.wrong);
            for (suffix, svg) in section.plots {
                if let Some(report) = report {
                    let name = format!("{}-{suffix}.svg", stem(report)?);
                    std::fs::write(report.with_file_name(&name), svg)?;
                    page += &format!("\n![{suffix}]({name})\n");
                }
            }
            page += &section.after;
        }
        if !wrong.is_empty() {
            page += &format!("\n**Wrong or failed in this run: {}.**\n", wrong.join(", "));
        }
        if let Some(report) = report {
            std::fs::write(report, page)?;
            println!("written to {}", report.display());
        }
        Ok(wrong.is_empty())
    }

    fn heading(&self) -> String {
        let duckdb = match &self.duckdb {
            Some(version) => format!("DuckDB {version}"),
            None => "no DuckDB (its columns are empty)".into(),
        };
        format!(
            "# Performance\n\n\
             Written by `make bench`; not to be edited by hand. `benches/README.md` says what each figure is.\n\n\
             | | |\n| --- | --- |\n\
             | machine | {} |\n| date | {} |\n| commit | {} |\n\
             | load before | {} |\n\
             | beside | DataFusion {}, {duckdb} |\n\
             | input | {} events of Nexmark ({} persons, {} auctions, {} bids), as Parquet |\n\
             | figures | medians of {} runs, the sides in turn, each in a process of its own |\n\n\
             An *event* is a person, an auction or a bid; only the tables that a query reads are fed. CPU seconds are\n\
             user + system of all threads, with reading and decoding the files.\n",
            machine::machine(),
            machine::date(),
            machine::commit(),
            machine::load(),
            datafusion::DATAFUSION_VERSION,
            thousands(self.options.events),
            thousands(self.options.events / 50),
            thousands(self.options.events / 50 * 3),
            thousands(self.options.events / 50 * 46),
            self.runs,
        )
    }

    /// Measures `sides` for each of the named queries (`all`) that are asked for, and hands over what they gave.
    fn each(
        &self,
        names: &[&str],
        sides: &[(Side, Options)],
        input: &Path,
        section: &mut Section,
        mut told: impl FnMut(&'static str, &Measured),
    ) {
        for query in self.queries.iter().filter(|query| names == ["all"] || names.contains(&query.name)) {
            // One that fails does not keep the others from being measured.
            match measure(query, sides, self.runs, input) {
                Ok(measured) => {
                    told(query.name, &measured);
                    if !measured.agrees {
                        section.wrong.push(query.name);
                    }
                }
                Err(error) => {
                    eprintln!("{}: {error}", query.name);
                    section.wrong.push(query.name);
                }
            }
        }
    }
}

fn stem(report: &Path) -> Result<&str, Error> {
    Ok(report.file_stem().and_then(|stem| stem.to_str()).ok_or("the report has a name in UTF-8")?)
}

/// `1,000,000`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("digits")).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        assert_eq!([7, 1_000, 12_345_678].map(thousands), ["7", "1,000", "12,345,678"]);
        assert_eq!(stem(Path::new("docs/performance.md")).unwrap(), "performance");
    }
}
