//! Making a backup: what is new is sent, then the manifest, then what is too old is deleted.
//!
//! ```text
//!   1  running/<who>        one at a time writes to a prefix; renewed while it lasts
//!   2  a moment             links to the database's files in a folder beside it (state/store/moment.rs)
//!   3  checksums            of files that this process has not read before
//!   4  files/<checksum>     those that are not there already
//!   5  backups/<name>       now it counts
//!   6  KEEP n               older manifests go, then files that none of those left names
//! ```
//!
//! Whatever ends it before 5 leaves the backups there were; the files sent so far are found by the next one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, WriteMultipart};

use super::location::Location;
use super::manifest::{BACKUPS, FILES, FileEntry, Manifest, RUNNING, names, time_of};
use super::pieces::{PIECE_BYTES, Pieces, checksum_of_file};
use super::progress::{Job, KnownFiles};
use crate::error::{Error, Result};
use crate::state::store::{Moment, Store};

/// Files that are sent at the same time, and parts of each.
const FILES_AT_ONCE: usize = 2;
const PARTS_AT_ONCE: usize = 2;
/// S3 takes 10,000.
const PARTS_MAX: u64 = 9_000;

const RENEW: Duration = Duration::from_secs(60);
/// Whoever has not renewed for so long has died.
const DEAD_AFTER: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

/// How many backups to leave, the new one among them; `None` leaves all.
pub type Keep = Option<u64>;

pub(super) async fn send(
    store: &Arc<Store>,
    to: &Location,
    keep: Keep,
    job: &Job,
    known: &KnownFiles,
    now_us: i64,
) -> Result<()> {
    make_directory(to)?;
    let owner = store.owner()?;
    claim(to, &owner).await?;
    let renew = async {
        loop {
            tokio::time::sleep(RENEW).await;
            if let Err(error) = to.put(RUNNING, &owner, owner.clone().into_bytes()).await {
                tracing::warn!(%error, %to, "the mark of a backup under way cannot be renewed");
            }
        }
    };
    let result = tokio::select! {
        result = send_claimed(store, to, keep, job, known, now_us) => result,
        () = renew => unreachable!("it goes on for ever"),
    };
    release(store, to).await;
    result
}

/// Ends the claim: another may write here.
pub(super) async fn release(store: &Store, to: &Location) {
    let released = match store.owner() {
        Ok(owner) => to.delete(RUNNING, &owner).await,
        Err(error) => Err(error),
    };
    if let Err(error) = released {
        tracing::warn!(%error, %to, "the mark of a backup under way cannot be taken back");
    }
}

/// Both of two that begin at once may be refused, never none. 55006 when somebody else writes here.
async fn claim(to: &Location, owner: &str) -> Result<()> {
    to.put(RUNNING, owner, owner.to_string().into_bytes()).await?;
    let marks = to.list(RUNNING).await?;
    let store_now = marks.iter().find(|(name, _)| name == owner).map(|(_, meta)| meta.last_modified);
    for (name, meta) in marks.iter().filter(|(name, _)| name != owner) {
        // Both times are the store's.
        if store_now.is_none_or(|now| meta.last_modified + DEAD_AFTER > now) {
            to.delete(RUNNING, owner).await?;
            return Err(Error::new("55006", format!("another backup to \"{to}\" is under way")).hint(format!(
                "If it has died, its mark \"{RUNNING}/{name}\" counts for {} minutes.",
                DEAD_AFTER.num_minutes()
            )));
        }
        to.delete(RUNNING, name).await?;
    }
    Ok(())
}

async fn send_claimed(
    store: &Arc<Store>,
    to: &Location,
    keep: Keep,
    job: &Job,
    known: &KnownFiles,
    now_us: i64,
) -> Result<()> {
    let taken = store.clone();
    let moment = tokio::task::spawn_blocking(move || taken.moment()).await.map_err(Error::internal)??;
    let files = with_checksums(&moment, known).await?;
    job.update(|record| {
        record.epoch = Some(moment.epoch);
        record.files = files.len() as u64;
        record.bytes = files.iter().map(|file| file.bytes).sum();
    });
    clear_unfinished(to);
    let there: HashMap<String, u64> = to.list(FILES).await?.into_iter().map(|(name, meta)| (name, meta.size)).collect();
    // One of each content, the large ones first.
    let wanted: BTreeMap<&str, &FileEntry> = files.iter().map(|file| (file.checksum.as_str(), file)).collect();
    let missing = wanted.into_values().filter(|file| there.get(&file.checksum) != Some(&file.bytes));
    let mut missing: Vec<FileEntry> = missing.cloned().collect();
    missing.sort_by_key(|file| std::cmp::Reverse(file.bytes));
    let sent = futures::stream::iter(missing.into_iter().map(|file| {
        let path = moment.path().join(&file.name);
        async move {
            send_file(to, path, &file).await?;
            job.update(|record| {
                record.sent_files += 1;
                record.sent_bytes += file.bytes;
            });
            Ok::<(), Error>(())
        }
    }));
    sent.buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;

    // Backups sort by time, whatever the clock says.
    let newest = names(to).await?.last().and_then(|name| time_of(name)).unwrap_or(i64::MIN);
    let manifest = Manifest::new(now_us.max(newest.saturating_add(1)), moment.epoch, files);
    let name = manifest.name();
    to.put(BACKUPS, &name, manifest.seal()).await?;
    job.update(|record| record.name = Some(name));
    drop(moment);
    match keep {
        Some(keep) => delete_old(to, keep).await.map_err(|e| {
            let message = format!("the backup is made, but older ones could not be deleted: {}", e.message);
            Error { message, ..e }
        }),
        None => Ok(()),
    }
}

