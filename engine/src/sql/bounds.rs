//! What the statement that a thread works for may still take of time and memory.
//!
//! Planning and functions know nothing of sessions, and are called by DataFusion, not by us. So whoever works for a
//! statement says so to its thread ([`Bounds::future`], [`Bounds::stream`]), and what may take long or make much asks:
//!
//! ```text
//!   session ─ poll ─► optimizer rule ─► check()                    57014 once the statement is to end
//!           └ poll ─► repeat('x', n) ─► reserve(bytes)             53200 when the statement has too much
//!                                   └► reservation, with the array
//! ```
//!
//! On threads that work for no statement (a view's) nothing is bounded here.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array};
use arrow::buffer::Buffer;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::Stream;

use crate::error::{Error, Result};

thread_local! {
    static CURRENT: RefCell<Option<Bounds>> = const { RefCell::new(None) };
    static PLANNING: Cell<bool> = const { Cell::new(false) };
    static DIVIDING: Cell<bool> = const { Cell::new(false) };
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Bounds {
    /// Fails once the statement is to end.
    pub ask: Arc<dyn Fn() -> Result<()> + Send + Sync>,
    pub memory: Arc<dyn MemoryPool>,
}

impl fmt::Debug for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bounds({:?})", self.memory)
    }
}

impl Bounds {
    /// Within `work` this thread works for the statement.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Puts back what was before, also when the work panics.
        struct Before(Option<Bounds>, bool);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
                PLANNING.set(self.1);
            }
        }
        let _before = Before(CURRENT.replace(Some(self.clone())), PLANNING.replace(false));
        work()
    }

    /// So does whoever polls the future.
    pub async fn future<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| self.within(|| work.as_mut().poll(context))).await
    }

    /// So does whoever polls the stream.
    pub fn stream<S: Stream + Unpin>(self, rows: S) -> Bounded<S> {
        Bounded { bounds: self, rows }
    }
}

pub struct Bounded<S> {
    bounds: Bounds,
    rows: S,
}

impl<S: Stream + Unpin> Stream for Bounded<S> {
    type Item = S::Item;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let Bounded { bounds, rows } = &mut *self;
        bounds.within(|| Pin::new(rows).poll_next(context))
    }
}

/// Those of the statement that this thread works for, for a thread that is to do some of it.
pub fn current() -> Option<Bounds> {
    CURRENT.with_borrow(Clone::clone)
}

/// All rows, for a function that needs them at once. Errors: 54000 and 53200 when they are too many, 57014.
pub async fn collect(mut rows: SendableRecordBatchStream) -> DataFusionResult<Vec<RecordBatch>> {
    let (mut all, mut tally) = (Vec::new(), Tally::default());
    loop {
        let next = std::future::poll_fn(|context| match check_in_plan() {
            Ok(()) => Pin::new(&mut rows).poll_next(context),
            Err(error) => Poll::Ready(Some(Err(error))),
        });
        let Some(batch) = next.await else { return Ok(all) };
        let batch = batch?;
        let bytes = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        tally.add_all(bytes, batch.num_rows())?;
        all.push(batch);
    }
}

/// Whether the statement is to go on. Cheap enough for every node of a plan, and for every thousand rows.
pub fn check() -> Result<()> {
    CURRENT.with_borrow(|bounds| bounds.as_ref().map_or(Ok(()), |bounds| (bounds.ask)()))
}

/// The same for code that DataFusion calls.
pub fn check_in_plan() -> DataFusionResult<()> {
    check().map_err(|e| DataFusionError::External(Box::new(e)))
}

/// Some of the statement's memory, to be kept with what it is for. `None` where nothing is bounded.
pub fn reserve(what: &str, bytes: usize) -> DataFusionResult<Option<MemoryReservation>> {
    let pool = CURRENT.with_borrow(|bounds| bounds.as_ref().map(|bounds| bounds.memory.clone()));
    let Some(pool) = pool else { return Ok(None) };
    let reservation = MemoryConsumer::new(what).register(&pool);
    reservation.try_grow(bytes)?;
    Ok(Some(reservation))
}

/// The array, with a reservation that lasts as long as any of its buffers does.
pub fn keep(array: ArrayRef, reservation: MemoryReservation) -> ArrayRef {
    let reservation = Arc::new(reservation);
    make_array(kept(array.to_data(), &reservation))
}

fn kept(data: ArrayData, reservation: &Arc<MemoryReservation>) -> ArrayData {
    let buffers = data.buffers().iter().map(|buffer| kept_buffer(buffer, reservation)).collect();
    let children = data.child_data().iter().map(|child| kept(child.clone(), reservation)).collect();
    let data = data.into_builder().buffers(buffers).child_data(children);
    // SAFETY: the buffers hold what they held, at the same place.
    unsafe { data.build_unchecked() }
}

fn kept_buffer(buffer: &Buffer, reservation: &Arc<MemoryReservation>) -> Buffer {
    let Some(start) = NonNull::new(buffer.as_ptr().cast_mut()) else { return buffer.clone() };
    let owner = Arc::new(AssertUnwindSafe((buffer.clone(), reservation.clone())));
    // SAFETY: the owner holds the buffer whose bytes these are, and nobody writes to a buffer that is shared.
    unsafe { Buffer::from_custom_allocation(start, buffer.len(), owner) }
}

