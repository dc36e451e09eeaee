//! State beyond what memory may hold, in a file that the system pages.
//!
//! ```text
//!   state in memory            the file, mapped as a whole
//!   ████████ memory_max        ██ ██████ ██ ░░░░░░░░░░░░░░░░░   extents that are used; the rest takes no room
//!            │                  ▲
//!            └─ beyond it ──────┘   pages come when they are touched, and go by `release_pages`
//! ```
//!
//! Two things go there: vectors ([`StateVec`]) and batches ([`set_aside`]). Whoever uses them does not see where they are.
//! What was in memory when the bound was reached stays there; what is made or grows after that goes to the file, until
//! enough has been given back. Only pieces of [`PIECE_BYTES_MIN`] or more count and go, so that small states cost nothing.
//!
//! One file for the process, since memory is the process's; it has no name, so nothing is left of it after a crash. Room on
//! the disk is reserved before an extent is handed out: a page that cannot be written would end the process. Where nothing
//! can be reserved, state stays in memory.
//!
//! Cost: a page that the system still has 0.5 µs, one that it has to read what the disk takes.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use allocator_api2::alloc::{AllocError, Allocator, Global};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;

use crate::state::store::disk::free_bytes;

/// Smaller pieces stay in memory and are not counted.
const PIECE_BYTES_MIN: usize = 64 << 10;
const PAGE_BYTES: usize = 4096;
/// Vectors of this size on are placed where they can grow.
const GROWING_BYTES_MIN: usize = 4 << 20;
/// What the file may be long: much more than it ever takes of the disk, so that there is room between vectors.
const LENGTH_MAX: u64 = 1 << 42;
/// What is left of the disk for log and checkpoints.
const DISK_BYTES_LEFT: u64 = 1 << 30;
/// The bytes of a batch of fewer rows are not looked at closely.
const ROWS_FEW: usize = 1024;
/// Pages are let go in steps of this many bytes, after each of which it is looked whether that was enough.
const RELEASE_BYTES: usize = 32 << 20;

/// A vector of state.
pub type StateVec<T> = allocator_api2::vec::Vec<T, Spillable>;

/// What cannot leave memory of a [`StateVec`] with room for so many bytes.
pub fn fixed_bytes_of(bytes: usize) -> usize {
    if bytes < PIECE_BYTES_MIN { bytes } else { 0 }
}

/// Words that no page is touched for.
pub fn zeros(length: usize) -> StateVec<u64> {
    let layout = Layout::array::<u64>(length).expect("within the address space");
    let place = Spillable.allocate_zeroed(layout).unwrap_or_else(|_| std::alloc::handle_alloc_error(layout));
    // SAFETY: just made by the same allocator with this layout, and zero is a word.
    unsafe { StateVec::from_raw_parts_in(place.cast().as_ptr(), length, length, Spillable) }
}

/// Counted state in memory.
static MEMORY_BYTES: AtomicUsize = AtomicUsize::new(0);
/// State in the file.
static FILE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Until there is a file nothing goes there.
static MEMORY_BYTES_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);
static REGION: OnceLock<Region> = OnceLock::new();

/// From now on state beyond `memory_max` bytes goes to a file in `directory`, of at most `file_max` bytes. The first call
/// counts: there is one file for the process.
pub fn begin(directory: &Path, memory_max: usize, file_max: u64) -> io::Result<()> {
    if REGION.get().is_some() {
        return Ok(());
    }
    if file_max < PAGE_BYTES as u64 {
        return Err(io::Error::other("the disk has no room for it"));
    }
    // Some file systems have shorter files, and a process may be held to less address space.
    let mut length = LENGTH_MAX.max(file_max);
    let region = loop {
        match Region::new(directory, length, file_max) {
            Err(_) if length / 2 >= file_max => length /= 2,
            made => break made?,
        }
    };
    if REGION.set(region).is_ok() {
        MEMORY_BYTES_MAX.store(memory_max, Ordering::Relaxed);
    }
    Ok(())
}

/// State in memory, as far as it is counted, and in the file.
pub fn used_bytes() -> (usize, usize) {
    (MEMORY_BYTES.load(Ordering::Relaxed), FILE_BYTES.load(Ordering::Relaxed))
}

/// Lets pages of the file go from this process's memory, a part after another, while `wanted` says so. Nothing is lost:
/// the system keeps or writes them.
pub fn release_pages(wanted: impl FnMut() -> bool) {
    if let Some(region) = REGION.get() {
        region.release_pages(wanted);
    }
}

