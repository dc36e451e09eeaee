//! Aggregates by example, then against a naive recompute.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, UInt32Array};

use super::*;
use crate::delta::text::schema;
use crate::operators::check::{Checker, Disk, check};
use crate::state::durable::Share;

/// A call as text: `count(*)`, `sum(1)`, `count(distinct 1) filter 2`; numbers are input columns.
fn call(text: &str) -> AggregateCall {
    let (name, rest) = text.split_once('(').unwrap();
    let (argument, filter) = rest.split_once(')').unwrap();
    let function = match name {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "bool_and" => AggregateFunction::BoolAnd,
        "bool_or" => AggregateFunction::BoolOr,
        "var_pop" => AggregateFunction::VarPop,
        "var_samp" => AggregateFunction::VarSamp,
        "stddev_pop" => AggregateFunction::StddevPop,
        "stddev_samp" => AggregateFunction::StddevSamp,
        other => panic!("{other}"),
    };
    AggregateCall {
        function,
        argument: argument.trim_start_matches("distinct ").parse().ok(),
        filter: filter.trim().strip_prefix("filter ").map(|column| column.parse().unwrap()),
        distinct: argument.starts_with("distinct "),
    }
}

fn spec(input: &str, group: &[usize], calls: &[&str]) -> AggregateSpec {
    let input = schema(input);
    let calls: Vec<AggregateCall> = calls.iter().map(|text| call(text)).collect();
    let mut fields: Vec<_> = group.iter().map(|column| input.field(*column).clone()).collect();
    for (i, call) in calls.iter().enumerate() {
        let argument = call.argument.map(|column| input.field(column).data_type());
        let output = output_type(call.function, argument).unwrap();
        fields.push(arrow::datatypes::Field::new(format!("f{i}"), output, true));
    }
    let output = Arc::new(arrow::datatypes::Schema::new(fields));
    AggregateSpec { group: group.to_vec(), calls, input, output, append_only: false, owner: true, expiry: None }
}

fn checker(spec: &AggregateSpec) -> Checker<Aggregate> {
    Checker::new(Aggregate::new(spec.clone()).unwrap(), &[spec.input.clone()])
}

#[test]
fn groups_come_change_and_go() {
    let mut c = checker(&spec("k: Utf8, x: Int64", &[0], &["count(*)", "sum(1)", "count(1)"]));
    c.epoch(&[(0, "+1 | a | 5\n+1 | a | 7\n+1 | b | NULL")], "+1 | a | 2 | 12 | 2\n+1 | b | 1 | NULL | 0");
    c.epoch(&[(0, "-1 | a | 5")], "-1 | a | 2 | 12 | 2\n+1 | a | 1 | 7 | 1");
    c.epoch(&[(0, "-1 | a | 7\n-1 | b | NULL")], "-1 | a | 1 | 7 | 1\n-1 | b | 1 | NULL | 0");
    assert_eq!((c.operator.groups.len(), c.operator.groups.bound()), (0, 2));
    // Ids are used again, and nothing of the old group is left.
    c.epoch(&[(0, "+2 | c | 1")], "+1 | c | 2 | 2 | 2");
    assert_eq!(c.operator.groups.bound(), 2);
}

#[test]
fn a_retraction_may_come_first() {
    let mut c = checker(&spec("k: Int64, x: Int64", &[0], &["count(*)", "max(1)", "count(distinct 1)"]));
    c.epoch(&[(0, "-1 | 1 | 9"), (0, "+2 | 1 | 9\n-3 | 2 | 1"), (0, "+3 | 2 | 1")], "+1 | 1 | 1 | 9 | 1");
    c.epoch(&[(0, "-1 | 1 | 9"), (0, "+1 | 1 | 9")], "");
    c.epoch(&[(0, "-1 | 1 | 9"), (0, "+1 | 1 | 8")], "-1 | 1 | 1 | 9 | 1\n+1 | 1 | 1 | 8 | 1");
}

