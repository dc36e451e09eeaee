//! DO: see `sql/parse/do_block.rs` for which blocks there are.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::plans::Plans;
use super::{Outcome, Session};
use crate::error::Result;
use crate::sql::statement::Block;

impl Session {
    /// Its statements are one transaction, as those of one message are.
    pub(super) async fn do_block(&mut self, block: &Block) -> Result<Outcome> {
        let own = self.transaction.is_none();
        if own {
            self.begin_implicit().await;
        }
        let done = self.statements_of(block).await;
        if own {
            self.end_implicit(done.is_ok()).await?;
        }
        done.map(|()| Outcome::Done("DO".into()))
    }

    /// What runs a block may be run by one: so its future has a type that names no other.
    fn statements_of<'a>(&'a mut self, block: &'a Block) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(condition) = &block.condition
                && self.rows_of_query(condition, &[], &[]).await?.num_rows() == 0
            {
                return Ok(());
            }
            for statement in &block.statements {
                match self.run(&Arc::new(statement.clone()), &Plans::default(), &[]).await {
                    Err(error) if block.ignored.iter().any(|code| code.is_empty() || *code == error.code) => {}
                    Err(error) => return Err(error.nowhere()),
                    Ok(_) => {}
                }
            }
            Ok(())
        })
    }
}
