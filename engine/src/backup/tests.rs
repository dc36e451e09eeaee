//! Against an object store in memory, which fails when it is told to.

use std::path::Path as FilePath;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use super::manifest::{BACKUPS, FILES, RUNNING};
use super::*;
use crate::state::store::{CatalogChange, LogEntry, StoreOptions};
use crate::time::EpochHeader;

/// Takes so many more objects, then none, or hangs.
#[derive(Debug, Default)]
struct Moody {
    inner: InMemory,
    puts_left: AtomicUsize,
    hangs: bool,
}

impl Moody {
    fn of(puts_left: usize, hangs: bool) -> Arc<Moody> {
        Arc::new(Moody { puts_left: AtomicUsize::new(puts_left), hangs, ..Moody::default() })
    }
    async fn take_one(&self) -> object_store::Result<()> {
        let left = self.puts_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match left {
            Ok(_) => Ok(()),
            Err(_) if self.hangs => std::future::pending().await,
            Err(_) => Err(object_store::Error::Generic { store: "moody", source: "no more".into() }),
        }
    }
}

impl std::fmt::Display for Moody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("moody")
    }
}

#[async_trait]
impl ObjectStore for Moody {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.take_one().await?;
        self.inner.put_opts(at, bytes, opts).await
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.take_one().await?;
        self.inner.put_multipart_opts(at, opts).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn open(path: &FilePath) -> Arc<Store> {
    Arc::new(Store::open(path, StoreOptions { cache_bytes: 8 << 20, ..StoreOptions::default() }).unwrap())
}

/// One more epoch, of so many bytes that do not compress.
fn grow(store: &Store, bytes: usize) {
    use rand::{RngCore, SeedableRng};
    let epoch = store.last_epoch() + 1;
    let mut noise = vec![0; bytes];
    rand::rngs::StdRng::seed_from_u64(epoch).fill_bytes(&mut noise);
    let value: String = noise.iter().map(|b| char::from(b'0' + b % 64)).collect();
    let header = EpochHeader { epoch, now_us: epoch as i64, ..EpochHeader::default() };
    let catalog = vec![CatalogChange::Meta { key: format!("noise {epoch}"), value: Some(value) }];
    store.append(&LogEntry { header, changes: vec![], positions: vec![], catalog }).unwrap();
}

async fn backup(store: &Arc<Store>, to: &Location, keep: Keep) -> Result<Record> {
    Backups::default().run(store.clone(), to.clone(), keep, || 1_000_000).await
}

async fn names_in(at: &Location, folder: &str) -> Vec<String> {
    let mut names: Vec<String> = at.list(folder).await.unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

/// Restores and gives the last epoch.
async fn restored(from: &Location, name: Option<&str>) -> Result<u64> {
    let place = tempfile::tempdir().unwrap();
    let report = restore(from, name, &place.path().join("d")).await?;
    assert_eq!(report.problems, [""; 0]);
    Ok(report.last_epoch)
}

#[tokio::test]
async fn what_is_there_is_not_sent_again_and_old_backups_go() {
    let (place, to) = (tempfile::tempdir().unwrap(), Location::of_store(Arc::new(InMemory::new())));
    let (store, backups) = (open(place.path()), Backups::default());
    let mut made = Vec::new();
    // Fewer than make a compaction, which writes all anew.
    for _ in 0..3 {
        grow(&store, 3 << 20);
        let record = backups.run(store.clone(), to.clone(), None, || 1_000_000).await.unwrap();
        assert_eq!(record.state(), "done");
        made.push(record);
    }
    assert!(made[2].bytes > 16 << 20, "{made:?}");
    assert!(made.iter().all(|record| record.sent_bytes < 8 << 20), "{made:?}");
    let names: Vec<String> = made.iter().map(|record| record.name.clone().unwrap()).collect();
    // The clock stood still.
    assert!(names.is_sorted() && names[0] != names[1], "{names:?}");
    assert_eq!(names_in(&to, BACKUPS).await, names);
    for (name, record) in names.iter().zip(&made) {
        assert_eq!(restored(&to, Some(name)).await.unwrap(), record.epoch.unwrap());
    }
    // A file of several parts.
    grow(&store, 30 << 20);
    let last = backup(&store, &to, Some(2)).await.unwrap();
    assert_eq!(names_in(&to, BACKUPS).await, [names[2].clone(), last.name.unwrap()]);
    assert_eq!(restored(&to, Some(&names[2])).await.unwrap(), 3);
    assert_eq!(restored(&to, None).await.unwrap(), 4);
    assert_eq!(restored(&to, Some(&names[0])).await.unwrap_err().code, "58P01");
    backup(&store, &to, Some(1)).await.unwrap();
    let newest = Manifest::read(&to, &names_in(&to, BACKUPS).await[0]).await.unwrap();
    let mut files: Vec<String> = newest.files.into_iter().map(|file| file.checksum).collect();
    files.sort();
    files.dedup();
    assert_eq!(names_in(&to, FILES).await, files);
    assert_eq!(names_in(&to, RUNNING).await, [""; 0]);
    assert_eq!(backup(&store, &to, Some(0)).await.unwrap_err().code, "22023");
    // Nothing is left beside the database.
    let left = std::fs::read_dir(place.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let left: Vec<String> = left.filter(|name| name.starts_with("backup.tmp")).collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn a_store_that_fails_anywhere_leaves_the_backups_there_were() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    grow(&store, 1000);
    let moody = Moody::of(usize::MAX, false);
    let to = Location::of_store(moody.clone());
    let first = backup(&store, &to, None).await.unwrap();
    let mut failures = 0;
    for puts in 0.. {
        grow(&store, 1000);
        moody.puts_left.store(puts, Ordering::Relaxed);
        match backup(&store, &to, Some(1)).await {
            Err(error) => {
                failures += 1;
                assert_eq!(error.code, "58030");
                assert_eq!(names_in(&to, BACKUPS).await, [first.name.clone().unwrap()]);
                assert_eq!(restored(&to, None).await.unwrap(), 1);
            }
            Ok(_) => break,
        }
    }
    assert!(failures > 3, "{failures}");
    assert_eq!(restored(&to, None).await.unwrap(), store.last_epoch());
}

#[tokio::test]
async fn who_leaves_ends_it_and_one_at_a_time_is_at_work() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    grow(&store, 1000);
    let moody = Moody::of(2, true);
    let (to, backups) = (Location::of_store(moody.clone()), Backups::default());
    {
        let under_way = backups.run(store.clone(), to.clone(), None, || 5);
        tokio::pin!(under_way);
        let wait = tokio::time::timeout(std::time::Duration::from_millis(500), &mut under_way);
        assert!(wait.await.is_err(), "it hangs");
        let record = &backups.records()[0];
        assert_eq!((record.state(), record.started_us), ("running", 5));
        let second = backups.run(store.clone(), to.clone(), None, || 6).await;
        assert_eq!(second.unwrap_err().code, "55006");
        // Another process.
        let other = tempfile::tempdir().unwrap();
        moody.puts_left.store(100, Ordering::Relaxed);
        assert_eq!(backup(&open(other.path()), &to, None).await.unwrap_err().code, "55006");
    }
    let mut record = backups.records().remove(0);
    for _ in 0..1000 {
        if record.state() != "running" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        record = backups.records().remove(0);
    }
    assert_eq!(record.state(), "cancelled");
    assert_eq!(names_in(&to, RUNNING).await, [""; 0]);
    backups.run(store.clone(), to.clone(), None, || 7).await.unwrap();
    assert_eq!(restored(&to, None).await.unwrap(), 1);
}

#[tokio::test]
async fn equal_names_with_other_content_are_other_files() {
    let place = tempfile::tempdir().unwrap();
    let (to, first, second) =
        (Location::of_store(Arc::new(InMemory::new())), place.path().join("1"), place.path().join("2"));
    let store = open(&first);
    grow(&store, 1 << 20);
    let before = backup(&store, &to, None).await.unwrap().name.unwrap();
    restore(&to, None, &second).await.unwrap();
    // Both go on under the same numbers.
    let copy = open(&second);
    grow(&store, 1 << 20);
    grow(&copy, 2 << 20);
    grow(&copy, 2 << 20);
    let one = backup(&store, &to, None).await.unwrap().name.unwrap();
    let two = backup(&copy, &to, None).await.unwrap().name.unwrap();
    for (name, epoch) in [(before, 1), (one, 2), (two, 3)] {
        assert_eq!(restored(&to, Some(&name)).await.unwrap(), epoch, "{name}");
    }
}

#[tokio::test]
async fn damage_is_named_and_leaves_no_directory() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    let memory = Arc::new(InMemory::new());
    let to = Location::of_store(memory);
    grow(&store, 1 << 20);
    let name = backup(&store, &to, None).await.unwrap().name.unwrap();
    let manifest = Manifest::read(&to, &name).await.unwrap();
    let target = place.path().join("target");
    for file in &manifest.files {
        let whole = to.get(FILES, &file.checksum).await.unwrap().unwrap();
        let mut flipped = whole.to_vec();
        let (middle, mut shorter) = (flipped.len() / 2, flipped.clone());
        // The write-ahead log may be empty.
        match flipped.get_mut(middle) {
            Some(byte) => *byte ^= 1,
            None => flipped.push(1),
        }
        if shorter.pop().is_none() {
            shorter = vec![0; 7];
        }
        for harmed in [Some(flipped), Some(shorter), None] {
            match harmed {
                Some(bytes) => to.put(FILES, &file.checksum, bytes).await.unwrap(),
                None => to.delete(FILES, &file.checksum).await.unwrap(),
            }
            let error = restore(&to, None, &target).await.unwrap_err();
            assert_eq!(error.code, "XX001");
            assert!(error.message.contains(&format!("its file \"{}\" is", file.name)), "{error}");
            assert!(!target.exists());
        }
        to.put(FILES, &file.checksum, whole).await.unwrap();
    }
    let mut text = to.get(BACKUPS, &name).await.unwrap().unwrap().to_vec();
    let middle = text.len() / 2;
    text[middle] ^= 1;
    to.put(BACKUPS, &name, text).await.unwrap();
    assert_eq!(restore(&to, None, &target).await.unwrap_err().code, "XX001");
    // What it names nobody knows: nothing may go.
    let error = backup(&store, &to, Some(2)).await.unwrap_err();
    assert!(error.message.starts_with("the backup is made, but"), "{error}");
    assert_eq!(restored(&to, None).await.unwrap(), 1);
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), "").unwrap();
    assert_eq!(restore(&to, None, &target).await.unwrap_err().code, "XX001");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
}
