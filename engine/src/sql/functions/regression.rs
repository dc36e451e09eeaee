//! `corr`, `covar_*` and `regr_*`: what two columns have to do with each other. Their sums are exact, so that the order of
//! rows does not show; they replace DataFusion's, of which that is not so.
//!
//! ```text
//!   regr_slope(y, x) = Sxy / Sxx        Sxx = Σ(x − mean x)²,  Sxy = Σ(x − mean x)(y − mean y)
//! ```
//!
//! A pair counts where neither is NULL. All are of doubles; see `sql/moments.rs` for how the sums are brought together.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use crate::error::Error;
use crate::sql::common::{Kind, kind};
use crate::sql::exact_float::ExactSum;
use crate::sql::moments::{codeviations, product, squared_deviations};
use crate::sql::types::sql_type_of_arrow;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Measure {
    Corr,
    CovarPop,
    CovarSamp,
    AvgX,
    AvgY,
    Count,
    Intercept,
    R2,
    Slope,
    Sxx,
    Sxy,
    Syy,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Regression {
    name: &'static str,
    measure: Measure,
    signature: Signature,
}

pub fn all() -> Vec<Regression> {
    use Measure::*;
    let named = [
        ("corr", Corr),
        ("covar_pop", CovarPop),
        ("covar_samp", CovarSamp),
        ("regr_avgx", AvgX),
        ("regr_avgy", AvgY),
        ("regr_count", Count),
        ("regr_intercept", Intercept),
        ("regr_r2", R2),
        ("regr_slope", Slope),
        ("regr_sxx", Sxx),
        ("regr_sxy", Sxy),
        ("regr_syy", Syy),
    ];
    let function =
        |(name, measure)| Regression { name, measure, signature: Signature::user_defined(Volatility::Immutable) };
    named.into_iter().map(function).collect()
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl AggregateUDFImpl for Regression {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        // A literal in quotes has no type of its own, and is read as a number.
        let fits = |t: &DataType| *t == DataType::Null || matches!(kind(t), Some(Kind::Number | Kind::Text));
        match types.len() == 2 && types.iter().all(fits) {
            true => Ok(vec![DataType::Float64; 2]),
            false => {
                let types: Vec<String> = types.iter().map(sql_type_of_arrow).collect();
                let message = format!("function {}({}) does not exist", self.name, types.join(", "));
                Err(external(Error::new("42883", message)))
            }
        }
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.measure {
            Measure::Count => DataType::Int64,
            _ => DataType::Float64,
        })
    }
    fn is_nullable(&self) -> bool {
        self.measure != Measure::Count
    }
    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.measure {
            Measure::Count => Ok(ScalarValue::Int64(Some(0))),
            _ => ScalarValue::try_from(data_type),
        }
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: &str, data_type| Arc::new(Field::new(format!("{}[{part}]", args.name), data_type, false));
        let sums = ["x", "y", "xx", "yy", "xy"].map(|part| field(part, DataType::Binary));
        Ok([field("count", DataType::Int64)].into_iter().chain(sums).collect())
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(external(Error::unsupported(format!("DISTINCT in {}()", self.name))));
        }
        Ok(Box::new(Sums { measure: self.measure, count: 0, sums: Default::default() }))
    }
}

#[derive(Debug)]
struct Sums {
    measure: Measure,
    count: i64,
    /// Of x, y, x², y² and x·y.
    sums: [ExactSum; 5],
}

impl Sums {
    fn change(&mut self, values: &[ArrayRef], sign: i64) {
        let numbers = |i: usize| -> &Float64Array { values[i].as_primitive::<Float64Type>() };
        let pairs = numbers(0).iter().zip(numbers(1));
        for (y, x) in pairs.filter_map(|(y, x)| Some((y?, x?))) {
            let parts = [[x, 0.0], [y, 0.0], product(x, x), product(y, y), product(x, y)];
            for (sum, part) in self.sums.iter_mut().zip(parts) {
                for value in part {
                    if sign > 0 { sum.add(value) } else { sum.subtract(value) }
                }
            }
            self.count += sign;
        }
    }

    fn measured(&self) -> Option<f64> {
        let n = self.count;
        let count = n as f64;
        let [x, y, xx, yy, xy] = &self.sums;
        let sxx = || squared_deviations(x, xx, n);
        let syy = || squared_deviations(y, yy, n);
        let sxy = || codeviations(x, y, xy, n);
        if n < 1 {
            return None;
        }
        match self.measure {
            Measure::Count => None,
            Measure::AvgX => Some(x.value() / count),
            Measure::AvgY => Some(y.value() / count),
            Measure::Sxx => Some(sxx()),
            Measure::Syy => Some(syy()),
            Measure::Sxy => Some(sxy()),
            Measure::CovarPop => Some(sxy() / count),
            Measure::CovarSamp => (n > 1).then(|| sxy() / (count - 1.0)),
            Measure::Corr => {
                let (sxx, syy) = (sxx(), syy());
                (sxx != 0.0 && syy != 0.0).then(|| sxy() / (sxx * syy).sqrt())
            }
            Measure::Slope => {
                let sxx = sxx();
                (sxx != 0.0).then(|| sxy() / sxx)
            }
            Measure::Intercept => {
                let sxx = sxx();
                (sxx != 0.0).then(|| (y.value() - x.value() * sxy() / sxx) / count)
            }
            Measure::R2 => match (sxx(), syy()) {
                (0.0, _) => None,
                // A horizontal line is met by all points.
                (_, 0.0) => Some(1.0),
                (sxx, syy) => {
                    let sxy = sxy();
                    Some(sxy * sxy / (sxx * syy))
                }
            },
        }
    }
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, 1);
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, -1);
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(match self.measure {
            Measure::Count => ScalarValue::Int64(Some(self.count)),
            _ => ScalarValue::Float64(self.measured()),
        })
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sums = self.sums.iter().map(|sum| ScalarValue::Binary(Some(sum.to_bytes())));
        Ok([ScalarValue::Int64(Some(self.count))].into_iter().chain(sums).collect())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, sums @ ..] = states else { return Ok(()) };
        for (row, count) in counts.as_primitive::<Int64Type>().iter().enumerate() {
            self.count += count.unwrap_or(0);
            for (sum, theirs) in self.sums.iter_mut().zip(sums) {
                let theirs = theirs.as_binary::<i32>();
                if theirs.is_valid(row) {
                    sum.merge(&ExactSum::from_bytes(theirs.value(row)).map_err(external)?);
                }
            }
        }
        Ok(())
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.sums.iter().map(ExactSum::heap_size).sum::<usize>()
    }
}