#[test]
fn nulls_are_a_group_and_no_values() {
    let mut c =
        checker(&spec("k: Int64, x: Int64, b: Boolean", &[0], &["count(1)", "sum(1)", "min(1)", "bool_and(2)"]));
    c.epoch(
        &[(0, "+1 | NULL | NULL | NULL\n+1 | NULL | 3 | true\n+1 | 0 | NULL | NULL")],
        "+1 | NULL | 1 | 3 | 3 | true\n+1 | 0 | 0 | NULL | NULL | NULL",
    );
    c.epoch(&[(0, "-1 | NULL | 3 | true")], "-1 | NULL | 1 | 3 | 3 | true\n+1 | NULL | 0 | NULL | NULL | NULL");
}

#[test]
fn without_group_by_there_is_always_one_row() {
    let one = spec("x: Int64", &[], &["count(*)", "sum(0)", "max(0)"]);
    let mut c = checker(&one);
    c.epoch(&[], "+1 | 0 | NULL | NULL");
    c.epoch(&[], "");
    c.epoch(&[(0, "+1 | 4")], "-1 | 0 | NULL | NULL\n+1 | 1 | 4 | 4");
    c.epoch(&[(0, "-1 | 4")], "-1 | 1 | 4 | 4\n+1 | 0 | NULL | NULL");
    check(Aggregate::new(one.clone()).unwrap(), &[one.input.clone()], &[(0, "+1 | 4")], "+1 | 1 | 4 | 4");
    // Another worker has none.
    check(Aggregate::new(AggregateSpec { owner: false, ..one.clone() }).unwrap(), &[one.input.clone()], &[], "");
}

#[test]
fn filters_and_distinct() {
    let calls =
        ["count(*) filter 2", "count(distinct 1)", "count(distinct 1) filter 2", "sum(distinct 1)", "avg(distinct 1)"];
    let mut c = checker(&spec("k: Int64, x: Int32, f: Boolean", &[0], &calls));
    c.epoch(
        &[(0, "+2 | 1 | 5 | true\n+1 | 1 | 5 | false\n+1 | 1 | 6 | NULL\n+1 | 1 | NULL | true")],
        "+1 | 1 | 3 | 2 | 1 | 11 | 5.5000000000000000",
    );
    // One 5 remains, without the filter.
    c.epoch(
        &[(0, "-2 | 1 | 5 | true")],
        "-1 | 1 | 3 | 2 | 1 | 11 | 5.5000000000000000\n+1 | 1 | 1 | 2 | 0 | 11 | 5.5000000000000000",
    );
    c.epoch(&[(0, "-1 | 1 | 5 | false\n+1 | 1 | 5 | false")], "");
    // One table of values serves them all.
    assert_eq!(c.operator.values.len(), 1);
    assert_eq!(c.operator.accumulators.len(), 3);
}

#[test]
fn sums_and_averages_of_every_type() {
    let input = "s: Int16, i: Int32, l: Int64, n: Decimal128(10, 2), r: Float32, d: Float64";
    let calls =
        ["sum(0)", "sum(1)", "sum(2)", "sum(3)", "sum(4)", "sum(5)", "avg(0)", "avg(2)", "avg(3)", "avg(4)", "avg(5)"];
    let one = spec(input, &[], &calls);
    let types: Vec<String> = one.output.fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types[..6].join(" "), "Int64 Int64 Decimal128(38, 0) Decimal128(38, 2) Float32 Float64");
    assert_eq!(types[6..].join(" "), "Decimal128(38, 16) Decimal128(38, 16) Decimal128(38, 16) Float64 Float64");
    let third = "0.3333333333333333";
    check(
        Aggregate::new(one.clone()).unwrap(),
        &[one.input.clone()],
        &[(
            0,
            "+2 | 0 | 0 | 0 | 0.00 | 0 | 0\n+1 | 1 | 1 | 1 | 0.01 | 0.5 | 1e300\n+1 | NULL | NULL | NULL | NULL | NULL | NULL",
        )],
        &format!(
            "+1 | 1 | 1 | 1 | 0.01 | 0.5 | 1e300 | {third} | {third} | 0.0033333333333333 | 0.16666666666666666 | 3.3333333333333335e299"
        ),
    );
}

