use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use super::*;
use crate::delta::text;
use crate::operators::check::{Checker, Disk};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("g", DataType::Utf8, true), Field::new("v", DataType::Int64, true)]))
}

fn spec(partition: Vec<usize>, bound: Bound, append_only: bool) -> TopKSpec {
    let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    if bound.numbers() {
        fields.push(Field::new("n", DataType::UInt64, true));
    }
    TopKSpec {
        partition,
        order: vec![(1, SortOptions { descending: true, nulls_first: false })],
        bound,
        input: schema(),
        output: Arc::new(Schema::new(fields)),
        append_only,
        expiry: None,
    }
}

fn checker(spec: TopKSpec) -> Checker<TopK> {
    Checker::new(TopK::new(spec).unwrap(), &[schema()])
}

#[test]
fn rows_move_up_when_one_goes() {
    let mut top = checker(spec(vec![], Bound::Rows { skip: 0, fetch: Some(2) }, false));
    top.epoch(&[(0, "+1 | a | 5\n+1 | b | 9\n+1 | c | 7")], "+1 | b | 9\n+1 | c | 7");
    top.epoch(&[(0, "-1 | b | 9")], "-1 | b | 9\n+1 | a | 5");
    // Nothing that is listed has changed.
    top.epoch(&[(0, "+1 | d | 1")], "");
    top.epoch(&[(0, "-1 | c | 7\n-1 | a | 5\n+1 | e | NULL")], "-1 | c | 7\n-1 | a | 5\n+1 | d | 1\n+1 | e | NULL");
}

#[test]
fn copies_count_one_by_one() {
    let mut top = checker(spec(vec![], Bound::Rows { skip: 1, fetch: Some(2) }, false));
    top.epoch(&[(0, "+3 | a | 5\n+2 | b | 4")], "+1 | a | 5\n+1 | a | 5");
    top.epoch(&[(0, "-1 | a | 5")], "-1 | a | 5\n+1 | b | 4");
    // One of two equal rows stands for the other.
    top.epoch(&[(0, "-2 | a | 5")], "-1 | a | 5\n-1 | b | 4\n+1 | b | 4");
}

#[test]
fn a_retraction_may_come_first() {
    let mut top = checker(spec(vec![0], Bound::Rows { skip: 0, fetch: Some(1) }, false));
    top.epoch(&[(0, "-1 | a | 5"), (0, "+1 | a | 5\n+1 | b | 1")], "+1 | b | 1");
}

#[test]
fn numbers_follow_ties() {
    let rows = "+1 | a | 9\n+1 | b | 9\n+1 | c | 8\n+1 | d | 7";
    let mut rank = checker(spec(vec![], Bound::Rank(3), true));
    rank.epoch(&[(0, rows)], "+1 | a | 9 | 1\n+1 | b | 9 | 1\n+1 | c | 8 | 3");
    // A peer of the last one comes in although it is past it in the order of the whole row.
    rank.epoch(&[(0, "+1 | z | 8\n+1 | z | 6")], "+1 | z | 8 | 3");
    let mut dense = checker(spec(vec![], Bound::DenseRank(2), true));
    dense.epoch(&[(0, rows)], "+1 | a | 9 | 1\n+1 | b | 9 | 1\n+1 | c | 8 | 2");
    dense.epoch(
        &[(0, "+1 | x | 10")],
        "-1 | a | 9 | 1\n-1 | b | 9 | 1\n-1 | c | 8 | 2\n+1 | x | 10 | 1\n+1 | a | 9 | 2\n+1 | b | 9 | 2",
    );
    let mut number = checker(spec(vec![], Bound::RowNumber(2), true));
    number.epoch(&[(0, rows)], "+1 | a | 9 | 1\n+1 | b | 9 | 2");
}

