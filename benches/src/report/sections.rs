//! The report's questions. Each says how it is measured alone, so that it can be repeated.

use serde_json::json;

use super::plot::{self, Series};
use super::table::{Table, geometric_mean, geometric_means, number};
use super::{Bench, GROWTH, Section, peers, thousands};
use crate::sides::{Columns, Measured, Options, Runs, Side};

/// The queries whose operators are divided by key.
const KEYED: &[&str] = &["q3", "q4", "q5", "q6", "q7", "q8", "q9", "q11", "q15", "q16", "q17", "q18", "q19", "q20"];
/// One of each kind: stateless, join, join and aggregate, windows, top-1, aggregate, last row, top-10, wide join.
const ONE_OF_EACH: &[&str] = &["q0", "q3", "q4", "q5", "q9", "q17", "q18", "q19", "q20"];
/// An aggregate over a join, an aggregate, and one row kept per key.
const GROWING: &[&str] = &["q4", "q17", "q18"];
const SLICES: u64 = 10;

impl Bench {
    pub(super) fn main(&self) -> Section {
        let mut sides = vec![(Side::Maintain, self.options.clone()), (Side::Batch, self.options.clone())];
        if self.duckdb.is_some() {
            sides.push((Side::Duckdb, self.options.clone()));
        }
        sides.push((Side::Maintain, Options { columns: Columns::Needed, ..self.options.clone() }));
        let mut table = Table::new(
            &[
                "query",
                "M events/CPU s",
                "M events/s",
                "CPU s",
                "read CPU s",
                "peak MB",
                "state MB",
                "state B/row",
                "DataFusion CPU s",
                "DuckDB CPU s",
                "÷ DataFusion",
                "÷ DuckDB",
                "needed columns: CPU s",
                "÷ DataFusion",
                "÷ DuckDB",
            ],
            !self.json,
        );
        let mut section = Section::default();
        let mut told: Vec<Told> = Vec::new();
        self.each(&["all"], &sides, &self.input, &mut section, |query, measured| {
            let one = Told::new(query, measured);
            if self.json {
                println!("{}", to_json(measured));
            }
            table.push(one.cells(measured.agrees));
            told.push(one);
        });
        let ratios: [fn(&Told) -> f64; 4] =
            [|t| t.ratio_data_fusion, |t| t.ratio_duckdb, |t| t.needed.ratio_data_fusion, |t| t.needed.ratio_duckdb];
        let [data_fusion, duckdb, needed_data_fusion, needed_duckdb] =
            ratios.map(|f| geometric_mean(told.iter().map(f)));
        let rates = geometric_mean(told.iter().map(|t| t.events / t.cpu_s / 1e6));
        let walls = geometric_mean(told.iter().map(|t| t.events / t.wall_s / 1e6));
        let mut means = vec![String::new(); 15];
        means[0] = "geo mean".into();
        let ratios = [(10, data_fusion), (11, duckdb), (13, needed_data_fusion), (14, needed_duckdb)];
        for (place, mean) in [(1, rates), (2, walls)].into_iter().chain(ratios) {
            means[place] = number(mean, 2);
        }
        table.push(means);
        let above = |f: fn(&Told) -> f64| match told.iter().any(|t| f(t).is_finite()) {
            true => list(told.iter().filter(|t| f(t) > 1.0).map(|t| t.query)),
            false => "not measured".into(),
        };
        section.markdown = format!(
            "\n## Every query, beside one batch run of it\n\n{}\
             `÷` are ratios of CPU seconds: what it costs to keep the result right after every epoch of {} events, from\n\
             the first to the last, divided by what it costs to compute it once, at the end, on one thread. Below 1\n\
             Millrace keeps the result for less than computing it once costs. A stream takes its rows whole, while batch\n\
             runs read only the columns that they need: `read CPU s` is the part of `CPU s` that reads and decodes. The last\n\
             three columns are of streams that have only the columns which the query needs, so that all sides decode the\n\
             same bytes.\n\n{}\n\
             More CPU time than one batch run of DataFusion: {}.\n\
             Than one of DuckDB: {}; with the needed columns alone: {}.\n",
            self.command("main"),
            thousands(self.options.epoch_events),
            table.markdown(),
            above(|t| t.ratio_data_fusion),
            above(|t| t.ratio_duckdb),
            above(|t| t.needed.ratio_duckdb),
        );
        if told.len() > 1 {
            let labels: Vec<String> = told.iter().map(|t| t.query.to_string()).collect();
            let series = |name: &str, f: fn(&Told) -> f64| Series {
                name: name.into(),
                values: told.iter().map(|t| f(t) * 1e6 / t.events).collect(),
            };
            let series = [
                series("Millrace, maintained", |t| t.cpu_s),
                series("DataFusion, once", |t| t.data_fusion_cpu_s),
                series("DuckDB, once", |t| t.duckdb_cpu_s),
            ];
            section
                .plots
                .push(("queries", plot::bars("CPU seconds per million events (logarithmic)", &labels, &series)));
        }
        section.after = streaming_peers(&told);
        section
    }