#[test]
fn float_sums_are_exact() {
    let mut c = checker(&spec("k: Int64, x: Float64", &[0], &["sum(1)"]));
    c.epoch(&[(0, "+1 | 1 | 1e300\n+1 | 1 | 0.1")], "+1 | 1 | 1e300");
    c.epoch(&[(0, "-1 | 1 | 1e300")], "-1 | 1 | 1e300\n+1 | 1 | 0.1");
    c.epoch(&[(0, "+1 | 1 | NaN")], "-1 | 1 | 0.1\n+1 | 1 | NaN");
    c.epoch(&[(0, "-1 | 1 | NaN\n+9 | 1 | 0.1")], "-1 | 1 | NaN\n+1 | 1 | 1.0");
}

#[test]
fn variances() {
    let calls = ["var_pop(1)", "var_samp(1)", "stddev_pop(1)", "stddev_samp(2)", "var_pop(distinct 1)", "count(1)"];
    let mut c = checker(&spec("k: Int64, x: Int32, n: Decimal128(10, 1)", &[0], &calls));
    c.epoch(&[(0, "+1 | 1 | 2 | 0.5")], "+1 | 1 | 0.0 | NULL | 0.0 | NULL | 0.0 | 1");
    c.epoch(
        &[(0, "+3 | 1 | 4 | 0.5\n+2 | 1 | 5 | NULL\n+1 | 1 | 7 | NULL\n+1 | 1 | 9 | NULL\n+1 | 1 | NULL | 5.5")],
        "-1 | 1 | 0.0 | NULL | 0.0 | NULL | 0.0 | 1\n\
         +1 | 1 | 4.0 | 4.571428571428571 | 2.0 | 2.23606797749979 | 5.84 | 8",
    );
    c.epoch(
        &[(0, "-3 | 1 | 4 | 0.5\n-2 | 1 | 5 | NULL\n-1 | 1 | 7 | NULL\n-1 | 1 | 9 | NULL")],
        "-1 | 1 | 4.0 | 4.571428571428571 | 2.0 | 2.23606797749979 | 5.84 | 8\n\
         +1 | 1 | 0.0 | NULL | 0.0 | 3.5355339059327378 | 0.0 | 1",
    );
}

#[test]
fn min_and_max_of_every_kind() {
    let input =
        "k: Int64, i: Int16, b: Boolean, d: Float64, n: Decimal128(20, 2), t: Utf8, y: Binary, w: Timestamp(µs)";
    let calls = [
        "min(1)", "max(1)", "min(2)", "max(2)", "min(3)", "max(3)", "min(4)", "max(4)", "min(5)", "max(5)", "max(6)",
        "min(7)",
    ];
    let rows = "+1 | 1 | -3 | false | -0.5 | -1.50 | abc | abc | 2026-01-01T00:00:00\n\
                +1 | 1 | 4 | true | NaN | 22.00 | ab | b | 2025-01-01T00:00:00\n\
                +1 | 1 | NULL | NULL | NULL | NULL | NULL | NULL | NULL";
    let expected = "+1 | 1 | -3 | 4 | false | true | -0.5 | NaN | -1.50 | 22.00 | ab | abc | 62 | 2025-01-01T00:00:00";
    for append_only in [false, true] {
        let spec = AggregateSpec { append_only, ..spec(input, &[0], &calls) };
        let mut c = checker(&spec);
        c.epoch(&[(0, rows)], expected);
        if !append_only {
            c.epoch(
                &[(0, &format!("-{}", &rows[1..rows.find('\n').unwrap()]))],
                &format!(
                    "-{}\n+1 | 1 | 4 | 4 | true | true | NaN | NaN | 22.00 | 22.00 | ab | ab | 62 | 2025-01-01T00:00:00",
                    &expected[1..]
                ),
            );
        }
    }
}

