//! Every type goes through the log and a block, in both forms, and comes back the same.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use proptest::prelude::*;

use super::*;

/// `n` rows of every type that SQL can name, and some that only views have; each third row NULL.
fn all_types(n: usize) -> RecordBatch {
    let some = |i: usize| i % 3 != 1;
    let ints = || (0..n).map(|i| some(i).then_some(i as i64 * 7_919 - 3));
    let texts = || (0..n).map(|i| some(i).then(|| "é€𝄞x".repeat(i % 9)));
    let nulls = || NullBuffer::from_iter((0..n).map(some));
    let dec128 = Decimal128Array::from_iter(ints().map(|v| v.map(|v| i128::from(v) * 10_i128.pow(18))));
    let dec256 = Decimal256Array::from_iter(ints().map(|v| v.map(i256::from)));
    let element = Arc::new(Field::new("item", DataType::Int32, true));
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..n).map(|i| some(i).then(|| (0..i % 4).map(|j| (j != 1).then_some(j as i32)))),
    );
    let texts_list = {
        let mut builder = ListBuilder::new(StringBuilder::new());
        for i in 0..n {
            (0..i % 3).for_each(|j| builder.values().append_option((j != 0).then(|| format!("{i}/{j}"))));
            builder.append(some(i));
        }
        builder.finish()
    };
    let nested = {
        let offsets = OffsetBuffer::from_lengths((0..n).map(|i| usize::from(i > 0)));
        let inner = list.slice(0, n.saturating_sub(1));
        ListArray::new(Arc::new(Field::new("item", list.data_type().clone(), true)), offsets, Arc::new(inner), None)
    };
    let fixed = FixedSizeListArray::new(
        element,
        2,
        Arc::new(Int32Array::from_iter((0..2 * n as i32).map(Some))),
        Some(nulls()),
    );
    let structs = StructArray::new(
        vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)].into(),
        vec![Arc::new(Int64Array::from_iter(ints())), Arc::new(StringArray::from_iter(texts()))],
        Some(nulls()),
    );
    let interval = IntervalMonthDayNanoArray::from_iter(
        ints().map(|v| v.map(|v| IntervalMonthDayNano::new(v as i32 % 12, -(v as i32) % 31, v * 1_000))),
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("boolean", Arc::new(BooleanArray::from_iter((0..n).map(|i| some(i).then_some(i % 2 == 0))))),
        ("smallint", Arc::new(Int16Array::from_iter(ints().map(|v| v.map(|v| v as i16))))),
        ("int", Arc::new(Int32Array::from_iter(ints().map(|v| v.map(|v| v as i32))))),
        ("bigint", Arc::new(Int64Array::from_iter(ints()))),
        ("ubigint", Arc::new(UInt64Array::from_iter(ints().map(|v| v.map(|v| v as u64))))),
        ("real", Arc::new(Float32Array::from_iter(ints().map(|v| v.map(|v| v as f32 / 3.0))))),
        ("double", Arc::new(Float64Array::from_iter(ints().map(|v| v.map(|v| f64::from_bits(v as u64 * 0x9E3779B9)))))),
        ("numeric", Arc::new(dec128.with_precision_and_scale(38, 9).unwrap())),
        ("wide_numeric", Arc::new(dec256.with_precision_and_scale(76, 20).unwrap())),
        ("text", Arc::new(StringArray::from_iter(texts()))),
        ("large_text", Arc::new(LargeStringArray::from_iter(texts()))),
        ("text_view", Arc::new(StringViewArray::from_iter(texts()))),
        ("bytea", Arc::new(BinaryArray::from_iter(texts().map(|t| t.map(String::into_bytes))))),
        ("bytea_view", Arc::new(BinaryViewArray::from_iter(texts().map(|t| t.map(String::into_bytes))))),
        (
            "fixed_bytes",
            Arc::new({
                let mut builder = FixedSizeBinaryBuilder::new(16);
                ints().for_each(|v| match v {
                    Some(v) => builder.append_value(i128::from(v).to_be_bytes()).unwrap(),
                    None => builder.append_null(),
                });
                builder.finish()
            }),
        ),
        ("date", Arc::new(Date32Array::from_iter(ints().map(|v| v.map(|v| v as i32))))),
        ("time", Arc::new(Time64MicrosecondArray::from_iter(ints()))),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter(ints()))),
        ("timestamptz", Arc::new(TimestampMicrosecondArray::from_iter(ints()).with_timezone("UTC"))),
        ("interval", Arc::new(interval)),
        ("null", Arc::new(NullArray::new(n))),
        ("int[]", Arc::new(list)),
        ("text[]", Arc::new(texts_list)),
        ("int[][]", Arc::new(nested)),
        ("pair", Arc::new(fixed)),
        ("composite", Arc::new(structs)),
    ];
    let jsonb = [("millrace.type".to_string(), "jsonb".to_string())].into();
    let mut fields: Vec<Field> =
        columns.iter().map(|(name, c)| Field::new(*name, c.data_type().clone(), true)).collect();
    fields[9] = fields[9].clone().with_metadata(jsonb);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, c)| c).collect()).unwrap()
}

