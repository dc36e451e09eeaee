//! Generated columns: `total numeric GENERATED ALWAYS AS (price * quantity) STORED`.
//!
//! Each is computed from the other columns of its row where rows get their last form before they are checked, whatever
//! statement they come from, and is stored as any column is: views and keys know nothing of it.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Field;

use super::Session;
use super::constraints::{OnRow, Part, changes};
use super::dml::relaxed;
use crate::catalog::{Column, Relation};
use crate::error::{Error, Result};
use crate::sql::conditions::names_column;
use crate::sql::text::{Style, Zone};

/// The columns that are generated, with what they are.
fn generated(relation: &Relation) -> impl Iterator<Item = (usize, &Column, &str)> {
    let columns = relation.columns.iter().enumerate();
    columns.filter_map(|(at, column)| Some((at, column, column.generated.as_deref()?)))
}

impl Session {
    /// The columns of whole rows, those that are generated being what they are to be.
    pub(super) fn with_generated(
        &self,
        relation: &Relation,
        columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<Vec<ArrayRef>> {
        self.generate(relation, columns, rows, |at, expression| {
            self.kept_on_row(relation, Part::Column(at), expression)
        })
    }

    /// The same for a relation that is not yet what its id names.
    pub(super) fn with_generated_anew(
        &self,
        relation: &Relation,
        columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<Vec<ArrayRef>> {
        self.generate(relation, columns, rows, |_, expression| self.on_row(relation, expression))
    }

    fn generate(
        &self,
        relation: &Relation,
        mut columns: Vec<ArrayRef>,
        rows: usize,
        bound: impl Fn(usize, &str) -> Result<OnRow>,
    ) -> Result<Vec<ArrayRef>> {
        if generated(relation).next().is_none() {
            return Ok(columns);
        }
        let schema = relation.arrow_schema();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let given = RecordBatch::try_new_with_options(relaxed(&schema), columns.clone(), &options);
        let given = given.map_err(Error::internal)?;
        let style = reading_style(relation)?;
        for (at, _, expression) in generated(relation) {
            let values = bound(at, expression)?.of(&given)?;
            let of = Field::new("", values.data_type().clone(), true);
            columns[at] = crate::sql::cast::assign(&values, &of, schema.field(at), &style)?;
        }
        Ok(columns)
    }

    /// Whether what generated columns are declared to be can be: the same of a row at any time, of its plain columns alone.
    pub(super) fn check_generated_columns(&self, relation: &Relation) -> Result<()> {
        let style = reading_style(relation)?;
        for (at, column, expression) in generated(relation) {
            if relation.options.contains_key("connector") {
                return Err(Error::unsupported("a generated column of a connector's stream")
                    .hint("A view can have columns that are computed."));
            }
            if let Some((_, other, _)) = generated(relation).find(|(_, other, _)| names_column(expression, &other.name))
            {
                let message = format!("cannot use generated column \"{}\" in column generation expression", other.name);
                return Err(Error::new("42P17", message));
            }
            let (bound, expr) = self.bound_on_row(relation, expression)?;
            if changes(&expr, relation)? {
                return Err(Error::new("42P17", "generation expression is not immutable"));
            }
            let schema = relation.arrow_schema();
            let values = bound.of(&RecordBatch::new_empty(relaxed(&schema)))?;
            let of = Field::new("", values.data_type().clone(), true);
            crate::sql::cast::check_typed(of.data_type(), schema.field(at))?;
            crate::sql::cast::assign(&values, &of, schema.field(at), &style).map_err(|error| {
                let message = error.message.replace("but expression is of type", "but default expression is of type");
                Error { message, ..error }
            })?;
            debug_assert_eq!(column.default, None, "the parser refuses both");
        }
        Ok(())
    }
}

/// How texts are read: in the zone of the session that made the table, and `now` is nothing to compute a column from.
fn reading_style(relation: &Relation) -> Result<Style> {
    Ok(Style::in_zone(Zone::parse(&relation.time_zone)?))
}

/// 2BP01 where a generated column is made of a column that is to go.
pub(super) fn refuse_dependent(relation: &Relation, column: &str) -> Result<()> {
    let dependent =
        generated(relation).find(|(_, of, expression)| of.name != column && names_column(expression, column));
    match dependent {
        None => Ok(()),
        Some((_, of, _)) => {
            let table = &relation.name;
            let message = format!("cannot drop column {column} of table {table} because other objects depend on it");
            Err(Error::new("2BP01", message)
                .detail(format!("column {} of table {table} depends on column {column} of table {table}", of.name)))
        }
    }
}

/// 0A000 where a generated column is made of a column that is to be of another type.
pub(super) fn refuse_other_type(relation: &Relation, column: &str) -> Result<()> {
    match generated(relation).find(|(_, _, expression)| names_column(expression, column)) {
        None => Ok(()),
        Some((_, of, _)) => {
            let detail = format!("Column \"{column}\" is used by generated column \"{}\".", of.name);
            let message = "cannot alter type of a column used by a generated column";
            Err(Error::new("0A000", message).detail(detail))
        }
    }
}