#[test]
fn a_sum_out_of_range_sets_its_group_aside() {
    let mut c = checker(&spec("k: Utf8, n: Decimal128(38, 0)", &[0], &["sum(1)", "count(*)"]));
    let most = "9".repeat(38);
    let rows = format!("+1 | a | {most}\n+1 | b | 1");
    c.epoch(&[(0, &rows)], &format!("+1 | a | {most} | 1\n+1 | b | 1 | 1"));
    c.epoch(&[(0, "+1 | a | 1")], &format!("-1 | a | {most} | 1\nerror +1 | numeric field overflow | a"));
    c.epoch(&[(0, "+1 | a | 1")], "");
    c.epoch(&[(0, "-1 | a | 1\n-1 | a | 1")], &format!("+1 | a | {most} | 1\nerror -1 | numeric field overflow | a"));

    let mut c = checker(&spec("x: Int32", &[], &["sum(0)"]));
    c.epoch(&[(0, "+4294967300 | 2147483647")], "error +1 | bigint out of range |");
    c.epoch(&[(0, "-4294967299 | 2147483647")], "error -1 | bigint out of range | \n+1 | 2147483647");
}

#[test]
fn without_calls_it_is_distinct() {
    let mut c = checker(&spec("a: Int64, b: Utf8", &[0, 1], &[]));
    c.epoch(&[(0, "+1 | 1 | x\n+1 | 1 | x\n+1 | NULL | NULL")], "+1 | 1 | x\n+1 | NULL | NULL");
    c.epoch(&[(0, "-1 | 1 | x\n-1 | NULL | NULL")], "-1 | NULL | NULL");
    c.epoch(&[(0, "-1 | 1 | x\n+1 | 1 | y")], "-1 | 1 | x\n+1 | 1 | y");
}

#[test]
fn what_cannot_be() {
    let error = |call: &str, ty: &str| {
        let input = schema(&format!("x: {ty}"));
        let call = super::tests::call(call);
        output_type(call.function, call.argument.map(|column| input.field(column).data_type())).unwrap_err().code
    };
    assert_eq!(error("sum(0)", "Utf8"), "42883");
    assert_eq!(error("avg(0)", "Boolean"), "42883");
    let interval = spec("x: Interval(MonthDayNano)", &[], &["max(0)"]);
    assert_eq!(Aggregate::new(interval).err().map(|e| e.code), Some("0A000"));
    let mut wrong = spec("x: Int64", &[], &["sum(0)"]);
    wrong.output = schema("s: Int64");
    assert_eq!(Aggregate::new(wrong).err().map(|e| e.code), Some("XX000"));
}

#[test]
fn a_large_epoch_is_said_in_steps() {
    let spec = spec("k: Int64", &[0], &["count(*)"]);
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..200_000));
    let rows = RecordBatch::try_new(spec.input.clone(), vec![column]).unwrap();
    let mut operator = Aggregate::new(spec).unwrap();
    let header = EpochHeader { epoch: 1, ..EpochHeader::default() };
    for (delta, sign) in [(Delta::inserts(rows.clone()), 1), (Delta::retractions(rows), -1)] {
        let mut out = Output::default();
        operator.update(0, delta, &mut out).unwrap();
        let mut steps = 1;
        while operator.finish_epoch(&header, &mut out).unwrap() == Step::Again {
            steps += 1;
        }
        assert_eq!(steps, 200_000usize.div_ceil(OUTPUT_ROWS));
        assert_eq!(out.deltas.iter().map(Delta::len).sum::<usize>(), 200_000);
        assert!(out.deltas.iter().all(|delta| delta.len() == OUTPUT_ROWS || delta.len() == 200_000 % OUTPUT_ROWS));
        assert!(out.deltas.iter().all(|delta| delta.weight(0) == sign));
    }
    assert_eq!(operator.state_rows(), 0);
}