/// The file's extents.
struct Region {
    /// Keeps the mapping's pages; its length is the mapping's.
    file: File,
    directory: PathBuf,
    base: NonNull<u8>,
    length: usize,
    /// What may be in use of it.
    bytes_max: usize,
    free: Mutex<Free>,
}

// SAFETY: `base` is an address, and each extent is used by its owner alone.
unsafe impl Send for Region {}
// SAFETY: as above; what is shared is behind the lock.
unsafe impl Sync for Region {}

/// Unused ranges, by their offset: neighbours are one.
struct Free {
    ranges: BTreeMap<usize, usize>,
    /// Where letting go of pages goes on.
    hand: usize,
}

impl Free {
    /// A place that is long enough: the first one or, for what will probably grow, one with as much room behind it as can
    /// be had.
    fn take(&mut self, length: usize, grows: bool) -> Option<usize> {
        if !grows || length < GROWING_BYTES_MIN {
            let (&offset, _) = self.ranges.iter().find(|(_, had)| **had >= length)?;
            self.take_at(offset, length);
            return Some(offset);
        }
        let (&first, &had) = self.ranges.iter().max_by_key(|(_, had)| **had)?;
        let offset = first + had.checked_sub(length)? / 2 / PAGE_BYTES * PAGE_BYTES;
        self.take_at(offset, length);
        Some(offset)
    }

    /// False when that is not free.
    fn take_at(&mut self, offset: usize, length: usize) -> bool {
        let Some((&first, &had)) = self.ranges.range(..=offset).next_back() else { return false };
        let Some(behind) = (first + had).checked_sub(offset + length) else { return false };
        self.ranges.remove(&first);
        if offset > first {
            self.ranges.insert(first, offset - first);
        }
        if behind > 0 {
            self.ranges.insert(offset + length, behind);
        }
        true
    }

    /// The first used range that ends behind `at`, from there on.
    fn used_from(&self, at: usize, end: usize) -> Option<(usize, usize)> {
        let mut from = at;
        if let Some((&before, &had)) = self.ranges.range(..=at).next_back() {
            from = from.max(before + had);
        }
        let to = self.ranges.range(from..).next().map_or(end, |(next, _)| *next);
        (from < to).then_some((from, to))
    }

    fn give(&mut self, mut offset: usize, mut length: usize) {
        if let Some((&before, &had)) = self.ranges.range(..offset).next_back()
            && before + had == offset
        {
            self.ranges.remove(&before);
            (offset, length) = (before, length + had);
        }
        if let Some(had) = self.ranges.remove(&(offset + length)) {
            length += had;
        }
        self.ranges.insert(offset, length);
    }
}

impl Region {
    /// A file that is `length` bytes long, of which no more than `bytes_max` are ever in use.
    fn new(directory: &Path, length: u64, bytes_max: u64) -> io::Result<Region> {
        let length = usize::try_from(length).unwrap_or(usize::MAX / 4) / PAGE_BYTES * PAGE_BYTES;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = match options.clone().custom_flags(libc::O_TMPFILE).open(directory) {
            Ok(file) => file,
            Err(_) => {
                let path = directory.join("state");
                let file = options.create_new(true).open(&path)?;
                std::fs::remove_file(path)?;
                file
            }
        };
        file.set_len(length as u64)?;
        // SAFETY: a new mapping at a place that the system chooses; nobody else can open the file and cut it.
        let base = unsafe {
            let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
            libc::mmap(std::ptr::null_mut(), length, access, flags, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        let free = Mutex::new(Free { ranges: BTreeMap::from([(0, length)]), hand: 0 });
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Ok(Region { file, directory: directory.to_owned(), base, length, bytes_max, free })
    }

    fn allocate_file(&self, mode: i32, offset: usize, length: usize) -> bool {
        // SAFETY: a call about our own file, without pointers.
        unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset as i64, length as i64) == 0 }
    }

    /// Zeros, with room on the disk behind them. `grows`: they may be asked to be more.
    fn allocate(&self, bytes: usize, grows: bool) -> Option<NonNull<u8>> {
        let length = bytes.checked_next_multiple_of(PAGE_BYTES)?;
        if !self.has_room(length) {
            return None;
        }
        let offset = self.free.lock().expect("no panic while held").take(length, grows)?;
        if !self.allocate_file(0, offset, length) {
            self.free.lock().expect("no panic while held").give(offset, length);
            return None;
        }
        FILE_BYTES.fetch_add(length, Ordering::Relaxed);
        // SAFETY: the offset lies in the mapping.
        Some(unsafe { self.base.add(offset) })
    }