    pub(super) fn workers(&self) -> Section {
        // Longer than the others: a view over a million events is there in a twentieth of a second.
        let events = self.options.events * GROWTH;
        let sides = [1, 2]
            .map(|workers| (Side::Maintain, Options { workers, events, read_first: true, ..self.options.clone() }));
        let headings = ["query", "wall s, one", "wall s, two", "wall two ÷ one", "CPU two ÷ one"];
        let mut table = Table::new(&headings, !self.json);
        let mut section = Section::default();
        let mut ratios = Vec::new();
        self.each(KEYED, &sides, &self.growth_input, &mut section, |query, measured| {
            let [one, two] = &measured.sides[..] else { unreachable!("two sides were asked for") };
            let [wall, cpu] = ["wall_s", "cpu_s"].map(|figure| two.ratio(one, figure));
            ratios.push([wall, cpu]);
            let walls = [one, two].map(|side| number(side.median("wall_s"), 2));
            let cells = [query.to_string()].into_iter().chain(walls).chain([number(wall, 2), number(cpu, 2)]);
            table.push(cells.collect());
        });
        let [wall, cpu] = geometric_means(&ratios);
        table.push(vec!["geo mean".into(), String::new(), String::new(), wall, cpu]);
        section.markdown = format!(
            "\n## Two workers against one\n\n{}\
             The queries whose state is divided by key, over {} events. The files are read before, since the thread\n\
             that reads them would share two cores with the workers; the thread that makes epochs still does. 0.50 would be\n\
             twice as fast.\n\n{}",
            self.command("workers"),
            thousands(events),
            table.markdown(),
        );
        section
    }

    pub(super) fn epochs(&self) -> Section {
        let sides =
            [10_000, 1_000, 100].map(|epoch_events| (Side::Maintain, Options { epoch_events, ..self.options.clone() }));
        let headings = ["query", "CPU s at 10,000", "1,000 ÷ 10,000", "100 ÷ 10,000", "CPU µs/epoch of 100"];
        let mut table = Table::new(&headings, !self.json);
        let mut section = Section::default();
        let mut ratios = Vec::new();
        self.each(ONE_OF_EACH, &sides, &self.input, &mut section, |query, measured| {
            let [long, middle, short] = &measured.sides[..] else { unreachable!("three sides were asked for") };
            let [middle_ratio, short_ratio] = [middle, short].map(|side| side.ratio(long, "cpu_s"));
            ratios.push([middle_ratio, short_ratio]);
            table.push(vec![
                query.into(),
                number(long.median("cpu_s"), 3),
                number(middle_ratio, 2),
                number(short_ratio, 2),
                number(short.median("cpu_s") / short.median("epochs") * 1e6, 0),
            ]);
        });
        let [middle, short] = geometric_means(&ratios);
        table.push(vec!["geo mean".into(), String::new(), middle, short, String::new()]);
        section.markdown = format!(
            "\n## Shorter epochs\n\n{}\
             CPU seconds with epochs of 1,000 and of 100 events, divided by those with 10,000. The shorter an epoch, the\n\
             sooner its rows are seen, and the more often its fixed cost is paid.\n\n{}",
            self.command("epochs"),
            table.markdown(),
        );
        section
    }