/// Heaps drop what is gone, and so do the tables behind them.
#[test]
fn heaps_stay_small() {
    let mut c = checker(&spec("k: Int64, x: Int64", &[0], &["max(1)", "min(1)"]));
    for i in 0..2000i64 {
        c.run(vec![(0, crate::delta::text::parse(&c.inputs[0], &format!("+1 | 1 | {i}\n+1 | 1 | 5000")))]);
        c.run(vec![(
            0,
            crate::delta::text::parse(&c.inputs[0], &format!("-1 | 1 | {i}\n-1 | 1 | 5000\n+1 | 1 | 100")),
        )]);
    }
    assert!(c.operator.state_rows() < 60, "{} entries for one group and one value", c.operator.state_rows());
    c.epoch(&[(0, "-2000 | 1 | 100")], "-1 | 1 | 100 | 100");
    assert_eq!(c.operator.state_rows(), 0);
}

/// Texts that have their first bytes in common, or nearly, come and go.
#[test]
fn extremes_of_texts_that_begin_alike() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut c = checker(&spec("k: Int64, s: Utf8", &[0], &["max(1)", "min(1)"]));
    let text = |i: usize| format!("'{}{}'", &"a long beginning, and more"[..i % 27], &"xyz"[..i / 27]);
    let texts: Vec<String> = (0..27 * 4).map(text).collect();
    let mut counts = std::collections::BTreeMap::from([(1, vec![0i64; texts.len()]), (2, vec![0; texts.len()])]);
    let mut shown = std::collections::BTreeMap::new();
    for round in 0..300 {
        let mut change = String::new();
        for _ in 0..random.random_range(1..12) {
            let (k, i) = (random.random_range(1..=2), random.random_range(0..texts.len()));
            let count = &mut counts.get_mut(&k).expect("a group")[i];
            // Whether more come or go, turning every fifty rounds.
            let comes = random.random_bool(if round / 50 % 2 == 0 { 0.9 } else { 0.1 });
            if comes || *count > 0 {
                let weight = if comes { 1 } else { -*count };
                *count += weight;
                change += &format!("{weight:+} | {k} | {}\n", texts[i]);
            }
        }
        let mut expected = String::new();
        for (k, counts) in &counts {
            let there = || counts.iter().zip(&texts).filter(|(count, _)| **count > 0).map(|(_, text)| text.clone());
            let now = there().max().zip(there().min());
            let before = shown.insert(*k, now.clone()).flatten();
            if before != now {
                for (weight, extremes) in [(-1, before), (1, now)] {
                    extremes.iter().for_each(|(max, min)| expected += &format!("{weight:+} | {k} | {max} | {min}\n"));
                }
            }
        }
        if !change.is_empty() {
            c.epoch(&[(0, &change)], &expected);
        }
    }
}

mod random {
    //! Random changes, with restarts and other numbers of workers in between, against a recompute of all.

    use super::*;
    use crate::delta::consolidate::consolidate;
    use crate::delta::hash::route;
    use crate::delta::keys::KeyEncoder;
    use crate::delta::text;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    const INPUT: &str = "k: Int64, s: Utf8, i: Int64, n: Decimal128(10, 2), d: Float64, f: Boolean";

