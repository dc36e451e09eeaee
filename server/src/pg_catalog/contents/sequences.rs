//! pg_sequence, pg_sequences and information_schema.sequences: sequences of columns that count their rows, and such that
//! stand alone.

use arrow::array::RecordBatch;
use datafusion::common::Result;

use super::objects::type_of;
use super::views::owner;
use super::{SystemRelation, declared};
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::names::{Names, Sequence};
use crate::pg_catalog::relations::Rows;
use crate::pg_catalog::value::Value;

pub fn sequences(view: &CatalogView) -> Result<RecordBatch> {
    let fields = "seqrelid seqtypid seqstart seqincrement seqmax seqmin seqcache seqcycle";
    let mut rows = Rows::new(declared("pg_sequence"), fields);
    for Sequence { identity: s, relation, column } in view.sequences() {
        rows.add([
            s.id.into(),
            type_of(&relation.columns[column]).0.oid.into(),
            s.start.into(),
            s.increment.into(),
            s.max.into(),
            s.min.into(),
            1.into(),
            s.cycle.into(),
        ]);
    }
    rows.finish()
}

pub fn shown(view: &CatalogView) -> Result<RecordBatch> {
    let fields = "schemaname sequencename sequenceowner data_type start_value min_value max_value increment_by cycle \
                  cache_size last_value";
    let mut rows = Rows::new(declared("pg_sequences"), fields);
    for Sequence { identity: s, relation, column } in view.sequences() {
        rows.add([
            relation.schema_name.as_str().into(),
            s.name.as_str().into(),
            owner(&relation).into(),
            type_of(&relation.columns[column]).0.oid.into(),
            s.start.into(),
            s.min.into(),
            s.max.into(),
            s.increment.into(),
            s.cycle.into(),
            1.into(),
            view.live.last_number(&s).into(),
        ]);
    }
    rows.finish()
}

pub fn standard(relation: &'static SystemRelation, view: &CatalogView) -> Rows {
    let fields = "sequence_catalog sequence_schema sequence_name data_type numeric_precision numeric_precision_radix \
                  numeric_scale start_value minimum_value maximum_value increment cycle_option";
    let mut rows = Rows::new(relation, fields);
    for Sequence { identity: s, relation, column } in view.sequences() {
        let type_ = type_of(&relation.columns[column]).0;
        let bits = match type_.name {
            "int2" => 16,
            "int4" => 32,
            _ => 64,
        };
        rows.add([
            view.database.as_str().into(),
            relation.schema_name.as_str().into(),
            s.name.as_str().into(),
            type_.display.into(),
            bits.into(),
            2.into(),
            0.into(),
            s.start.to_string().into(),
            s.min.to_string().into(),
            s.max.to_string().into(),
            s.increment.to_string().into(),
            Value::from(if s.cycle { "YES" } else { "NO" }),
        ]);
    }
    rows
}