/// Values of one call of a function beyond this many bytes are accounted.
const ACCOUNTED_BYTES_MIN: usize = 256 << 10;
/// What one call may make of a batch where it can be called again with fewer rows, and where it cannot. An array of
/// Arrow's holds 2 GB.
const CALL_BYTES_MAX: [usize; 2] = [64 << 20, 1 << 30];
/// What a constant may come to that takes the place of its expression in a plan, which is copied often.
const CONSTANT_BYTES_MAX: usize = 4 << 10;
/// As large as a text may be.
const VALUE_BYTES_MAX: usize = 1 << 28;
/// What a batch is divided for.
const TOO_MANY_BYTES: &str = "the values of one batch are larger than 1 GB";

/// To be asked before so large a value is made. 54000 for what no value can be, 53200 for what the statement cannot
/// have, 57014. While a plan is made most are refused: then the expression stays what it is.
pub fn check_value(bytes: usize) -> DataFusionResult<()> {
    let refuse = |message: &str| Err(DataFusionError::External(Box::new(Error::new("54000", message))));
    match bytes {
        _ if bytes > VALUE_BYTES_MAX => refuse("requested length too large"),
        _ if is_planning() && bytes > CONSTANT_BYTES_MAX => refuse("this constant is too large for a plan"),
        _ if bytes > ACCOUNTED_BYTES_MIN => check_in_plan().and_then(|()| reserve("a value", bytes)).map(|_| ()),
        _ => Ok(()),
    }
}

/// Whether fewer rows at once may do.
pub fn is_too_many_bytes(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::External(inner) => inner.downcast_ref::<Error>().is_some_and(|e| e.message == TOO_MANY_BYTES),
        DataFusionError::Context(_, inner) => is_too_many_bytes(inner),
        _ => false,
    }
}

/// Within `work` functions fail early when they make much of many rows: they will be called again with fewer.
pub fn dividing<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            DIVIDING.set(self.0);
        }
    }
    let _before = Before(DIVIDING.replace(true));
    work()
}

/// What one call makes, added up while it does.
#[derive(Debug, Default)]
pub struct Tally {
    rows: usize,
    bytes: usize,
    /// Asked for the last time at so many rows, and so many bytes.
    asked: (usize, usize),
    reservation: Option<MemoryReservation>,
}

impl Tally {
    /// A value more. Errors: 54000, 53200, 57014, and one for which [`is_too_many_bytes`].
    pub fn add(&mut self, bytes: usize) -> DataFusionResult<()> {
        self.add_all(bytes, 1)
    }

    /// The values of several rows.
    pub fn add_all(&mut self, bytes: usize, rows: usize) -> DataFusionResult<()> {
        self.rows += rows;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.rows - self.asked.0 < 1024 && self.bytes - self.asked.1 < ACCOUNTED_BYTES_MIN {
            return Ok(());
        }
        check_in_plan()?;
        if is_planning() {
            check_value(self.bytes)?;
        }
        let most = CALL_BYTES_MAX[usize::from(!DIVIDING.get() || self.rows == 1)];
        if self.bytes > most {
            return Err(DataFusionError::External(Box::new(Error::new("54000", TOO_MANY_BYTES))));
        }
        if self.bytes > ACCOUNTED_BYTES_MIN {
            // As they are made, and once more in the array that they go into.
            match &self.reservation {
                Some(reservation) => reservation.try_resize(2 * self.bytes)?,
                None => self.reservation = reserve("values", 2 * self.bytes)?,
            }
        }
        self.asked = (self.rows, self.bytes);
        Ok(())
    }

    /// The array that the values went into, with what it takes of the statement's memory.
    pub fn keep(self, array: ArrayRef) -> ArrayRef {
        match self.reservation {
            None => array,
            Some(reservation) => {
                reservation.shrink(reservation.size() / 2);
                keep(array, reservation)
            }
        }
    }
}

/// Within `work` a plan is made, so that functions are called only to see what constants come to.
pub fn planning<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            PLANNING.set(self.0);
        }
    }
    let _before = Before(PLANNING.replace(true));
    work()
}

/// The same while the future is polled.
pub async fn planning_future<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| planning(|| work.as_mut().poll(context))).await
}

pub fn is_planning() -> bool {
    PLANNING.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    #[test]
    fn what_an_array_takes_is_given_back_with_its_last_buffer() {
        let memory: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1000));
        let reservation = MemoryConsumer::new("test").register(&memory);
        reservation.grow(500);
        let item = Arc::new(arrow::datatypes::Field::new_list_field(arrow::datatypes::DataType::Utf8, true));
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![Some("a"), None, Some("b")]));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 2]);
        let lists: ArrayRef = Arc::new(arrow::array::ListArray::new(item, offsets, texts, None));
        let same = keep(lists.clone(), reservation);
        assert_eq!(&same, &lists);
        let part = arrow::array::AsArray::as_list::<i32>(&same).value(1);
        drop(same);
        assert_eq!(memory.reserved(), 500);
        drop(part);
        assert_eq!(memory.reserved(), 0);
    }

    #[test]
    fn a_thread_knows_whom_it_works_for() {
        let memory: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let bounds = Bounds { ask: Arc::new(|| Err(Error::canceled("enough"))), memory };
        assert!(check().is_ok() && reserve("test", 1000).unwrap().is_none());
        bounds.within(|| {
            assert_eq!(check().unwrap_err().code, "57014");
            let some = reserve("test", 60).unwrap();
            assert!(reserve("test", 60).is_err());
            drop(some);
            assert!(reserve("test", 60).is_ok());
            planning(|| assert!(is_planning() && !bounds.within(is_planning) && is_planning()));
        });
        assert!(check().is_ok() && !is_planning());
    }
}
