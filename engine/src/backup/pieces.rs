//! A file's content piece by piece, read off the async threads, and its checksum.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};

/// What is read, and sent, at once: memory is bounded by some of these.
pub(super) const PIECE_BYTES: usize = 8 << 20;

pub(super) struct Pieces {
    /// `None` only while a piece is being read.
    state: Option<(File, blake3::Hasher)>,
    piece_bytes: usize,
}

impl Pieces {
    pub fn open(path: &Path, piece_bytes: usize) -> Result<Pieces> {
        let file = File::open(path).map_err(|e| Error::io(format!("cannot read \"{}\": {e}", path.display())))?;
        Ok(Pieces { state: Some((file, blake3::Hasher::new())), piece_bytes })
    }

    /// `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let (mut file, mut hasher) = self.state.take().expect("no piece is being read");
        let size = self.piece_bytes;
        let read = move || -> std::io::Result<_> {
            let mut piece = Vec::new();
            (&mut file).take(size as u64).read_to_end(&mut piece)?;
            hasher.update(&piece);
            Ok((file, hasher, piece))
        };
        let (file, hasher, piece) = tokio::task::spawn_blocking(read).await.map_err(Error::internal)??;
        self.state = Some((file, hasher));
        Ok(if piece.is_empty() { None } else { Some(piece.into()) })
    }

    /// Of all pieces so far, in hexadecimal.
    pub fn checksum(&self) -> String {
        let (_, hasher) = self.state.as_ref().expect("no piece is being read");
        hasher.finalize().to_hex().to_string()
    }
}

/// Reads a file whole for its checksum.
pub(super) async fn checksum_of_file(path: &Path) -> Result<String> {
    let mut pieces = Pieces::open(path, PIECE_BYTES)?;
    while pieces.next().await?.is_some() {}
    Ok(pieces.checksum())
}
