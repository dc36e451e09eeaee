//! One client of either face: the Postgres protocol, or the engine in this process. Both prepare each
//! statement once and run it with parameters, as an application would.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use millrace_engine::session::{Outcome, Prepared, Session};
use tokio_postgres::types::ToSql;

use crate::events::Error;

pub enum Client {
    Wire { client: tokio_postgres::Client, prepared: HashMap<String, tokio_postgres::Statement> },
    Embedded { session: Session, prepared: HashMap<String, Prepared> },
}

impl Client {
    pub async fn connect(port: u16) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(port)
            .user("millrace")
            .dbname("millrace")
            .connect(tokio_postgres::NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(Client::Wire { client, prepared: HashMap::new() })
    }

    pub fn embedded(session: Session) -> Self {
        Client::Embedded { session, prepared: HashMap::new() }
    }

    /// Runs a statement with bigint parameters; answers the first value of its first row, if that is a bigint.
    pub async fn run(&mut self, sql: &str, parameters: &[i64]) -> Result<Option<i64>, Error> {
        match self {
            Client::Wire { client, prepared } => {
                if !prepared.contains_key(sql) {
                    prepared.insert(sql.to_string(), client.prepare(sql).await?);
                }
                let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| p as _).collect();
                let rows = client.query(&prepared[sql], &parameters).await?;
                Ok(rows.first().and_then(|row| row.try_get(0).ok()))
            }
            Client::Embedded { session, prepared } => {
                if !prepared.contains_key(sql) {
                    let statement = session.parse(sql)?.pop().ok_or("no statement")?;
                    let bigint: FieldRef = Arc::new(Field::new("", DataType::Int64, true));
                    let types = vec![Some(bigint); parameters.len()];
                    prepared.insert(sql.to_string(), session.prepare(statement, &types).await?);
                }
                let parameters = parameters.iter().map(|p| ScalarValue::Int64(Some(*p))).collect();
                match session.execute(&prepared[sql], parameters).await? {
                    Outcome::Rows { rows, .. } => {
                        let batches: Vec<_> = rows.try_collect().await?;
                        let first = batches.iter().find(|b| b.num_rows() > 0).map(|b| b.column(0));
                        Ok(first.and_then(|c| c.as_primitive_opt::<Int64Type>()).map(|c| c.value(0)))
                    }
                    _ => Ok(None),
                }
            }
        }
    }
}