    /// A row as the naive side sees it.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct Row {
        k: Option<i64>,
        s: Option<String>,
        i: Option<i64>,
        /// Hundredths.
        n: Option<i64>,
        /// Eighths, so that float sums are exact.
        d: Option<i64>,
        f: Option<bool>,
    }

    fn show<T: ToString>(value: &Option<T>) -> String {
        value.as_ref().map_or("NULL".to_string(), T::to_string)
    }
    fn money(hundredths: i128) -> String {
        let sign = if hundredths < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", hundredths.abs() / 100, hundredths.abs() % 100)
    }

    impl Row {
        fn random(rng: &mut StdRng) -> Row {
            let mut maybe = |range: std::ops::Range<i64>| rng.random_bool(0.85).then(|| rng.random_range(range));
            Row {
                k: maybe(0..4),
                s: maybe(0..6).map(|s| "abcdef"[..s as usize].to_string() + "x"),
                i: maybe(-5..6),
                n: maybe(-500..500),
                d: maybe(-20..20),
                f: maybe(0..2).map(|f| f == 1),
            }
        }
        fn line(&self, weight: i64) -> String {
            let (n, d) = (self.n.map(|n| money(n as i128)), self.d.map(|d| d as f64 / 8.0));
            let values = [show(&self.k), show(&self.s), show(&self.i), show(&n), show(&d), show(&self.f)];
            format!("{weight:+} | {}", values.join(" | "))
        }
    }

    const CALLS: [&str; 19] = [
        "count(*)",
        "count(*) filter 5",
        "count(2)",
        "sum(2)",
        "avg(2)",
        "sum(3) filter 5",
        "sum(4)",
        "avg(4)",
        "min(2)",
        "max(2) filter 5",
        "min(1)",
        "max(1)",
        "max(3)",
        "count(distinct 2)",
        "count(distinct 2) filter 5",
        "sum(distinct 3)",
        "count(distinct 1)",
        "bool_and(5)",
        "var_pop(2)",
    ];

    /// The whole result, computed from all rows.
    fn naive(rows: &BTreeMap<Row, i64>, group: &[usize]) -> Vec<String> {
        let key = |row: &Row| -> Vec<String> {
            group.iter().map(|c| if *c == 0 { show(&row.k) } else { show(&row.s) }).collect()
        };
        let mut groups: BTreeMap<Vec<String>, Vec<(&Row, i64)>> = BTreeMap::new();
        if group.is_empty() {
            groups.insert(Vec::new(), Vec::new());
        }
        rows.iter().for_each(|(row, weight)| groups.entry(key(row)).or_default().push((row, *weight)));
        let mut lines = Vec::new();
        for (key, rows) in groups {
            let f = |row: &Row| row.f == Some(true);
            let count = |of: &dyn Fn(&Row) -> bool| rows.iter().filter(|(r, _)| of(r)).map(|(_, w)| w).sum::<i64>();
            let sum = |of: &dyn Fn(&Row) -> Option<i64>| {
                let values = rows.iter().filter_map(|(r, w)| Some(of(r)? as i128 * *w as i128));
                values.reduce(|a, b| a + b)
            };
            fn distinct<T: Ord>(rows: &[(&Row, i64)], of: impl Fn(&Row) -> Option<T>) -> std::collections::BTreeSet<T> {
                rows.iter().filter_map(|(r, _)| of(r)).collect()
            }
            let average = |total: Option<i128>, n: i64| {
                total.map(|total| {
                    let digits = total * 10i128.pow(16);
                    let (q, rest) = (digits / n as i128, digits % n as i128);
                    let q = q + if rest.abs() * 2 >= n as i128 { digits.signum() } else { 0 };
                    let sign = if q < 0 { "-" } else { "" };
                    format!("{sign}{}.{:016}", q.abs() / 10i128.pow(16), q.abs() % 10i128.pow(16))
                })
            };
            let float = |value: Option<f64>| value.map(|value| format!("{value:?}"));
            let ints = distinct(&rows, |r| r.i);
            let texts = distinct(&rows, |r| r.s.clone());
            let moneys = distinct(&rows, |r| r.n);
            let eighths = sum(&|r| r.d).map(|d| d as f64 / 8.0);
            // n·Σx² − (Σx)² over n², in integers but for the division.
            let variance = sum(&|r| r.i).map(|total| {
                let n = count(&|r| r.i.is_some());
                let squares = sum(&|r| r.i.map(|i| i * i)).expect("as many as values");
                (n as i128 * squares - total * total) as f64 / (n * n) as f64
            });
            let mut line = key;
            line.extend([
                count(&|_| true).to_string(),
                count(&f).to_string(),
                count(&|r| r.i.is_some()).to_string(),
                show(&sum(&|r| r.i)),
                show(&average(sum(&|r| r.i), count(&|r| r.i.is_some()))),
                show(&sum(&|r| r.n.filter(|_| f(r))).map(money)),
                show(&float(eighths)),
                show(&float(eighths.map(|d| d / count(&|r| r.d.is_some()) as f64))),
                show(&ints.first()),
                show(&distinct(&rows, |r| r.i.filter(|_| f(r))).last()),
                show(&texts.first()),
                show(&texts.last()),
                show(&moneys.last().map(|n| money(*n as i128))),
                ints.len().to_string(),
                distinct(&rows, |r| r.i.filter(|_| f(r))).len().to_string(),
                show(&moneys.iter().map(|n| *n as i128).reduce(|a, b| a + b).map(money)),
                texts.len().to_string(),
                show(&distinct(&rows, |r| r.f).first()),
                show(&variance.map(|v| format!("{v:.9}"))),
            ]);
            lines.push(format!("+1 | {}", line.join(" | ")));
        }
        lines.sort();
        lines
    }

    /// Splits a delta by its group's hash, as an exchange does.
    fn deal(delta: &Delta, group: &[usize], workers: usize) -> Vec<Delta> {
        let columns: Vec<ArrayRef> = group.iter().map(|c| delta.rows.column(*c).clone()).collect();
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
        let keys = KeyEncoder::new(&types).unwrap().encode_rows(&columns, delta.len());
        let rows = |worker| {
            let rows = (0..delta.len()).filter(|row| route(keys.hashes[*row], workers) == worker);
            UInt32Array::from_iter_values(rows.map(|row| row as u32))
        };
        (0..workers).map(|worker| delta.take(&rows(worker))).collect()
    }

    fn run(seed: u64, group: &[usize], append_only: bool) {
        let mut rng = StdRng::seed_from_u64(seed);
        let base = AggregateSpec { append_only, ..spec(INPUT, group, &CALLS) };
        let empty = KeyEncoder::new(&[]).unwrap().encode_rows(&[], 1).hashes[0];
        let make = |worker: usize, workers: usize| {
            let owner = route(empty, workers) == worker;
            checker(&AggregateSpec { owner, ..base.clone() })
        };
        let mut workers: Vec<Checker<Aggregate>> = (0..2).map(|worker| make(worker, 2)).collect();
        let mut disks: Vec<Disk> = vec![Disk::default(); 2];
        let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
        let mut shown: Vec<Delta> = Vec::new();
        for epoch in 0..60 {
            // Changes that in the end leave every weight at least zero, in any order and several batches.
            let mut changes: Vec<(Row, i64)> = Vec::new();
            for _ in 0..rng.random_range(0..12) {
                if !append_only && rng.random_bool(0.48) && !rows.is_empty() {
                    let (row, weight) =
                        rows.iter().nth(rng.random_range(0..rows.len())).map(|(r, w)| (r.clone(), *w)).unwrap();
                    let less = rng.random_range(1..=weight);
                    changes.push((row.clone(), -less));
                    if less == weight {
                        rows.remove(&row)
                    } else {
                        rows.insert(row, weight - less)
                    };
                } else {
                    let (row, more) = (Row::random(&mut rng), rng.random_range(1..3));
                    *rows.entry(row.clone()).or_default() += more;
                    changes.push((row, more));
                }
            }
            for at in 1..changes.len() {
                changes.swap(at, rng.random_range(0..=at));
            }
            let parts = rng.random_range(1..4);
            let mut batches: Vec<Vec<Delta>> = vec![Vec::new(); workers.len()];
            for part in changes.chunks(changes.len() / parts + 1) {
                let text: Vec<String> = part.iter().map(|(row, weight)| row.line(*weight)).collect();
                let delta = text::parse(&base.input, &text.join("\n"));
                deal(&delta, group, workers.len()).into_iter().enumerate().for_each(|(w, d)| batches[w].push(d));
            }
            for (worker, batches) in workers.iter_mut().zip(batches) {
                let out = worker.run(batches.into_iter().map(|delta| (0, delta)).collect());
                assert!(out.errors.is_empty());
                assert_eq!(text::format(&consolidate(&out.deltas)), text::format(&out.deltas), "only net changes");
                shown.extend(out.deltas);
            }
            shown = consolidate(&shown);
            let expected = naive(&rows, group);
            let got = text::format(&shown);
            // The variance, in the last column, is rounded more than once.
            let round = |line: &str| {
                let (rest, variance) = line.rsplit_once(" | ").unwrap();
                match variance.parse::<f64>() {
                    Ok(variance) => format!("{rest} | {variance:.9}"),
                    Err(_) => line.to_string(),
                }
            };
            assert_eq!(got.lines().map(round).collect::<Vec<_>>(), expected, "seed {seed}, epoch {epoch}");

            if rng.random_bool(0.4) {
                workers.iter_mut().zip(&mut disks).for_each(|(worker, disk)| disk.save(&mut worker.operator));
                if rng.random_bool(0.5) {
                    // A restart, perhaps with another number of workers.
                    let count = if rng.random_bool(0.5) { workers.len() } else { rng.random_range(1..4) };
                    workers = (0..count).map(|worker| make(worker, count)).collect();
                    for (worker, checker) in workers.iter_mut().enumerate() {
                        Disk::restore(&disks, &mut checker.operator, Share { worker, workers: count });
                    }
                    if count != disks.len() {
                        disks = vec![Disk::default(); count];
                        workers.iter_mut().zip(&mut disks).for_each(|(worker, disk)| disk.save(&mut worker.operator));
                    }
                }
            }
        }
    }

    #[test]
    fn agrees_with_a_recompute() {
        for seed in 0..24 {
            run(seed, &[0], false);
            run(seed, &[1, 0], false);
            run(seed, &[], false);
        }
    }

    #[test]
    fn agrees_when_nothing_retracts() {
        for seed in 0..12 {
            run(seed, &[0], true);
            run(seed, &[], true);
        }
    }
}