    pub(super) fn growth(&self) -> Section {
        let options = Options { events: self.options.events * GROWTH, slices: SLICES, ..self.options.clone() };
        let mut section = Section::default();
        let mut events = 0.0;
        let mut series = Vec::new();
        let sides = [(Side::Maintain, options.clone())];
        self.each(GROWING, &sides, &self.growth_input, &mut section, |query, measured| {
            let side = &measured.sides[0];
            events = side.median("events");
            let epoch_events = events / side.median("epochs");
            let of_slice = |slice| side.median(&format!("slice_epoch_cpu_s/{slice}")) * 1e9 / epoch_events;
            series.push(Series { name: query.into(), values: (0..SLICES).map(of_slice).collect() });
        });
        if series.is_empty() {
            return section;
        }
        let xs: Vec<f64> = (1..=SLICES).map(|slice| events / 1e6 * slice as f64 / SLICES as f64).collect();
        let headings: Vec<String> = [String::from("M events")]
            .into_iter()
            .chain(series.iter().map(|s| format!("{}, CPU ns/event", s.name)))
            .collect();
        let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>(), !self.json);
        for (slice, x) in xs.iter().enumerate() {
            let cells = series.iter().map(|s| number(s.values[slice], 0));
            table.push([number(*x, 2)].into_iter().chain(cells).collect());
        }
        // The first is left out: it also starts everything.
        let last = SLICES as usize - 1;
        let cells = series.iter().map(|s| number(s.values[last] / s.values[1], 2));
        table.push([String::from("last ÷ 2nd")].into_iter().chain(cells).collect());
        section.markdown = format!(
            "\n## As the state grows\n\n{}\
             CPU nanoseconds per event, without reading the files, of each tenth of {} events.\n\n{}",
            self.command("growth"),
            thousands(events as u64),
            table.markdown(),
        );
        let title = "CPU nanoseconds per event";
        section.plots.push(("growth", plot::lines(title, "million events taken", &xs, &series)));
        section
    }

    pub(super) fn durable(&self) -> Section {
        let sides = [(false, false), (true, false), (true, true)]
            .map(|(log, checkpoint)| (Side::Maintain, Options { log, checkpoint, ..self.options.clone() }));
        let headings =
            ["query", "CPU s, neither", "log", "log ÷ neither", "log + checkpoints", "÷ neither", "M events/s"];
        let mut table = Table::new(&headings, !self.json);
        let mut section = Section::default();
        let mut ratios = Vec::new();
        self.each(ONE_OF_EACH, &sides, &self.input, &mut section, |query, measured| {
            let [neither, log, both] = &measured.sides[..] else { unreachable!("three sides were asked for") };
            let [log_ratio, both_ratio] = [log, both].map(|side| side.ratio(neither, "cpu_s"));
            ratios.push([log_ratio, both_ratio]);
            table.push(vec![
                query.into(),
                number(neither.median("cpu_s"), 3),
                number(log.median("cpu_s"), 3),
                number(log_ratio, 2),
                number(both.median("cpu_s"), 3),
                number(both_ratio, 2),
                number(both.median("events") / both.median("wall_s") / 1e6, 2),
            ]);
        });
        let [log_mean, both_mean] = geometric_means(&ratios);
        let empty = String::new;
        table.push(vec!["geo mean".into(), empty(), empty(), log_mean, empty(), both_mean, empty()]);
        section.markdown = format!(
            "\n## With log and checkpoints\n\n{}\
             The first table is without a log, as the batch runs have none. Here the events are logged, each epoch synced\n\
             before it counts as taken, and then also checkpointed every five seconds; the last column is wall time of that.\n\n{}",
            self.command("durable"),
            table.markdown(),
        );
        section
    }

    /// How to repeat a section.
    fn command(&self, section: &str) -> String {
        let flags = self.options.flags().join(" ");
        format!("`nexmark --sections {section} --runs {} {flags}`\n\n", self.runs)
    }
}

/// A query's medians in the main section.
struct Told {
    query: &'static str,
    events: f64,
    rows_in: f64,
    wall_s: f64,
    cpu_s: f64,
    read_cpu_s: f64,
    peak_rss_bytes: f64,
    state_bytes: f64,
    data_fusion_cpu_s: f64,
    duckdb_cpu_s: f64,
    ratio_data_fusion: f64,
    ratio_duckdb: f64,
    needed: Needed,
}

/// The same over streams that have only the columns which the query needs.
struct Needed {
    cpu_s: f64,
    ratio_data_fusion: f64,
    ratio_duckdb: f64,
}

impl Told {
    fn new(query: &'static str, measured: &Measured) -> Self {
        let (ours, data_fusion) = (&measured.sides[0], &measured.sides[1]);
        let (duckdb, narrow) = duckdb_and_narrow(measured);
        let to_duckdb = |ours: &Runs| duckdb.map_or(f64::NAN, |side| ours.ratio(side, "cpu_s"));
        Told {
            query,
            events: ours.median("events"),
            rows_in: ours.median("rows_in"),
            wall_s: ours.median("wall_s"),
            cpu_s: ours.median("cpu_s"),
            read_cpu_s: ours.median("read_cpu_s"),
            peak_rss_bytes: ours.median("peak_rss_bytes"),
            state_bytes: ours.median("state_bytes"),
            data_fusion_cpu_s: data_fusion.median("cpu_s"),
            duckdb_cpu_s: duckdb.map_or(f64::NAN, |side| side.median("cpu_s")),
            ratio_data_fusion: ours.ratio(data_fusion, "cpu_s"),
            ratio_duckdb: to_duckdb(ours),
            needed: Needed {
                cpu_s: narrow.median("cpu_s"),
                ratio_data_fusion: narrow.ratio(data_fusion, "cpu_s"),
                ratio_duckdb: to_duckdb(narrow),
            },
        }
    }

