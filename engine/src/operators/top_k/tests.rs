use arrow::datatypes::{DataType, Field, Schema};

use super::*;
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
    top.epoch(&[(0, "+3 | a | 5\n+2 | b | 4")], "+2 | a | 5");
    top.epoch(&[(0, "-1 | a | 5")], "-1 | a | 5\n+1 | b | 4");
    top.epoch(&[(0, "-2 | a | 5")], "-1 | a | 5");
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
        assert_eq!(out.iter().sum::<usize>(), 3, "a 5, a 7, c 2");
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