#[test]
fn an_input_that_only_grows_keeps_the_list_alone() {
    let mut top = checker(spec(vec![0], Bound::RowNumber(2), true));
    for v in 0..50 {
        let old = if v >= 2 { format!("-1 | a | {} | 2\n", v - 2) } else { String::new() };
        let moved = if v >= 1 { format!("-1 | a | {} | 1\n+1 | a | {} | 2\n", v - 1, v - 1) } else { String::new() };
        top.epoch(&[(0, &format!("+1 | a | {v}"))], &format!("+1 | a | {v} | 1\n{old}{moved}"));
    }
    assert_eq!(top.operator.state_rows(), 2);
}

#[test]
fn checkpoints_keep_lists_for_any_number_of_workers() {
    let spec = || spec(vec![0], Bound::Rows { skip: 0, fetch: Some(1) }, false);
    let mut disk = Disk::default();
    let mut top = checker(spec());
    top.epoch(&[(0, "+1 | a | 5\n+1 | a | 7\n+1 | b | 1")], "+1 | a | 7\n+1 | b | 1");
    disk.save(&mut top.operator);
    // b goes, and its id with it; c may get it.
    top.epoch(&[(0, "-1 | a | 7\n-1 | b | 1")], "-1 | a | 7\n-1 | b | 1\n+1 | a | 5");
    top.epoch(&[(0, "+1 | c | 2\n+2 | a | 7")], "-1 | a | 5\n+1 | a | 7\n+1 | c | 2");
    disk.save(&mut top.operator);
    for workers in 1..=3 {
        let mut out = Vec::new();
        for worker in 0..workers {
            let mut again = checker(spec());
            Disk::restore(std::slice::from_ref(&disk), &mut again.operator, Share { worker, workers });
            out.push(again.operator.state_rows());
        }
        assert_eq!(out.iter().sum::<usize>(), 4, "a 5, a 7 twice, c 2");
    }
    let mut again = checker(spec());
    Disk::restore(&[disk], &mut again.operator, Share::ALL);
    again.epoch(&[(0, "-2 | a | 7\n-1 | c | 2")], "-1 | a | 7\n+1 | a | 5\n-1 | c | 2");
}

#[test]
fn a_partition_that_a_checkpoint_found_empty_can_fill_again() {
    let spec = || spec(vec![], Bound::Rows { skip: 0, fetch: Some(1) }, false);
    let mut disk = Disk::default();
    let mut top = checker(spec());
    top.epoch(&[(0, "+1 | a | 5")], "+1 | a | 5");
    disk.save(&mut top.operator);
    top.epoch(&[(0, "-1 | a | 5")], "-1 | a | 5");
    disk.save(&mut top.operator);
    let mut again = checker(spec());
    Disk::restore(&[disk], &mut again.operator, Share::ALL);
    again.epoch(&[(0, "+1 | b | 7")], "+1 | b | 7");
}

#[test]
fn a_row_that_is_not_there_is_an_error() {
    let mut top = TopK::new(spec(vec![], Bound::Rows { skip: 0, fetch: Some(2) }, false)).unwrap();
    let mut out = Output::default();
    top.update(0, crate::delta::text::parse(&schema(), "-1 | a | 5"), &mut out).unwrap();
    let header = EpochHeader { epoch: 1, ..EpochHeader::default() };
    assert!(top.finish_epoch(&header, &mut out).is_err());
}

#[test]
fn lists_that_change_no_more_are_forgotten() {
    use crate::time::{StreamTime, TimeBound};

    let day = Field::new("day", DataType::Date32, true);
    let input: SchemaRef = Arc::new(Schema::new(vec![day, Field::new("x", DataType::Int64, true)]));
    let spec = TopKSpec {
        partition: vec![0],
        order: vec![(1, SortOptions { descending: true, nulls_first: false })],
        bound: Bound::Rows { skip: 0, fetch: Some(1) },
        input: input.clone(),
        output: input.clone(),
        append_only: false,
        expiry: Some(TimeBound { column: 0, streams: vec![7], offset_us: 0 }),
    };
    let mut c = Checker::new(TopK::new(spec).unwrap(), &[input]);
    for day in 1..=28 {
        let midnight = (day - 1) * 86_400_000_000;
        c.header.watermarks = vec![StreamTime { stream: 7, watermark_us: Some(midnight), ..StreamTime::default() }];
        let rows: Vec<String> = (0..200).map(|n| format!("+1 | 1970-01-{day:02} | {n}")).collect();
        // Its number is used again by the next list.
        c.epoch(&[(0, &rows.join("\n"))], &format!("+1 | 1970-01-{day:02} | 199"));
        assert!(c.operator.state_rows() <= 600, "day {day}: {}", c.operator.state_rows());
    }
}

