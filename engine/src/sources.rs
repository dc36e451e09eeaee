//! Runs connectors: a task per stream that has one, polling its source and committing what it gives with
//! the position that it leads to, in one epoch; a task per sink, following its input's changes; a task per table whose
//! rows have a time to live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::catalog::{Relation, RelationId, RelationKind};
use crate::commit::{Request, Writes};
use crate::connectors::{Polled, open_sink, open_source};
use crate::core::Core;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::serve::subscribe::Subscription;
use crate::ttl::Ttl;
use crate::waits::{Reason, Waiter};

/// Rows asked of a source at once.
const POLL_ROWS: usize = 8192;

pub struct SourceTasks {
    core: Arc<Core>,
    runtime: tokio::runtime::Handle,
    running: Mutex<HashMap<RelationId, tokio::task::JoinHandle<()>>>,
}

impl SourceTasks {
    pub fn new(core: Arc<Core>, runtime: tokio::runtime::Handle) -> Self {
        SourceTasks { core, runtime, running: Mutex::default() }
    }

    /// Starts what the relation needs, from the position that is logged.
    pub fn start(&self, relation: &Arc<Relation>, position: Option<&[u8]>) -> Result<()> {
        let has_connector = relation.options.contains_key("connector");
        let task = match relation.kind {
            RelationKind::Stream if has_connector => {
                let source = open_source(relation, position, self.core.clock_us())?;
                self.runtime.spawn(pull(self.core.clone(), relation.clone(), source))
            }
            RelationKind::Sink => {
                let sink = open_sink(relation)?;
                self.runtime.spawn(push(self.core.clone(), relation.clone(), sink))
            }
            RelationKind::Table => match Ttl::of(&relation.columns, &relation.options)? {
                Some(ttl) => self.runtime.spawn(crate::ttl::run(self.core.clone(), relation.clone(), ttl)),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.running.lock().expect("no panic while held").insert(relation.id, task);
        Ok(())
    }

    pub fn stop_one(&self, id: RelationId) {
        if let Some(task) = self.running.lock().expect("no panic while held").remove(&id) {
            task.abort();
        }
    }

    pub fn abort(&self) {
        for (_, task) in self.running.lock().expect("no panic while held").drain() {
            task.abort();
        }
    }

    pub async fn stop(&self) {
        let tasks: Vec<_> = self.running.lock().expect("no panic while held").drain().collect();
        for (_, task) in tasks {
            task.abort();
            // Ends with "cancelled", as asked.
            let _ = task.await;
        }
    }
}

async fn pull(core: Arc<Core>, relation: Arc<Relation>, mut source: Box<dyn crate::connectors::Source>) {
    loop {
        match source.poll(core.clock_us(), POLL_ROWS) {
            Ok(Polled::Rows(rows)) => {
                let changes = if rows.num_rows() > 0 {
                    [(relation.id, vec![Delta::inserts(rows)])].into()
                } else {
                    Default::default()
                };
                let positions = vec![(relation.id, source.position())];
                let writes = Writes { changes, positions, ..Writes::default() };
                loop {
                    let writes = writes.clone();
                    let written = core.ask(|reply| Request::Write { writes, reply });
                    match core.waits.during(Waiter::Connector(relation.id), Reason::Commit, None, written).await {
                        Ok(_) => break,
                        // A full disk may have room again.
                        Err(error) if error.code == "53100" && core.failure().is_none() => {
                            tracing::warn!(%error, stream = relation.name, "the stream's connector waits");
                            let _waiting = core.waits.begin(Waiter::Connector(relation.id), Reason::Disk, None);
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                        Err(error) => {
                            tracing::error!(%error, stream = relation.name, "the stream's connector stops");
                            return;
                        }
                    }
                }
            }
            Ok(Polled::Wait(time)) => {
                tokio::time::sleep(time.clamp(Duration::from_millis(1), Duration::from_secs(1))).await
            }
            Ok(Polled::End) => {
                tracing::info!(stream = relation.name, "the source has ended");
                return;
            }
            Err(error) => {
                tracing::error!(%error, stream = relation.name, "the stream's connector stops");
                return;
            }
        }
    }
}

async fn push(core: Arc<Core>, relation: Arc<Relation>, mut sink: Box<dyn crate::connectors::Sink>) {
    let follow = async {
        let catalog = core.catalog();
        let input = relation.depends_on.first().and_then(|id| catalog.get(*id)).cloned();
        let input = input.ok_or_else(|| Error::internal("a sink without an input"))?;
        loop {
            let mut subscription = Subscription::start(&core, &input, true, None, None).await?;
            loop {
                match subscription.next(&core).await {
                    Ok((epoch, changes)) => sink.write(epoch, &changes)?,
                    // As at a start: all rows once more, then the changes.
                    Err(error) if error.code == "53400" => {
                        tracing::warn!(%error, sink = relation.name, "the sink begins anew");
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    };
    let result: Result<()> = follow.await;
    if let Err(error) = result {
        tracing::error!(%error, sink = relation.name, "the sink stops");
    }
}
