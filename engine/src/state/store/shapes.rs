//! Streams whose columns changed after some of their rows were logged.
//!
//! ```text
//!   log        epoch 7  (id, name)           schema 3      read:  (id, title, 'eu')   the value noted with the column
//!   ALTER …    ADD COLUMN region text DEFAULT 'eu', RENAME COLUMN name TO title
//!              epoch 9  (id, title, region)  schema 4      read:  (id, title, region)
//! ```
//!
//! A chunk has as many columns as its stream had then, the first ones of those that there are now, under the names of then.
//! What reads rows of such a stream gets all columns that it has now, by their names; what looks at chunks themselves
//! (compaction, `check`) sees them as they are.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, RwLock};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::frame::{Reader, damaged};
use super::packed::{self, Rows};
use super::{Inner, Store};
use crate::catalog::{Relation, RelationId, RelationKind};
use crate::delta::Delta;
use crate::error::{Error, Result};

/// Of all streams.
#[derive(Default)]
pub(super) struct Shapes(RwLock<HashMap<RelationId, Arc<Shape>>>);

/// A stream's columns as they are now.
pub(super) struct Shape {
    schema: SchemaRef,
    /// By column: one value, what earlier rows have there.
    absent: Vec<ArrayRef>,
}

impl Shapes {
    pub fn get(&self, relation: RelationId) -> Option<Arc<Shape>> {
        self.0.read().expect("no panic under this lock").get(&relation).cloned()
    }

    /// Takes note of a stream's columns.
    pub fn note(&self, relation: &Relation) -> Result<()> {
        if relation.kind != RelationKind::Stream {
            return Ok(());
        }
        let schema = relation.arrow_schema();
        let columns = relation.columns.iter().zip(schema.fields());
        let absent =
            columns.map(|(column, field)| absent_value(column.absent.as_deref(), field)).collect::<Result<_>>()?;
        let shape = Arc::new(Shape { schema, absent });
        self.0.write().expect("no panic under this lock").insert(relation.id, shape);
        Ok(())
    }

    pub fn forget(&self, relation: RelationId) {
        self.0.write().expect("no panic under this lock").remove(&relation);
    }
}

impl Shape {
    /// Columns `wanted` (by default all) of rows that have the first ones of them, as `stored` calls them: those to be read,
    /// and what then becomes of them. `None`: the rows have all that is wanted, by its name.
    pub fn widening(self: &Arc<Self>, stored: &Schema, wanted: Option<&[usize]>) -> Result<Option<Widening>> {
        let columns = stored.fields().len();
        let all = || (0..self.absent.len()).collect();
        let wanted: Vec<usize> = wanted.map_or_else(all, <[usize]>::to_vec);
        let has = |&column: &usize| column < columns && stored.field(column).name() == self.schema.field(column).name();
        if wanted.iter().all(has) {
            return Ok(None);
        }
        let output = Arc::new(self.schema.project(&wanted).map_err(Error::internal)?);
        Ok(Some(Widening { shape: self.clone(), columns, wanted, output }))
    }
}

/// How rows get the columns that they lack.
pub(super) struct Widening {
    shape: Arc<Shape>,
    /// How many they have.
    columns: usize,
    wanted: Vec<usize>,
    output: SchemaRef,
}

impl Widening {
    /// Which of their columns are read.
    pub fn read(&self) -> Vec<usize> {
        self.wanted.iter().copied().filter(|column| *column < self.columns).collect()
    }

    /// `delta` has the columns of [`Self::read`].
    pub fn widen(&self, delta: &Delta) -> Result<Delta> {
        let (count, mut read) = (delta.len(), delta.rows.columns().iter());
        let columns = self.wanted.iter().map(|&column| match column < self.columns {
            true => Ok(read.next().expect("what was asked for").clone()),
            false => repeated(&self.shape.absent[column], count),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)
            .map_err(|e| Error::corrupt(format!("stored rows do not fit their stream: {e}")))?;
        Ok(Delta::new(rows, delta.weights.clone()))
    }
}

fn repeated(value: &ArrayRef, count: usize) -> Result<ArrayRef> {
    if value.is_null(0) {
        return Ok(new_null_array(value.data_type(), count));
    }
    take(value, &UInt32Array::from(vec![0; count]), None).map_err(Error::internal)
}

impl Store {
    /// Takes note of a stream's columns: from now on its rows are read with all of them.
    pub fn note_shape(&self, relation: &Relation) -> Result<()> {
        self.inner.shapes.note(relation)
    }

    /// Rows of a stream that were made for fewer columns than it has now, or other names, with all of them.
    pub fn widened(&self, relation: RelationId, delta: Delta) -> Result<Delta> {
        let Some(shape) = self.inner.shapes.get(relation) else { return Ok(delta) };
        match shape.widening(&delta.rows.schema(), None)? {
            None => Ok(delta),
            Some(widening) => widening.widen(&delta),
        }
    }
}

impl Inner {
    pub(super) fn shape(&self, relation: RelationId) -> Option<Arc<Shape>> {
        self.shapes.get(relation)
    }
}

/// A value, alone in its array, as the catalog keeps it: the hexadecimal digits of its packed form.
pub fn absent_text(value: &ArrayRef) -> Result<String> {
    let field = Field::new("", value.data_type().clone(), true);
    if !packed::can_pack(field.data_type()) {
        return Err(Error::unsupported("adding a column of this type to a stream"));
    }
    let rows =
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![value.clone()]).map_err(Error::internal)?;
    let mut bytes = Vec::new();
    packed::write(&rows, &mut bytes);
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("strings take all");
        text
    }))
}

fn absent_value(text: Option<&str>, field: &Field) -> Result<ArrayRef> {
    let Some(text) = text else { return Ok(new_null_array(field.data_type(), 1)) };
    let faulty =
        || damaged(format!("column \"{}\" in the catalog", field.name()), "what earlier rows have cannot be read");
    let digits = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes = (0..text.len()).step_by(2).map(digits).collect::<Option<Vec<u8>>>().ok_or_else(faulty)?;
    if !packed::can_pack(field.data_type()) {
        return Err(faulty());
    }
    let schema: SchemaRef = Arc::new(Schema::new(vec![field.clone().with_nullable(true)]));
    let mut rows = Rows::new(&schema, None);
    let mut reader = Reader::new(&bytes);
    rows.add(&mut reader, 1)?;
    if !reader.is_empty() {
        return Err(faulty());
    }
    Ok(rows.finish(schema)?.column(0).clone())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn a_value_in_the_catalog_is_read_back() {
        let values: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["eu – west"])),
            Arc::new(Int64Array::from(vec![-7])),
            Arc::new(Int64Array::from(vec![None])),
        ];
        for value in values {
            let field = Field::new("c", value.data_type().clone(), true);
            let text = absent_text(&value).unwrap();
            assert_eq!(&absent_value(Some(&text), &field).unwrap(), &value);
        }
        assert!(absent_value(Some("0"), &Field::new("c", DataType::Int64, true)).is_err());
        assert!(absent_value(Some("zz"), &Field::new("c", DataType::Int64, true)).is_err());
    }
}
