//! Questions to disks that may never answer: each on a plain thread, of which there is one at a time for each thing
//! asked. Remembers no answer.
//!
//! The file system of a dead server holds the thread that asks it for ever. None of the runtime's may be that: its
//! workers are few, and its end waits for the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Builder, Thread};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What is asked now. Whoever asks the same meanwhile is given the same answer.
pub(super) struct Slow<K, V> {
    asked: Mutex<HashMap<K, watch::Receiver<Option<V>>>>,
}

impl<K, V> Slow<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { asked: Mutex::default() }
    }

    /// `None` where there is no answer within `patience`.
    pub(super) async fn ask(
        &'static self,
        key: K,
        patience: Duration,
        look: impl FnOnce(&K) -> V + Send + 'static,
    ) -> Option<V> {
        tokio::time::timeout(patience, answer(self.answers(key, look))).await.ok().flatten()
    }

    /// As [`Self::ask`], for those who are on no runtime, or can't await.
    pub(super) fn ask_blocking(
        &'static self,
        key: K,
        patience: Duration,
        look: impl FnOnce(&K) -> V + Send + 'static,
    ) -> Option<V> {
        let until = Instant::now() + patience;
        // A task's budget is not refilled while it waits here.
        let mut answer = pin!(tokio::task::unconstrained(answer(self.answers(key, look))));
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(&waker)) {
                return answer;
            }
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return None,
                left => std::thread::park_timeout(left),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_asked(&self, key: &K) -> bool {
        self.asked.lock().unwrap().contains_key(key)
    }

    fn answers(
        &'static self,
        key: K,
        look: impl FnOnce(&K) -> V + Send + 'static,
    ) -> watch::Receiver<Option<V>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has no sender any more was given up: its thread could not be started, or has panicked.
        if let Some(answers) = asked.get(&key).filter(|answers| answers.has_changed().is_ok()) {
            return answers.clone();
        }
        let (sender, answers) = watch::channel(None);
        asked.insert(key.clone(), answers.clone());
        drop(asked);
        let work = move || {
            let found = look(&key);
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            sender.send_replace(Some(found));
        };
        if let Err(error) = Builder::new().name("slow".into()).stack_size(256 << 10).spawn(work) {
            tracing::warn!("a thread that reads a file can't be started: {error}");
        }
        answers
    }
}

async fn answer<V: Clone>(mut answers: watch::Receiver<Option<V>>) -> Option<V> {
    answers.wait_for(Option::is_some).await.ok()?.clone()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_thread_asks_for_all_and_is_waited_for_no_longer_than_each_likes() {
        static SLOW: LazyLock<Slow<&str, usize>> = LazyLock::new(Slow::new);
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        let (dead, hold) = mpsc::channel::<()>();
        let held = move |_: &&str| {
            let number = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = hold.recv();
            number
        };
        let another = |_: &&str| THREADS.fetch_add(1, Ordering::Relaxed) + 1;
        assert_eq!(SLOW.ask("dead", SHORT, held).await, None);
        assert_eq!(SLOW.ask("dead", SHORT, another).await, None);
        assert_eq!(SLOW.ask_blocking("dead", SHORT, another), None);
        // Nobody else is kept waiting.
        assert_eq!(SLOW.ask("other", LONG, |_| 7).await, Some(7));
        assert_eq!(SLOW.ask_blocking("other", LONG, |_| 8), Some(8));
        let waiting = tokio::spawn(SLOW.ask("dead", LONG, another));
        tokio::task::yield_now().await;
        drop(dead);
        assert_eq!(waiting.await.unwrap(), Some(1));
        // It is asked anew.
        assert_eq!(SLOW.ask("dead", LONG, another).await, Some(2));
    }
}
