//! What streaming peers needed for five million events, measured once, earlier, on a machine of two cores: not in the
//! report's run, and good to 10 to 20 percent. The program does not run them.

/// A query; CPU seconds of DBSP and of Flink (NaN where there is none); whether Flink's was taken from one million events.
pub const CPU_S: &[(&str, f64, f64, bool)] = &[
    ("q0", 2.44, 4.5, false),
    ("q1", 4.60, f64::NAN, false),
    ("q2", 2.72, f64::NAN, false),
    ("q3", 2.80, 5.4, false),
    ("q4", 5.11, 26.5, false),
    ("q5", 4.88, 12.2, false),
    ("q6", 5.85, f64::NAN, false),
    ("q7", 17.47, 38.5, false),
    ("q8", 3.06, 6.6, false),
    ("q9", 14.83, 41.0, true),
    ("q14", 3.22, f64::NAN, false),
    ("q15", 6.58, 28.0, true),
    ("q16", 123.95, f64::NAN, false),
    ("q17", 11.06, 20.0, true),
    ("q18", 9.96, 19.0, true),
    ("q19", 10.38, 25.0, true),
    ("q20", 8.99, 39.0, true),
    ("q21", 3.20, f64::NAN, false),
    ("q22", 4.28, f64::NAN, false),
];

pub const EVENTS: f64 = 5e6;

/// How they were measured, in the report's words.
pub const CONDITIONS: &str = "\
Measured in November 2026 on a machine with 2 vCPU and 24 GiB, earlier and **not in this run**: the same generator's first
5,000,000 events, CPU seconds, good to 10 to 20 %. *DBSP*: Feldera's hand-written native Rust circuits, one worker, 40,000
events per step, the events already decoded in memory. *Flink* 2.3.0: SQL, parallelism 1, heap state, object reuse,
mini-batches of 2 s or 50,000 rows, warmed up; `*` extrapolated from one million events.
";