type Row = (u8, Option<i64>, String);

/// The result by its definition: all rows put in order, then counted through.
fn by_definition(rows: &BTreeMap<Row, i64>, bound: Bound, descending: bool) -> BTreeMap<String, i64> {
    let mut lists: BTreeMap<u8, Vec<&Row>> = BTreeMap::new();
    for (row, count) in rows {
        lists.entry(row.0).or_default().extend(std::iter::repeat_n(row, *count as usize));
    }
    let mut result = BTreeMap::new();
    for mut list in lists.into_values() {
        // NULLs last; then the whole row, NULLs first.
        list.sort_by_key(|(_, v, t)| {
            let key = v.map(|v| if descending { -v } else { v });
            (key.is_none(), key, *v, t.clone())
        });
        let (mut rank, mut dense) = (0, 0);
        for (i, row) in list.iter().enumerate() {
            if i == 0 || list[i - 1].1 != row.1 {
                (rank, dense) = (i as u64 + 1, dense + 1);
            }
            let (number, is_in) = match bound {
                Bound::Rows { skip, fetch } => (0, i as u64 >= skip && fetch.is_none_or(|n| (i as u64) < skip + n)),
                Bound::RowNumber(last) => (i as u64 + 1, (i as u64) < last),
                Bound::Rank(last) => (rank, rank <= last),
                Bound::DenseRank(last) => (dense, dense <= last),
            };
            if is_in {
                let value = row.1.map_or("NULL".to_string(), |v| v.to_string());
                let number = if bound.numbers() { format!(" | {number}") } else { String::new() };
                *result.entry(format!("{} | {value} | {}{number}", row.0, row.2)).or_insert(0) += 1;
            }
        }
    }
    result
}

fn bounds() -> impl Strategy<Value = Bound> {
    prop_oneof![
        (0..3u64, prop::option::of(0..4u64)).prop_map(|(skip, fetch)| Bound::Rows { skip, fetch }),
        (0..4u64).prop_map(Bound::RowNumber),
        (0..4u64).prop_map(Bound::Rank),
        (0..4u64).prop_map(Bound::DenseRank),
    ]
}

