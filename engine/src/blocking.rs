//! Waiting on a thread for a future, within a task of a runtime too.
//!
//! Tokio gives each turn of a task a number of steps. When they are used up, what a future waits for wakes it after that turn;
//! and the turn does not end while its thread waits here. So the future takes no part in the counting.

/// The future's result. It must not need the threads of the runtime that this is called on, of which it takes one.
pub fn wait_for<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(tokio::task::unconstrained(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_may_wait_more_often_than_it_has_steps() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let waited = runtime.block_on(async {
            let task = tokio::spawn(async {
                let lock = tokio::sync::Mutex::new(0);
                for _ in 0..1000 {
                    *wait_for(lock.lock()) += 1;
                }
                lock.into_inner()
            });
            task.await.unwrap()
        });
        assert_eq!(waited, 1000);
    }
}
