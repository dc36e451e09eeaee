//! Making a data directory of a backup: every file is held against its size and checksum, and only then is the
//! directory marked as one that may be started.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use tokio::task::spawn_blocking;

use super::location::Location;
use super::manifest::{FILES, FileEntry, Manifest, names};
use crate::error::{Error, Result};
use crate::state::store::{Incoming, Report};

const FILES_AT_ONCE: usize = 4;

/// The newest backup, or the one of this name, into a directory that is empty or not there. When it fails the directory
/// is as it was. Errors: 58P01 when there is no such backup; XX001 when it is damaged, with the file's name.
pub async fn restore(from: &Location, name: Option<&str>, to: &Path) -> Result<Report> {
    let name = match name {
        Some(name) => name.to_string(),
        None => {
            let newest = names(from).await?.pop();
            newest.ok_or_else(|| Error::new("58P01", format!("there is no backup in \"{from}\"")))?
        }
    };
    let manifest = Manifest::read(from, &name).await.map_err(|e| older(from, e))?;
    let incoming = Incoming::begin(to)?;
    let files = futures::stream::iter(manifest.files.clone().into_iter().map(|file| {
        let into = incoming.database().join(&file.name);
        async move { receive(from, &file, &into).await }
    }));
    let received = files.buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await;
    received.map_err(|e| match e.code {
        "XX001" => older(from, Error { message: format!("backup \"{name}\" in \"{from}\": {}", e.message), ..e }),
        _ => e,
    })?;
    spawn_blocking(move || incoming.finish(manifest.epoch)).await.map_err(Error::internal)?
}

fn older(from: &Location, error: Error) -> Error {
    match error.code {
        "XX001" => error.hint(format!("`millrace backups {from}` lists others; `--backup NAME` takes one of them.")),
        _ => error,
    }
}

async fn receive(from: &Location, file: &FileEntry, into: &Path) -> Result<()> {
    use std::io::Write;
    let damaged = |fault: String| Error::corrupt(format!("its file \"{}\" {fault}", file.name));
    let object = match from.store.get(&from.path(FILES, &file.checksum)).await {
        Ok(object) => object,
        Err(object_store::Error::NotFound { .. }) => {
            return Err(damaged(format!("is missing ({FILES}/{})", file.checksum)));
        }
        Err(e) => return Err(from.error("read", &e)),
    };
    let failed = |e: std::io::Error| Error::io(format!("cannot write \"{}\": {e}", into.display()));
    let mut out = std::fs::File::create_new(into).map_err(failed)?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let mut pieces = object.into_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|e| from.error("read", &e))?;
        bytes += piece.len() as u64;
        let written = spawn_blocking(move || {
            hasher.update(&piece);
            out.write_all(&piece).map(|()| (out, hasher))
        });
        (out, hasher) = written.await.map_err(Error::internal)?.map_err(failed)?;
    }
    if bytes != file.bytes {
        return Err(damaged(format!("is damaged: it has {bytes} bytes instead of {}", file.bytes)));
    }
    if hasher.finalize().to_hex().as_str() != file.checksum {
        return Err(damaged("is damaged: its checksum does not match".into()));
    }
    spawn_blocking(move || out.sync_all()).await.map_err(Error::internal)?.map_err(failed)
}