#[test]
fn groups_that_change_no_more_are_forgotten() {
    use crate::time::{StreamTime, TimeBound};

    let spec = |append_only| {
        let spec = spec("t: Date32, k: Int64, x: Int64", &[1, 0], &["count(*)", "min(2)", "count(distinct 2)"]);
        let bound = TimeBound { column: 0, streams: vec![7], offset_us: 0 };
        AggregateSpec { append_only, expiry: Some(bound), ..spec }
    };
    for append_only in [true, false] {
        let mut c = checker(&spec(append_only));
        let mut disk = crate::operators::check::Disk::default();
        for day in 1..=28 {
            let midnight = (day - 1) * 86_400_000_000;
            c.header.watermarks = vec![StreamTime { stream: 7, watermark_us: Some(midnight), ..StreamTime::default() }];
            let rows: Vec<String> = (0..200).map(|n| format!("+1 | 1970-01-{day:02} | {} | {n}", n % 20)).collect();
            c.run(vec![(0, crate::delta::text::parse(&c.inputs[0].clone(), &rows.join("\n")))]);
            disk.save(&mut c.operator);
            // 20 groups and 200 values a day.
            assert!(c.operator.state_rows() <= 2 * 1024, "day {day}: {}", c.operator.state_rows());
        }
        let mut restored = checker(&spec(append_only));
        crate::operators::check::Disk::restore(&[disk], &mut restored.operator, crate::state::durable::Share::ALL);
        assert_eq!(restored.operator.state_rows(), c.operator.state_rows());
        // Ids and values of what is gone are used again; what is there goes on.
        restored.header = c.header.clone();
        restored.epoch(
            &[(0, "+1 | 1970-01-28 | 1 | -5\n+1 | 1970-01-29 | 1 | 7")],
            "-1 | 1 | 1970-01-28 | 10 | 1 | 10\n+1 | 1 | 1970-01-28 | 11 | -5 | 11\n+1 | 1 | 1970-01-29 | 1 | 7 | 1",
        );
    }
}
