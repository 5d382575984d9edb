//! One look at all processes for all who ask at the same time: five hundred runs may end at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;

use super::super::mark::mark_of;
use crate::host::procfs::{self, ProcessStat};

/// Shares one answer among those who asked before the work for it began, so that nobody gets one that is older than
/// the question.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    asked: AtomicU64,
    waiting: AtomicUsize,
    /// The answer, and how many had asked when its work began.
    last: Mutex<Option<(u64, Arc<T>)>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), waiting: AtomicUsize::new(0), last: Mutex::new(None) }
    }
}

impl<T: Default + Send + Sync + 'static> Shared<T> {
    /// `work` is done on a thread of its own, where it is done at all.
    pub(crate) async fn get(&self, work: impl FnOnce() -> T + Send + 'static) -> Arc<T> {
        let _waiting = Waiting::new(&self.waiting);
        let mine = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        let answer = match last.take().filter(|(asked, _)| *asked > mine) {
            Some(known) => known,
            None => {
                let asked = self.asked.load(Ordering::SeqCst);
                let done = tokio::task::spawn_blocking(work).await.unwrap_or_default();
                (asked, Arc::new(done))
            }
        };
        let shared = answer.1.clone();
        // Held for the others alone: it may be large.
        if self.waiting.load(Ordering::SeqCst) > 1 {
            *last = Some(answer);
        }
        shared
    }
}

/// Counts also one that is dropped while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    pub(super) all: Vec<ProcessStat>,
    /// Of each of them, read when first asked for.
    marks: Vec<OnceLock<Option<u64>>>,
    children: OnceLock<HashMap<i32, Vec<usize>>>,
}

impl Processes {
    pub(crate) fn look() -> Self {
        let all = procfs::all();
        Self { marks: all.iter().map(|_| OnceLock::new()).collect(), all, children: OnceLock::new() }
    }

    pub(super) fn mark(&self, index: usize) -> Option<u64> {
        let pid = self.all.get(index)?.pid;
        *self.marks.get(index)?.get_or_init(|| mark_of(pid))
    }

    /// With all that descends from them, without zombies.
    pub(super) fn family(&self, roots: Vec<usize>) -> Vec<&ProcessStat> {
        let children = self.children.get_or_init(|| {
            let mut children: HashMap<i32, Vec<usize>> = HashMap::new();
            for (index, one) in self.all.iter().enumerate() {
                children.entry(one.parent).or_default().push(index);
            }
            children
        });
        let mut seen = vec![false; self.all.len()];
        let mut found = roots;
        found.iter().for_each(|index| seen[*index] = true);
        let mut next = 0;
        while let Some(one) = found.get(next).and_then(|index| self.all.get(*index)) {
            for child in children.get(&one.pid).into_iter().flatten() {
                if !std::mem::replace(&mut seen[*child], true) {
                    found.push(*child);
                }
            }
            next += 1;
        }
        let found = found.into_iter().filter_map(|index| self.all.get(index));
        found.filter(|one| !one.is_zombie()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_asked_before_it_began_share_one_answer_and_later_ones_get_another() {
        let shared: Arc<Shared<u64>> = Arc::default();
        let count = Arc::new(AtomicU64::new(0));
        let (begun, on_begun) = std::sync::mpsc::channel();
        let (go, on_go) = std::sync::mpsc::channel();
        let first = {
            let (shared, count) = (shared.clone(), count.clone());
            let work = move || {
                begun.send(()).unwrap();
                on_go.recv().unwrap();
                count.fetch_add(1, Ordering::SeqCst) + 1
            };
            tokio::spawn(async move { *shared.get(work).await })
        };
        tokio::task::spawn_blocking(move || on_begun.recv().unwrap()).await.unwrap();
        // Asked while the first look was under way: it may have missed what they ask for.
        let later: Vec<_> = (0..100)
            .map(|_| {
                let (shared, count) = (shared.clone(), count.clone());
                tokio::spawn(
                    async move { *shared.get(move || count.fetch_add(1, Ordering::SeqCst) + 1).await },
                )
            })
            .collect();
        while shared.asked.load(Ordering::SeqCst) < 101 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), 1);
        for one in later {
            assert_eq!(one.await.unwrap(), 2);
        }
        assert_eq!(*shared.get(|| 3).await, 3);
        assert!(shared.last.lock().await.is_none());
    }
}
