//! Arrow schemas, each stored once under a small number, so that chunks need not carry theirs.
//!
//! A schema is written before the first chunk that names it. That write is not synced: whatever makes the
//! chunk durable makes everything before it durable. Schemas are never deleted.

use std::sync::{Arc, RwLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::faults::Write;
use super::frame::{self, damaged};
use super::keys::{SCHEMA, meta_key, meta_range, u32_at};
use super::packed;
use super::rocks::{Db, Family};
use crate::error::{Error, Result};

/// The extra last column of a chunk with weights. SQL columns cannot be named so: it is not UTF-8 text a user types.
const WEIGHT_COLUMN: &str = "\u{1}weight";

pub(super) struct StoredSchema {
    pub id: u32,
    pub schema: SchemaRef,
    /// Its Arrow IPC schema message, which a chunk of this schema leaves out.
    pub message: Vec<u8>,
    /// The same with the weight column at the end.
    pub weighted: SchemaRef,
    pub weighted_message: Vec<u8>,
    /// Whether all its types have a packed form.
    pub packable: bool,
}

pub(super) struct Schemas {
    by_id: RwLock<Vec<Arc<StoredSchema>>>,
}

impl Schemas {
    pub fn load(db: &Db) -> Result<Schemas> {
        let mut by_id = Vec::new();
        let (lower, upper) = meta_range(SCHEMA);
        db.scan(Family::Meta, &lower, &upper, |key, value| {
            let id = u32_at(key, 1);
            let what = || format!("schema {id}");
            let message = frame::open(key, value, what)?;
            let reader = StreamReader::try_new(message, None).map_err(|e| damaged(what(), e))?;
            if id as usize != by_id.len() {
                return Err(damaged(format!("schema {}", by_id.len()), "it is missing"));
            }
            by_id.push(Arc::new(StoredSchema::new(id, reader.schema())?));
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(Schemas { by_id: RwLock::new(by_id) })
    }

    pub fn get(&self, id: u32) -> Result<Arc<StoredSchema>> {
        let by_id = self.by_id.read().expect("no panic under this lock");
        by_id.get(id as usize).cloned().ok_or_else(|| damaged(format!("schema {id}"), "it is missing"))
    }

    /// The stored form of `schema`, storing it if it is new.
    pub fn intern(&self, db: &Db, schema: &SchemaRef) -> Result<Arc<StoredSchema>> {
        let find = |by_id: &[Arc<StoredSchema>]| {
            by_id.iter().find(|s| Arc::ptr_eq(&s.schema, schema) || s.schema == *schema).cloned()
        };
        if let Some(found) = find(&self.by_id.read().expect("no panic under this lock")) {
            return Ok(found);
        }
        let mut by_id = self.by_id.write().expect("no panic under this lock");
        if let Some(found) = find(&by_id) {
            return Ok(found);
        }
        let stored = Arc::new(StoredSchema::new(by_id.len() as u32, schema.clone())?);
        let key = meta_key(SCHEMA, &stored.id.to_be_bytes());
        let mut batch = db.batch();
        batch.put(Family::Meta, &key, &frame::seal(&key, &stored.message));
        db.write(Write::Meta, batch, false)?;
        by_id.push(stored.clone());
        Ok(stored)
    }
}

impl StoredSchema {
    fn new(id: u32, schema: SchemaRef) -> Result<StoredSchema> {
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(WEIGHT_COLUMN, DataType::Int64, false)));
        let weighted = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(StoredSchema {
            id,
            message: schema_message(&schema)?,
            weighted_message: schema_message(&weighted)?,
            weighted,
            packable: schema.fields().iter().all(|f| packed::can_pack(f.data_type())),
            schema,
        })
    }
}

fn schema_message(schema: &Schema) -> Result<Vec<u8>> {
    let writer = StreamWriter::try_new(Vec::new(), schema)
        .map_err(|e| Error::unsupported(format!("storing rows of these types ({e})")))?;
    Ok(writer.get_ref().clone())
}
