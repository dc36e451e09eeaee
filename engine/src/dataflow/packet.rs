//! What travels on a channel: a whole delta and the worker that it is for.
//!
//! Inside one process a packet moves by reference. Between processes it is an Arrow IPC stream.

use std::io::Cursor;

use arrow::array::Int64Array;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::delta::Delta;

#[derive(Clone, Debug)]
pub struct Packet {
    pub worker: u32,
    pub delta: Delta,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    worker: u32,
    rows: Vec<u8>,
    weights: Option<Vec<i64>>,
}

impl Serialize for Packet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = Vec::new();
        let mut writer =
            StreamWriter::try_new(&mut rows, &self.delta.rows.schema()).map_err(serde::ser::Error::custom)?;
        writer.write(&self.delta.rows).map_err(serde::ser::Error::custom)?;
        writer.finish().map_err(serde::ser::Error::custom)?;
        drop(writer);
        let weights = self.delta.weights.as_ref().map(|w| w.values().to_vec());
        Wire { worker: self.worker, rows, weights }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Packet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let wire = Wire::deserialize(deserializer)?;
        let mut reader = StreamReader::try_new(Cursor::new(wire.rows), None).map_err(D::Error::custom)?;
        let rows = reader.next().ok_or_else(|| D::Error::custom("a packet without rows"))?.map_err(D::Error::custom)?;
        let weights = wire.weights.map(Int64Array::from);
        if weights.as_ref().is_some_and(|w| w.len() != rows.num_rows()) {
            return Err(D::Error::custom("a packet whose weights are not as many as its rows"));
        }
        Ok(Packet { worker: wire.worker, delta: Delta::new(rows, weights) })
    }
}