/// A change: partition, value, text, and whether it takes such a row back.
fn rows(values: i64) -> impl Strategy<Value = Vec<(u8, Option<i64>, u8, bool)>> {
    let value = prop_oneof![1 => Just(None), 9 => (0..values).prop_map(Some)];
    prop::collection::vec((0..2u8, value, 0..4u8, prop::bool::weighted(0.5)), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn lists_are_what_their_definition_says(
        bound in bounds(),
        append_only: bool,
        by_text: bool,
        descending: bool,
        restart in 0..6usize,
        // Few values: nearly all rows are alike.
        epochs in prop_oneof![prop::collection::vec(rows(3), 1..7), prop::collection::vec(rows(1000), 1..7)],
    ) {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let value = if by_text { DataType::Utf8 } else { DataType::Int64 };
        let fields = vec![field("g", DataType::Int64), field("v", value), field("t", DataType::Utf8)];
        let schema: SchemaRef = Arc::new(Schema::new(fields.clone()));
        let numbered = bound.numbers().then(|| field("n", DataType::UInt64));
        let spec = || TopKSpec {
            partition: vec![0],
            order: vec![(1, SortOptions { descending, nulls_first: false })],
            bound,
            input: schema.clone(),
            output: Arc::new(Schema::new(fields.iter().cloned().chain(numbered.clone()).collect::<Vec<_>>())),
            append_only,
            expiry: None,
        };
        // Longer than a prefix, and different only behind it.
        let spelt = |v: i64| if by_text { format!("a long text before it {v:04}") } else { v.to_string() };
        let mut top = checker_of(spec(), &schema);
        let (mut there, mut said, mut disk) = (BTreeMap::<Row, i64>::new(), BTreeMap::new(), Disk::default());
        for (n, epoch) in epochs.into_iter().enumerate() {
            let mut lines = Vec::new();
            for (g, v, t, back) in epoch {
                let known: Vec<Row> = there.iter().filter(|(_, count)| **count > 0).map(|(row, _)| row.clone()).collect();
                let take_back = back && !append_only && !known.is_empty();
                let row = if take_back { known[(t as usize * 7 + g as usize) % known.len()].clone() } else { (g, v, format!("t{t}")) };
                let weight = if take_back { -1 } else { 1 };
                *there.entry(row.clone()).or_insert(0) += weight;
                let value = row.1.map_or("NULL".to_string(), spelt);
                lines.push(format!("{weight:+} | {} | {value} | {}", row.0, row.2));
            }
            there.retain(|_, count| *count > 0);
            if n == restart {
                disk.save(&mut top.operator);
                let mut again = checker_of(spec(), &schema);
                Disk::restore(std::slice::from_ref(&disk), &mut again.operator, Share::ALL);
                top = again;
            }
            let changes = if lines.is_empty() { vec![] } else { vec![(0, text::parse(&schema, &lines.join("\n")))] };
            for line in text::format(&top.run(changes).deltas).lines() {
                let (weight, row) = line.split_once(" | ").unwrap();
                *said.entry(row.trim_end().to_string()).or_insert(0) += weight.parse::<i64>().unwrap();
            }
            said.retain(|_, count| *count != 0);
            let spell = |row: &Row| (row.0, row.1, row.2.clone());
            let model: BTreeMap<Row, i64> = there.iter().map(|(row, count)| (spell(row), *count)).collect();
            let expected: BTreeMap<String, i64> = by_definition(&model, bound, descending)
                .into_iter()
                .map(|(line, count)| {
                    let mut cells: Vec<String> = line.split(" | ").map(str::to_string).collect();
                    if let Ok(v) = cells[1].parse() {
                        cells[1] = spelt(v);
                    }
                    (cells.join(" | "), count)
                })
                .collect();
            prop_assert_eq!(&said, &expected, "epoch {}", n);
        }
    }
}

fn checker_of(spec: TopKSpec, schema: &SchemaRef) -> Checker<TopK> {
    Checker::new(TopK::new(spec).unwrap(), std::slice::from_ref(schema))
}

/// The first form of this state.
#[test]
fn rows_with_counts_are_still_read() {
    let block = |rows: &str, counts: Vec<i64>| {
        let rows = text::parse(&schema(), rows).rows;
        let columns = rows.columns().iter().cloned().chain([Arc::new(Int64Array::from(counts)) as ArrayRef]);
        let names = ["c0", "c1", "count"];
        RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap()
    };
    let blocks =
        vec![block("+1 | a | 5\n+1 | a | 7\n+1 | b | 1", vec![1, 1, 1]), block("+1 | a | 7\n+1 | b | 1", vec![0, 2])];
    let mut top = checker(spec(vec![0], Bound::Rows { skip: 0, fetch: Some(1) }, false));
    Disk::restore(&[Disk { pieces: vec![blocks] }], &mut top.operator, Share::ALL);
    assert_eq!(top.operator.state_rows(), 3);
    top.epoch(&[(0, "-1 | a | 5\n-1 | b | 1\n+1 | b | 0")], "-1 | a | 5");
    assert!(top.operator.save().whole);
}
