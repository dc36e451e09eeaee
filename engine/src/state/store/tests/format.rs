//! What is on disk, byte for byte. When one of these fails, either go back, or raise `FORMAT` and migrate:
//! directories of users hold these bytes. New fields of stored structs need `#[serde(default)]`.

use super::super::chunk;
use super::super::frame;
use super::super::keys::{log_key, meta_key};
use super::super::rocks::Family;
use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn packed_rows_look_like_this() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let weighted = Delta::new(rows(0..2), Some(vec![1, -1].into()));
    store.append(&entry(1, vec![(STREAM, vec![Delta::inserts(rows(5..6))]), (TABLE, vec![weighted])])).unwrap();
    let value = |key: &[u8]| store.inner.db.get(Family::Log, key).unwrap().unwrap().to_vec();
    let stream = value(&log_key(STREAM, 1, 0));
    let table = value(&log_key(TABLE, 1, 0));
    // format, checksum, then: form, schema, offset, rows; column 1: no NULL, 5; column 2: no NULL, length, text
    let body = ["01000001", "000500000000000000", "0006", "6e616d652035"].concat();
    assert_eq!(hex(&stream[5..]), body);
    assert_eq!(hex(&stream[..5]), "018d6d8c71");
    // weights 1, -1 in zigzag; column 2: some NULL, bits
    let body = ["81000002", "0201", "0000000000000000000100000000000000", "010206", "6e616d652031"].concat();
    assert_eq!(hex(&table[5..]), body);
    assert_eq!(hex(&table[..5]), "01ce4e97f2");
}

#[test]
fn headers_and_relations_look_like_this() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let catalog = vec![CatalogChange::Put(Box::new(relation(STREAM, "s"))), CatalogChange::Drop(9)];
    let positions = vec![(STREAM, b"at 7".to_vec())];
    store.append(&LogEntry { catalog, positions, ..insert(1, 0..3) }).unwrap();
    let relation_json = concat!(
        r#"{"id":16384,"schema_name":"public","name":"s","kind":"Stream","columns":[],"primary_key":[],"#,
        r#""sql":"CREATE STREAM s ()","query":null,"options":{},"watermark":null,"depends_on":[],"#,
        r#""time_zone":"UTC","owner":"millrace","comment":null,"column_comments":{"0":"of a column"}}"#
    );
    let header_json = [
        r#"{"header":{"epoch":1,"now_us":1700000000000001,"touched":[16384]},"chunks":[[16384,1,3]],"#,
        &format!(r#""catalog":[{{"Put":{relation_json}}},{{"Drop":9}}]}}"#),
    ]
    .concat();
    let key = log_key(0, 1, 0);
    let value = store.inner.db.get(Family::Log, &key).unwrap().unwrap().to_vec();
    let body = frame::open(&key, &value, String::new).unwrap();
    let mut expected = Vec::new();
    frame::put_varint(&mut expected, header_json.len() as u64);
    expected.extend_from_slice(header_json.as_bytes());
    expected.extend_from_slice(b"\x80\x80\x01\x04at 7");
    assert_eq!(body.escape_ascii().to_string(), expected.escape_ascii().to_string());
    let key = meta_key(b'C', &STREAM.to_be_bytes());
    let value = store.inner.db.get(Family::Meta, &key).unwrap().unwrap().to_vec();
    assert_eq!(frame::open(&key, &value, String::new).unwrap(), relation_json.as_bytes());
}

#[test]
fn manifests_look_like_this() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks: Vec<BlockId> = (0..3).map(|i| store.write_block(&rows(i..i + 1)).unwrap()).collect();
    let part = Part {
        relation: STREAM,
        worker: 1,
        node: 2,
        slot: 3,
        fingerprint: 0x0102,
        blocks: vec![blocks[0], blocks[2], blocks[1]],
    };
    store
        .commit_manifest(&Manifest { epoch: 0, workers: 2, positions: vec![(STREAM, vec![7])], parts: vec![part] })
        .unwrap();
    let body = |key: &[u8]| {
        let value = store.inner.db.get(Family::Meta, key).unwrap().unwrap().to_vec();
        frame::open(key, &value, String::new).unwrap().to_vec()
    };
    let head = br#"{"epoch":0,"workers":2,"positions":[[16384,[7]]],"parts":1}"#;
    assert_eq!(body(b"M").escape_ascii().to_string(), head.escape_ascii().to_string());
    let key = meta_key(b'P', &[0, 0, 0x40, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    assert_eq!(hex(&body(&key)), "0201000000000000".to_string() + "03" + "020401");
}

/// Arrow IPC from another version of Arrow must stay readable: one chunk as this version wrote it.
#[test]
fn large_chunks_are_arrow_ipc() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let stored = store.inner.schemas.intern(&store.inner.db, &schema()).unwrap();
    let value = chunk::encode(&stored, &Delta::inserts(rows(0..300)), 0).unwrap().seal(b"k");
    let body = frame::open(b"k", &value, String::new).unwrap();
    // form, schema, offset, rows as a varint; then an encapsulated IPC message
    assert_eq!(hex(&body[..9]), ["020000", "ac02", "ffffffff"].concat());
    let stream = [&stored.message, &body[5..]].concat();
    let read: Vec<RecordBatch> =
        arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap().map(|b| b.unwrap()).collect();
    assert_eq!(read, [rows(0..300)]);
}