/// Both sides of the limit between the forms, whole and sliced, with and without weights.
#[test]
fn all_types_survive() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    let mut blocks = Vec::new();
    {
        let store = open(dir.path());
        let all = all_types(700);
        for (i, (at, n)) in [(0, 0), (0, 1), (1, 1), (5, 40), (3, 128), (3, 129), (0, 700)].into_iter().enumerate() {
            let piece = all.slice(at, n);
            let weights = (0..n as i64).map(|i| if i % 2 == 0 { -1 } else { i << 40 });
            let weighted = Delta::new(piece.clone(), Some(weights.collect()));
            let entry =
                entry(i as Epoch + 1, vec![(STREAM, vec![Delta::inserts(piece.clone())]), (TABLE, vec![weighted])]);
            store.append(&entry).unwrap();
            written.push(entry);
            blocks.push((store.write_block(&piece).unwrap(), piece));
        }
    }
    let store = open(dir.path());
    let read: Vec<LogEntry> = store.replay(0).map(Result::unwrap).collect();
    assert_eq!(read.len(), written.len());
    for (read, written) in read.iter().zip(&written) {
        assert_eq!(read.header, written.header);
        assert_eq!(contents(read), contents(written));
        for (_, deltas) in &read.changes {
            deltas.iter().for_each(|d| d.rows.columns().iter().for_each(|c| c.to_data().validate_full().unwrap()));
        }
    }
    for (id, written) in &blocks {
        assert_eq!(store.read_block(*id).unwrap(), *written);
        assert_eq!(store.read_block(*id).unwrap().schema(), written.schema());
    }
    let streamed = join(store.stream_rows(STREAM, 0, 99, None).map(Result::unwrap));
    assert_eq!(streamed, join(written.iter().map(|e| e.changes[0].1[0].rows.clone())));
}

#[test]
fn any_columns_in_any_order_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let all = all_types(1_000);
    for epoch in 0..100 {
        store.append(&entry(epoch + 1, vec![(STREAM, vec![Delta::inserts(all.slice(epoch as usize, 3))])])).unwrap();
    }
    store.append(&entry(200, vec![(STREAM, vec![Delta::inserts(all.clone())])])).unwrap();
    let whole = join(store.stream_rows(STREAM, 0, 200, None).map(Result::unwrap));
    for projection in [vec![], vec![3], vec![22, 0, 9], vec![9, 9], (0..26).rev().collect()] {
        let read = join(store.stream_rows(STREAM, 0, 200, Some(projection.clone())).map(Result::unwrap));
        assert_eq!(read, whole.project(&projection).unwrap());
    }
    assert!(store.stream_rows(STREAM, 0, 200, Some(vec![99])).next().unwrap().is_err());
}

/// Types without a packed form are stored as IPC however few the rows.
#[test]
fn dictionaries_survive() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for texts in [vec!["a"], vec!["b", "a", "b"]] {
        let column: DictionaryArray<Int32Type> = texts.into_iter().collect();
        let batch = RecordBatch::try_from_iter([("d", Arc::new(column) as ArrayRef)]).unwrap();
        let id = store.write_block(&batch).unwrap();
        assert_eq!(store.read_block(id).unwrap(), batch);
    }
}

/// A slice of a large batch of views takes no more than its own strings.
#[test]
fn slices_do_not_bring_their_batch_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = 1u64;
    let texts: StringViewArray = (0..100_000)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some(format!("{random:032x}"))
        })
        .collect();
    let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
    let before = store.stats().write_buffer_bytes;
    for n in [100, 300] {
        let piece = batch.slice(5_000, n);
        let id = store.write_block(&piece).unwrap();
        assert_eq!(store.read_block(id).unwrap(), piece);
    }
    assert!(store.stats().write_buffer_bytes - before < 500_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Commits cut anywhere into deltas of any size give the same stream, and the same entries again.
    #[test]
    fn any_cut_gives_the_same_stream(cuts in prop::collection::vec(0usize..300, 1..30), weighted in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let all = all_types(9_000);
        let mut written = Vec::new();
        {
            let store = Store::open(dir.path(), StoreOptions { sync: false, ..small() }).unwrap();
            let mut at = 0;
            for (i, deltas) in cuts.chunks(3).enumerate() {
                let changes = deltas.iter().enumerate().map(|(j, n)| {
                    at += n;
                    let piece = all.slice(at - n, *n);
                    let weights = (weighted && j == 1).then(|| Int64Array::from_iter_values((0..*n as i64).map(|w| w - 1_000)));
                    Delta::new(piece, weights)
                });
                let entry = entry(i as Epoch * 3 + 1, vec![(TABLE, changes.collect())]);
                store.append(&entry).unwrap();
                written.push(entry);
            }
            prop_assert_eq!(store.stream_end(TABLE).unwrap(), at as u64);
        }
        let store = open(dir.path());
        let read: Vec<LogEntry> = store.replay(0).map(Result::unwrap).collect();
        prop_assert_eq!(read.iter().map(contents).collect::<Vec<_>>(), written.iter().map(contents).collect::<Vec<_>>());
        let rows: usize = cuts.iter().sum();
        prop_assert_eq!(store.stream_end(TABLE).unwrap(), rows as u64);
        let deltas: Vec<Delta> = store.deltas(TABLE, 0, Epoch::MAX, None).map(Result::unwrap).collect();
        prop_assert_eq!(deltas.iter().map(Delta::len).sum::<usize>(), rows);
        if rows > 0 {
            prop_assert_eq!(join(deltas.into_iter().map(|d| d.rows)), all.slice(0, rows));
        }
    }
}