    fn cells(&self, agrees: bool) -> Vec<String> {
        vec![
            format!("{}{}", self.query, if agrees { "" } else { " DIFFERS" }),
            number(self.events / self.cpu_s / 1e6, 2),
            number(self.events / self.wall_s / 1e6, 2),
            number(self.cpu_s, 3),
            number(self.read_cpu_s, 3),
            number(self.peak_rss_bytes / 1e6, 0),
            number(self.state_bytes / 1e6, 1),
            number(self.state_bytes / self.rows_in, 1),
            number(self.data_fusion_cpu_s, 3),
            number(self.duckdb_cpu_s, 3),
            number(self.ratio_data_fusion, 2),
            number(self.ratio_duckdb, 2),
            number(self.needed.cpu_s, 3),
            number(self.needed.ratio_data_fusion, 2),
            number(self.needed.ratio_duckdb, 2),
        ]
    }
}

/// DuckDB's side, where there is one, and Millrace's with the needed columns alone, which is the last.
fn duckdb_and_narrow(measured: &Measured) -> (Option<&Runs>, &Runs) {
    let [.., narrow] = &measured.sides[..] else { unreachable!("the maintaining sides are always there") };
    (measured.sides.get(2).filter(|_| measured.sides.len() > 3), narrow)
}

/// The maintaining side's object, with the batch runs' figures in it.
fn to_json(measured: &Measured) -> serde_json::Value {
    let (ours, data_fusion) = (&measured.sides[0], &measured.sides[1]);
    let mut object = ours.to_json();
    object["batch_cpu_s"] = json!(data_fusion.median("cpu_s"));
    object["batch_wall_s"] = json!(data_fusion.median("wall_s"));
    object["batch_peak_rss_bytes"] = json!(data_fusion.median("peak_rss_bytes") as u64);
    object["ratio"] = json!(ours.ratio(data_fusion, "cpu_s"));
    let (duckdb, narrow) = duckdb_and_narrow(measured);
    object["needed_cpu_s"] = json!(narrow.median("cpu_s"));
    object["needed_ratio"] = json!(narrow.ratio(data_fusion, "cpu_s"));
    if let Some(duckdb) = duckdb {
        object["needed_duckdb_ratio"] = json!(narrow.ratio(duckdb, "cpu_s"));
        object["duckdb_cpu_s"] = json!(duckdb.median("cpu_s"));
        object["duckdb_wall_s"] = json!(duckdb.median("wall_s"));
        object["duckdb_ratio"] = json!(ours.ratio(duckdb, "cpu_s"));
    }
    object["agrees"] = json!(measured.agrees);
    let fields = object.as_object_mut().expect("a side answers an object");
    fields.remove("sums");
    fields.remove("slice_epoch_cpu_s");
    object
}

/// The figures above beside the peers' earlier ones.
fn streaming_peers(told: &[Told]) -> String {
    let headings =
        ["query", "DBSP", "Flink", "Millrace", "Millrace ÷ DBSP", "Millrace ÷ Flink", "without reading ÷ DBSP"];
    let mut table = Table::new(&headings, false);
    let (mut queries, mut ratios) = (Vec::new(), Vec::new());
    for (query, dbsp_s, flink_s, extrapolated) in peers::CPU_S {
        let Some(ours) = told.iter().find(|t| t.query == *query) else { continue };
        let [dbsp, flink] = [dbsp_s, flink_s].map(|cpu_s| peers::EVENTS / cpu_s / 1e6);
        let rate = ours.events / ours.cpu_s / 1e6;
        let bare = ours.events / (ours.cpu_s - ours.read_cpu_s) / 1e6;
        queries.push(*query);
        ratios.push([rate / dbsp, rate / flink, bare / dbsp]);
        table.push(vec![
            query.to_string(),
            number(dbsp, 2),
            format!("{}{}", number(flink, 2), if *extrapolated { "*" } else { "" }),
            number(rate, 2),
            number(rate / dbsp, 2),
            number(rate / flink, 2),
            number(bare / dbsp, 2),
        ]);
    }
    let [dbsp, flink, bare] = geometric_means(&ratios);
    table.push(vec!["geo mean".into(), String::new(), String::new(), String::new(), dbsp, flink, bare]);
    let slower =
        |peer: usize| list(queries.iter().zip(&ratios).filter(|(_, r)| r[peer] < 1.0).map(|(query, _)| *query));
    format!(
        "\n## Beside streaming peers, measured earlier\n\n{}\n\
         Million events per CPU second. Millrace's figures are those of the first table: with reading the files, which\n\
         DBSP's leave out (the last column leaves it out too), but only the tables that a query reads, which for q3 and q8\n\
         are 8 % of the events.\n\n{}\n\
         Slower than DBSP: {}.\nSlower than Flink: {}.\n",
        peers::CONDITIONS,
        table.markdown(),
        slower(0),
        slower(1),
    )
}

/// `q3, q8`, or `none`.
fn list<'a>(queries: impl Iterator<Item = &'a str>) -> String {
    let queries: Vec<&str> = queries.collect();
    if queries.is_empty() { "none".into() } else { queries.join(", ") }
}
