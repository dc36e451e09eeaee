//! The seam at which tests make writes fail or the process stop.

use std::io;

/// The kinds of writes, one atomic batch each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    Append,
    Block,
    Manifest,
    /// Trimming, dropping, collecting: deletes only.
    Delete,
    /// Schemas, id marks and the format record: small things that others build on.
    Meta,
}

/// Asked around each write. `before` may fail it (then nothing is written; an error of kind
/// `StorageFull` becomes 53100) or stop the process; `after` may fail it although it is written, as a
/// failed sync would, or stop the process before it is acknowledged.
pub trait Faults: Send + Sync + std::fmt::Debug {
    fn before(&self, write: Write, bytes: usize) -> io::Result<()> {
        let _ = (write, bytes);
        Ok(())
    }
    /// Room on the disk, if it is not what the system says.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
    fn after(&self, write: Write) -> io::Result<()> {
        let _ = write;
        Ok(())
    }
}