async fn with_checksums(moment: &Moment, known: &KnownFiles) -> Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    let found = moment.files()?;
    known.retain(&found);
    for file in found {
        let path = moment.path().join(&file.name);
        let checksum = match known.get(&file) {
            Some(checksum) => checksum,
            None => {
                let checksum = checksum_of_file(&path).await?;
                known.put(&file, &checksum);
                checksum
            }
        };
        files.push(FileEntry { name: file.name, bytes: file.bytes, checksum });
    }
    Ok(files)
}

/// A directory is made as far as it is missing.
fn make_directory(to: &Location) -> Result<()> {
    let Some(directory) = &to.directory else { return Ok(()) };
    std::fs::create_dir_all(directory).map_err(|e| Error::io(format!("cannot create \"{}\": {e}", directory.display())))
}

/// What a killed process was writing when it ended, `<checksum>#1`, is seen by nobody else in a directory.
fn clear_unfinished(to: &Location) {
    let Some(directory) = &to.directory else { return };
    for folder in [FILES, BACKUPS, RUNNING] {
        let Ok(entries) = std::fs::read_dir(directory.join(folder)) else { continue };
        let unfinished = entries.flatten().filter(|e| e.file_name().to_string_lossy().contains('#'));
        unfinished.for_each(|entry| _ = std::fs::remove_file(entry.path()));
    }
}

async fn send_file(to: &Location, path: PathBuf, file: &FileEntry) -> Result<()> {
    let object = to.path(FILES, &file.checksum);
    let changed = || Error::corrupt(format!("file \"{}\" changed while it was being backed up", file.name));
    if file.bytes <= PIECE_BYTES as u64 {
        let mut pieces = Pieces::open(&path, PIECE_BYTES)?;
        let bytes = pieces.next().await?.unwrap_or_default();
        if pieces.checksum() != file.checksum {
            return Err(changed());
        }
        to.store.put(&object, bytes.into()).await.map_err(|e| to.error("write to", &e))?;
        return to.sync(&object).await;
    }
    let part_bytes = (PIECE_BYTES as u64).max(file.bytes.div_ceil(PARTS_MAX)) as usize;
    let upload = to.store.put_multipart(&object).await.map_err(|e| to.error("write to", &e))?;
    let mut upload = Upload(Some(WriteMultipart::new_with_chunk_size(upload, part_bytes)));
    let mut pieces = Pieces::open(&path, part_bytes)?;
    while let Some(piece) = pieces.next().await? {
        let parts = upload.0.as_mut().expect("it has not ended");
        parts.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|e| to.error("write to", &e))?;
        parts.put(piece);
    }
    if pieces.checksum() != file.checksum {
        return Err(changed());
    }
    upload.0.take().expect("it has not ended").finish().await.map_err(|e| to.error("write to", &e))?;
    to.sync(&object).await
}

/// A file of several parts; what is dropped unfinished leaves none of them behind.
struct Upload(Option<WriteMultipart>);

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "parts of an unfinished upload could not be deleted");
                }
            });
        }
    }
}

/// Manifests first: a file goes only once no backup names it.
async fn delete_old(to: &Location, keep: u64) -> Result<()> {
    let names = names(to).await?;
    let old = names.len().saturating_sub(keep.max(1) as usize);
    let mut named = BTreeSet::new();
    // Read before anything is deleted: one that is damaged could name any file.
    for name in &names[old..] {
        named.extend(Manifest::read(to, name).await?.files.into_iter().map(|file| file.checksum));
    }
    for name in &names[..old] {
        to.delete(BACKUPS, name).await?;
    }
    for (file, _) in to.list(FILES).await?.into_iter().filter(|(file, _)| !named.contains(file)) {
        to.delete(FILES, &file).await?;
    }
    Ok(())
}