    /// Makes an extent longer where it is.
    fn grow(&self, offset: usize, old_bytes: usize, bytes: usize) -> bool {
        let (old, length) = (old_bytes.next_multiple_of(PAGE_BYTES), bytes.next_multiple_of(PAGE_BYTES));
        let more = length - old;
        if more == 0 {
            return true;
        }
        if !self.has_room(more) || !self.free.lock().expect("no panic while held").take_at(offset + old, more) {
            return false;
        }
        if !self.allocate_file(0, offset + old, more) {
            self.free.lock().expect("no panic while held").give(offset + old, more);
            return false;
        }
        FILE_BYTES.fetch_add(more, Ordering::Relaxed);
        true
    }

    fn has_room(&self, bytes: usize) -> bool {
        let is_within = FILE_BYTES.load(Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max;
        is_within && free_bytes(&self.directory).is_none_or(|free| free >= DISK_BYTES_LEFT.saturating_add(bytes as u64))
    }

    /// The offset of what `allocate` gave.
    fn offset_of(&self, place: NonNull<u8>) -> Option<usize> {
        place.addr().get().checked_sub(self.base.addr().get()).filter(|offset| *offset < self.length)
    }

    fn give_back(&self, offset: usize, bytes: usize) {
        let length = bytes.next_multiple_of(PAGE_BYTES);
        // The next owner expects zeros. Where there are no holes, they are written.
        if !self.allocate_file(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, length) {
            // SAFETY: the extent is still its owner's, who gives it up.
            unsafe { self.base.add(offset).write_bytes(0, length) };
        }
        FILE_BYTES.fetch_sub(length, Ordering::Relaxed);
        self.free.lock().expect("no panic while held").give(offset, length);
    }

    /// Goes round once at most.
    fn release_pages(&self, mut wanted: impl FnMut() -> bool) {
        let begin = self.free.lock().expect("no panic while held").hand;
        let mut rounds = 0;
        while rounds < 2 && wanted() {
            let mut free = self.free.lock().expect("no panic while held");
            let (mut at, mut released) = (free.hand, 0);
            while released < RELEASE_BYTES {
                let Some((from, to)) = free.used_from(at, self.length) else {
                    rounds += 1;
                    at = 0;
                    break;
                };
                let to = to.min(from + RELEASE_BYTES - released);
                // SAFETY: pages of a shared mapping of a file lose nothing when they leave this process's table.
                unsafe { libc::madvise(self.base.add(from).as_ptr().cast(), to - from, libc::MADV_DONTNEED) };
                released += to - from;
                at = to;
            }
            free.hand = at;
            if rounds == 1 && at >= begin {
                return;
            }
        }
    }
}

/// Whether a piece goes to the file.
fn region_for(bytes: usize) -> Option<&'static Region> {
    let beyond = MEMORY_BYTES.load(Ordering::Relaxed).saturating_add(bytes) > MEMORY_BYTES_MAX.load(Ordering::Relaxed);
    if beyond { REGION.get() } else { None }
}

/// Where [`StateVec`]s have what they hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spillable;

impl Spillable {
    #[cold]
    fn in_file(layout: Layout) -> Option<NonNull<[u8]>> {
        let place = region_for(layout.size())?.allocate(layout.size(), true)?;
        Some(NonNull::slice_from_raw_parts(place, layout.size()))
    }

    fn in_memory(layout: Layout, made: Result<NonNull<[u8]>, AllocError>) -> Result<NonNull<[u8]>, AllocError> {
        if made.is_ok() && layout.size() >= PIECE_BYTES_MIN {
            MEMORY_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        }
        made
    }
}

