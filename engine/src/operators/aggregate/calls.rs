//! From calls to what must be kept for them: which accumulators, tables of values and heaps, each once
//! for all calls that can share it.
//!
//! ```text
//!   sum(x), avg(x), count(x)                    one accumulator
//!   count(DISTINCT y), max(y) FILTER (WHERE f)  one table of values with two multiplicities, one heap
//! ```

use arrow::datatypes::DataType;

use super::accumulator::{Booleans, Counter};
use super::cells::ROWS;
use super::kept::{KeptBytes, KeptNumber};
use super::moments::Moments;
use super::order::{self, Order};
use super::sums::{DECIMAL_SUM_WORDS, DecimalSum, FloatSum, INTEGER_SUM_WORDS, IntegerSum};
use super::values::{HEAPS_MAX, Values};
use super::{Aggregate, AggregateCall, AggregateFunction, output_type};
use crate::error::{Error, Result};

/// Where a call's result comes from.
pub(super) enum Source {
    /// A word of the record.
    Count {
        offset: usize,
    },
    Accumulator(usize),
    Heap {
        values: usize,
        heap: usize,
    },
}

/// Which rows an accumulator sees; with `distinct` not those but the values that come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) kind: Kind,
    pub(super) argument: Option<usize>,
    pub(super) filter: Option<usize>,
    pub(super) distinct: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    Sum,
    Booleans,
    Moments,
    Min,
    Max,
}

impl Aggregate {
    /// Makes what the calls need, once for calls that can share.
    pub(super) fn sources(&mut self) -> Result<Vec<Source>> {
        let calls = self.spec.calls.clone();
        for (i, call) in calls.iter().enumerate() {
            let argument = call.argument.map(|column| self.spec.input.field(column).data_type());
            let expected = output_type(call.function, argument)?;
            let given = self.spec.output.field(self.spec.group.len() + i).data_type();
            if *given != expected {
                return Err(Error::internal(format!("{:?} gives {expected}, not {given}", call.function)));
            }
        }
        // Counts come last: a sum counts its values anyway.
        let mut order: Vec<usize> = (0..calls.len()).collect();
        order.sort_by_key(|i| calls[*i].function == AggregateFunction::Count);
        let mut sources: Vec<Option<Source>> = (0..calls.len()).map(|_| None).collect();
        for i in order {
            sources[i] = Some(self.source(&calls[i])?);
        }
        Ok(sources.into_iter().map(|source| source.expect("one for each")).collect())
    }

    fn source(&mut self, call: &AggregateCall) -> Result<Source> {
        use AggregateFunction::*;
        let AggregateCall { function, argument, filter, distinct } = *call;
        let kind = match function {
            Count if argument.is_none() && filter.is_none() => return Ok(Source::Count { offset: ROWS }),
            Count => {
                let feed = Feed { kind: Kind::Sum, argument, filter, distinct };
                let sum = self.feeds.iter().position(|known| *known == feed);
                if let Some(offset) = sum.and_then(|sum| self.accumulators[sum].values_offset()) {
                    return Ok(Source::Count { offset });
                }
                Kind::Count
            }
            Sum | Avg => Kind::Sum,
            BoolAnd | BoolOr => Kind::Booleans,
            VarPop | VarSamp | StddevPop | StddevSamp => Kind::Moments,
            Min if self.spec.append_only => Kind::Min,
            Max if self.spec.append_only => Kind::Max,
            Min | Max => {
                let values = self.values_of(argument.expect("min and max have an argument"), true)?;
                let filter = self.values[values].filter(filter);
                let heap = self.values[values].heap(filter, function == Max)?;
                return Ok(Source::Heap { values, heap });
            }
        };
        // To the others it makes no difference whether a value occurs once or twice.
        let distinct = distinct && matches!(kind, Kind::Count | Kind::Sum | Kind::Moments) && argument.is_some();
        let feed = Feed { kind, argument, filter, distinct };
        let accumulator = match self.feeds.iter().position(|known| *known == feed) {
            Some(known) => known,
            None => self.add_accumulator(feed)?,
        };
        Ok(match self.accumulators[accumulator].values_offset() {
            Some(offset) if kind == Kind::Count => Source::Count { offset },
            _ => Source::Accumulator(accumulator),
        })
    }

    fn add_accumulator(&mut self, feed: Feed) -> Result<usize> {
        let number = self.accumulators.len();
        if feed.distinct {
            let values = self.values_of(feed.argument.expect("DISTINCT has an argument"), false)?;
            let filter = self.values[values].filter(feed.filter);
            self.values[values].feeds.push((filter, number));
        }
        let data_type =
            feed.argument.map_or(DataType::Null, |column| self.spec.input.field(column).data_type().clone());
        let cells = &mut self.cells;
        self.accumulators.push(match (feed.kind, &data_type) {
            (Kind::Count, _) => Box::new(Counter { offset: cells.reserve(1) }),
            (Kind::Booleans, _) => Box::new(Booleans { offset: cells.reserve(2) }),
            (Kind::Moments, _) => Box::new(Moments { offset: cells.reserve(1), sums: Vec::new() }),
            (Kind::Sum, DataType::Float32 | DataType::Float64) => {
                Box::new(FloatSum { offset: cells.reserve(1), sums: Vec::new() })
            }
            (Kind::Sum, DataType::Decimal128(_, scale)) => {
                Box::new(DecimalSum { offset: cells.reserve(DECIMAL_SUM_WORDS), scale: *scale })
            }
            (Kind::Sum, _) => Box::new(IntegerSum { offset: cells.reserve(INTEGER_SUM_WORDS) }),
            (Kind::Min | Kind::Max, data_type) => {
                let max = feed.kind == Kind::Max;
                match order::order_of(data_type)? {
                    Order::Bytes => Box::new(KeptBytes::new(max)),
                    order => Box::new(KeptNumber { offset: cells.reserve(KeptNumber::words(order)), max, order }),
                }
            }
        });
        self.feeds.push(feed);
        Ok(number)
    }

    /// The table of this argument's values.
    fn values_of(&mut self, argument: usize, for_heap: bool) -> Result<usize> {
        let free = |values: &Values| !for_heap || values.heaps.len() < HEAPS_MAX;
        if let Some(known) = self.values.iter().position(|values| values.argument == argument && free(values)) {
            return Ok(known);
        }
        self.values.push(Values::new(argument, self.spec.input.field(argument).data_type())?);
        Ok(self.values.len() - 1)
    }
}
