//! Whose directory it is, and who has it open.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::*;

fn refusal(path: &Path) -> Error {
    Store::open(path, small()).err().expect("must be refused")
}

/// Every file under `path` with its bytes.
fn files(path: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_foreign_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("db")).unwrap();
    fs::write(dir.path().join("db/CURRENT"), "MANIFEST-000001\n").unwrap();
    let before = files(dir.path());
    let error = refusal(dir.path());
    assert_eq!(error.code, "XX001");
    assert!(error.message.contains("not a Millrace data directory (it holds \"db\")"), "{error}");
    assert_eq!(files(dir.path()), before);
    let error = refusal(&dir.path().join("db/CURRENT"));
    assert_eq!((error.code, error.message.contains("is not a directory")), ("XX001", true));
}

#[test]
fn without_create_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { create: false, ..small() };
    let missing = dir.path().join("a/b");
    for path in [missing.as_path(), dir.path()] {
        assert_eq!(Store::open(path, options.clone()).err().unwrap().code, "XX001");
    }
    assert!(!dir.path().join("a").exists() && files(dir.path()).is_empty());
    drop(open(&missing));
    assert!(Store::open(&missing, options).is_ok());
}

#[test]
fn a_fresh_file_system_counts_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    open(dir.path()).append(&insert(1, 0..1)).unwrap();
}

#[test]
fn another_format_is_refused_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&insert(1, 0..1)).unwrap();
    let marker = dir.path().join("MILLRACE");
    let text = fs::read_to_string(&marker).unwrap();
    for (format, word) in [("7", "newer"), ("0", "older"), ("x", "damaged")] {
        fs::write(&marker, text.replace("format 1", &format!("format {format}"))).unwrap();
        let before = files(dir.path());
        let error = refusal(dir.path());
        assert_eq!(error.code, "XX001");
        assert!(error.message.contains(word), "{error}");
        assert_eq!(files(dir.path()), before);
    }
    for damaged in ["", "something else\n", &text[..text.len() / 2]] {
        fs::write(&marker, damaged).unwrap();
        assert!(refusal(dir.path()).message.contains("damaged"));
    }
    fs::write(&marker, text).unwrap();
    assert_eq!(open(dir.path()).last_epoch(), 1);
}

#[test]
fn an_interrupted_creation_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let marker = dir.path().join("MILLRACE");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("ready", "creating")).unwrap();
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    open(dir.path()).append(&insert(1, 0..1)).unwrap();
    assert_eq!(fs::read_to_string(&marker).unwrap(), text);
}

/// A directory that once was complete is never filled with an empty database.
#[test]
fn a_missing_database_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&insert(1, 0..1)).unwrap();
    fs::remove_file(dir.path().join("db/CURRENT")).unwrap();
    assert_eq!(refusal(dir.path()).code, "XX001");
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    assert_eq!(refusal(dir.path()).code, "XX001");
}

#[test]
fn one_process_opens_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = refusal(dir.path());
    assert_eq!(error.code, "55006");
    assert!(error.message.contains("already open in this process"), "{error}");
    store.append(&insert(1, 0..1)).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).last_epoch(), 1);
}

#[test]
fn another_process_keeps_us_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = child("directory::hold_open", dir.path().to_str().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let opened = BufReader::new(holder.stdout.as_mut().unwrap()).lines().any(|line| line.unwrap().contains("opened"));
    assert!(opened, "the child has it open");
    let error = refusal(dir.path());
    assert_eq!(error.code, "55006");
    assert!(error.message.contains("is in use by another process"), "{error}");
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert_eq!(open(dir.path()).last_epoch(), 1);
}

/// The child of the test above: holds the store open until its input ends.
#[test]
#[ignore = "a child process of another test"]
fn hold_open() {
    let Some(path) = child_argument() else { return };
    let store = open(Path::new(&path));
    store.append(&insert(1, 0..1)).unwrap();
    println!("opened");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn sizes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = store.disk_bytes();
    store.append(&insert(1, 0..60_000)).unwrap();
    assert!(store.disk_bytes() > before + 10_000);
    let stats = store.stats();
    assert!(stats.write_buffer_bytes > 0 && stats.disk_bytes > 0, "{stats:?}");
}