// SAFETY: a block stays where it is until it is deallocated, wherever the value that it was made by goes. Blocks in the
// file begin at a page, which no layout here exceeds (`in_file` is asked only for such).
unsafe impl Allocator for Spillable {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() >= PIECE_BYTES_MIN
            && layout.align() <= PAGE_BYTES
            && let Some(block) = Self::in_file(layout)
        {
            return Ok(block);
        }
        Self::in_memory(layout, Global.allocate(layout))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() >= PIECE_BYTES_MIN
            && layout.align() <= PAGE_BYTES
            && let Some(block) = Self::in_file(layout)
        {
            return Ok(block);
        }
        Self::in_memory(layout, Global.allocate_zeroed(layout))
    }

    unsafe fn deallocate(&self, place: NonNull<u8>, layout: Layout) {
        if layout.size() >= PIECE_BYTES_MIN {
            if let Some(region) = REGION.get()
                && let Some(offset) = region.offset_of(place)
            {
                return region.give_back(offset, layout.size());
            }
            MEMORY_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the block was not in the file, so `Global` made it.
        unsafe { Global.deallocate(place, layout) }
    }

    unsafe fn grow(&self, place: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() >= PIECE_BYTES_MIN
            && let Some(region) = REGION.get()
            && let Some(offset) = region.offset_of(place)
            && region.grow(offset, old.size(), new.size())
        {
            return Ok(NonNull::slice_from_raw_parts(place, new.size()));
        }
        let made = self.allocate(new)?;
        // SAFETY: two blocks, of which the new one is the longer; the old one is given up.
        unsafe {
            std::ptr::copy_nonoverlapping(place.as_ptr(), made.cast().as_ptr(), old.size());
            self.deallocate(place, old);
        }
        Ok(made)
    }
}

/// Counts a batch that stays in memory, for as long as it lives.
#[derive(Debug, Default)]
pub struct Charge(usize);

impl Drop for Charge {
    fn drop(&mut self) {
        MEMORY_BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Whether a batch lies in the file.
pub fn is_in_file(rows: &RecordBatch) -> bool {
    REGION.get().is_some_and(|region| region.has(rows))
}

/// What the rows of a batch take. Its buffers may be parts of larger ones, which several batches share, or all its columns.
pub fn bytes_of(rows: &RecordBatch) -> usize {
    // Looking closely takes longer than few rows are worth.
    if rows.num_rows() < ROWS_FEW {
        return rows.get_array_memory_size();
    }
    let of = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    rows.columns().iter().map(|c| of(c).unwrap_or_else(|_| c.get_array_memory_size())).sum()
}

/// The batch as it is, counted; or, when memory holds enough, a copy in the file. `bytes`: what it takes.
pub fn set_aside(rows: RecordBatch, bytes: usize) -> (RecordBatch, Charge) {
    if bytes < PIECE_BYTES_MIN || is_in_file(&rows) {
        return (rows, Charge::default());
    }
    if let Some(region) = region_for(bytes)
        && let Some(copy) = region.copy(&rows)
    {
        return (copy, Charge::default());
    }
    MEMORY_BYTES.fetch_add(bytes, Ordering::Relaxed);
    (rows, Charge(bytes))
}

/// What may pass through memory at a time.
pub fn passing_bytes_max() -> usize {
    MEMORY_BYTES_MAX.load(Ordering::Relaxed) / 8
}

/// Batches that are only passing through, many at a time: in memory up to a part of what state may take, then in the file.
#[derive(Default)]
pub struct Passing {
    bytes: usize,
}

impl Passing {
    pub fn take(&mut self, rows: RecordBatch) -> RecordBatch {
        let bytes = bytes_of(&rows);
        self.bytes = self.bytes.saturating_add(bytes);
        if bytes < PIECE_BYTES_MIN || self.bytes < passing_bytes_max() {
            return rows;
        }
        REGION.get().and_then(|region| region.copy(&rows)).unwrap_or(rows)
    }
}

/// An extent that lives as long as the buffers that are cut from it.
struct Extent {
    region: &'static Region,
    offset: usize,
    bytes: usize,
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.region.give_back(self.offset, self.bytes);
    }
}

impl Region {
    /// Whether a batch is one that `copy` made.
    fn has(&self, rows: &RecordBatch) -> bool {
        let first = rows.columns().iter().find_map(|column| column.to_data().buffers().first().map(Buffer::as_ptr));
        first.and_then(|at| NonNull::new(at.cast_mut())).is_some_and(|at| self.offset_of(at).is_some())
    }

    /// None where there is no room.
    fn copy(&'static self, rows: &RecordBatch) -> Option<RecordBatch> {
        // Arrow's own form, which is read where it lies.
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema()).ok()?;
        writer.write(rows).and_then(|()| writer.finish()).ok()?;
        drop(writer);
        let place = self.allocate(bytes.len(), false)?;
        let extent = Extent { region: self, offset: self.offset_of(place)?, bytes: bytes.len() };
        // SAFETY: the extent is as long as the bytes, and ours.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
        // SAFETY: the extent lives and is not written to while the buffer and what is cut from it live.
        let mut buffer = unsafe { Buffer::from_custom_allocation(place, bytes.len(), Arc::new(extent)) };
        let copy = StreamDecoder::new().decode(&mut buffer).ok()??;
        RecordBatch::try_new(rows.schema(), copy.columns().to_vec()).ok()
    }
}

/// Memory of this process in bytes: all that is resident, and of that what is not in files.
pub fn resident_bytes() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    };
    Some((of("VmRSS")?, of("RssAnon")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Decimal128Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    fn region() -> (tempfile::TempDir, &'static Region) {
        let place = tempfile::tempdir().unwrap();
        let region = Box::leak(Box::new(Region::new(place.path(), 1 << 30, 1 << 30).unwrap()));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        (place, region)
    }

    fn words(place: NonNull<u8>, count: usize) -> &'static mut [u64] {
        // SAFETY: the tests below use extents that they own.
        unsafe { std::slice::from_raw_parts_mut(place.cast().as_ptr(), count) }
    }

    #[test]
    fn extents_are_zero_and_keep_what_is_written() {
        let (_directory, region) = region();
        let small = region.allocate(100_000, true).unwrap();
        let large = region.allocate(8 << 20, true).unwrap();
        assert!(words(small, 12_500).iter().chain(words(large, 1 << 20).iter()).all(|word| *word == 0));
        words(small, 12_500).fill(7);
        words(large, 1 << 20).iter_mut().enumerate().for_each(|(i, word)| *word = i as u64);
        region.release_pages(|| true);
        assert!(words(small, 12_500).iter().all(|word| *word == 7));
        assert!(words(large, 1 << 20).iter().enumerate().all(|(i, word)| *word == i as u64));

        // What grows stays where it is, since it was placed with room behind it.
        assert!(region.grow(region.offset_of(large).unwrap(), 8 << 20, 64 << 20));
        assert!(words(large, 8 << 20)[1 << 20..].iter().all(|word| *word == 0));
        // Nothing is handed out twice, and what comes back is zero.
        region.give_back(region.offset_of(small).unwrap(), 100_000);
        let again = region.allocate(100_000, true).unwrap();
        assert_eq!(again, small);
        assert!(words(again, 12_500).iter().all(|word| *word == 0));
        assert!(region.allocate(2 << 30, true).is_none());
        region.give_back(region.offset_of(large).unwrap(), 64 << 20);
        region.give_back(region.offset_of(again).unwrap(), 100_000);
        let free = region.free.lock().unwrap();
        assert_eq!(free.ranges, BTreeMap::from([(0, 1 << 30)]));
    }

    /// What never grows lies together, however much of it there is.
    #[test]
    fn batches_leave_room_for_vectors() {
        let (_directory, region) = region();
        let batches: Vec<_> = (0..32).map(|_| region.allocate(8 << 20, false).unwrap()).collect();
        let vector = region.allocate(200 << 20, true).unwrap();
        batches.into_iter().for_each(|batch| region.give_back(region.offset_of(batch).unwrap(), 8 << 20));
        region.give_back(region.offset_of(vector).unwrap(), 200 << 20);
        assert_eq!(region.free.lock().unwrap().ranges, BTreeMap::from([(0, 1 << 30)]));
    }

    #[test]
    fn batches_lie_in_the_file_as_they_were() {
        let (_directory, region) = region();
        let texts = (0..20_000).map(|i| (i % 7 != 0).then(|| format!("text {i}")));
        let lists = (0..20_000).map(|i| (i % 5 != 0).then(|| (0..i % 4).map(Some)));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("i", Arc::new((0..20_000).map(|i| (i % 3 != 0).then_some(i)).collect::<Int64Array>())),
            ("d", Arc::new(Decimal128Array::from_iter_values((0..20_000).map(|i| i as i128 * 1_000_000_007)))),
            ("t", Arc::new(texts.collect::<StringArray>())),
            ("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap().slice(100, 19_000);
        let copy = region.copy(&rows).unwrap();
        assert_eq!(rows, copy);
        assert!(region.has(&copy) && !region.has(&rows));
        for column in copy.columns() {
            let data = column.to_data();
            let in_file = |buffer: &Buffer| {
                buffer.is_empty() || region.offset_of(NonNull::new(buffer.as_ptr().cast_mut()).unwrap()).is_some()
            };
            assert!(data.buffers().iter().all(in_file), "{:?}", column.data_type());
        }
        // A buffer that outlives its batch keeps the extent.
        let texts = copy.column(2).clone();
        drop(copy);
        assert_eq!(texts.as_string::<i32>().value(1), "text 101");
        drop(texts);
        assert_eq!(region.free.lock().unwrap().ranges.len(), 1);
    }
}
