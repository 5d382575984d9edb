//! Looks at disks that may never answer: on a thread of its own, one at a time for each thing, remembered for a while.
//!
//! A file system of a dead server holds the thread that asks it for ever. So nobody waits for one longer than a bound,
//! and nobody asks again what has no answer yet.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Threads that look at once; of more dead servers than this, what is left to look at waits.
const AT_ONCE: usize = 8;

/// What was found, by what was looked at.
pub(super) struct Looks<K, V> {
    state: Mutex<State<K, V>>,
    answers: watch::Sender<()>,
}

struct State<K, V> {
    known: HashMap<K, Known<V>>,
    /// To be looked at.
    queue: VecDeque<K>,
    threads: usize,
}

struct Known<V> {
    /// With the time since boot at which it was asked for.
    found: Option<(Duration, Arc<V>)>,
    is_asked: bool,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Send + Sync + 'static> Looks<K, V> {
    pub(super) fn new() -> Arc<Self> {
        let state = State { known: HashMap::new(), queue: VecDeque::new(), threads: 0 };
        Arc::new(Self { state: Mutex::new(state), answers: watch::Sender::new(()) })
    }

    /// What is known of each of `wanted`, no older than `stale`, once what is older than `fresh` was looked at again
    /// or `patience` is over. What is not wanted any more is forgotten. `look` is given what it found before.
    pub(super) async fn at(
        self: &Arc<Self>,
        wanted: Vec<K>,
        ages: Ages,
        look: impl Fn(&K, Option<&V>) -> V + Clone + Send + 'static,
    ) -> HashMap<K, Arc<V>> {
        let mut answers = self.answers.subscribe();
        self.ask(&wanted, ages, &look);
        let waiting = async { while self.is_waiting(&wanted) && answers.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(ages.patience, waiting).await;
        let state = self.lock();
        let found = |key: K| {
            let (at, found) = state.known.get(&key)?.found.clone()?;
            (ages.now.saturating_sub(at) <= ages.stale).then_some((key, found))
        };
        wanted.into_iter().filter_map(found).collect()
    }

    fn ask(
        self: &Arc<Self>,
        wanted: &[K],
        ages: Ages,
        look: &(impl Fn(&K, Option<&V>) -> V + Clone + Send + 'static),
    ) {
        let mut state = self.lock();
        if state.known.len() > wanted.len() {
            let wanted: HashSet<&K> = wanted.iter().collect();
            state.known.retain(|key, one| one.is_asked || wanted.contains(key));
        }
        for key in wanted {
            let one = state.known.entry(key.clone()).or_insert(Known { found: None, is_asked: false });
            let is_fresh =
                one.found.as_ref().is_some_and(|(at, _)| ages.now.saturating_sub(*at) < ages.fresh);
            if !one.is_asked && !is_fresh {
                one.is_asked = true;
                state.queue.push_back(key.clone());
            }
        }
        for _ in state.threads..AT_ONCE.min(state.threads + state.queue.len()) {
            let (looks, look) = (self.clone(), look.clone());
            let work = move || looks.work(ages.now, look);
            // Outside of the runtime, which at its end would wait for its own.
            let thread = std::thread::Builder::new().name("metrics".into()).stack_size(256 << 10).spawn(work);
            state.threads += usize::from(thread.is_ok());
        }
    }

    fn work(&self, now: Duration, look: impl Fn(&K, Option<&V>) -> V) {
        let mut state = self.lock();
        while let Some(key) = state.queue.pop_front() {
            let before = state.known.get(&key).and_then(|one| one.found.clone());
            drop(state);
            let found = look(&key, before.as_ref().map(|(_, found)| &**found));
            state = self.lock();
            state.known.insert(key, Known { found: Some((now, Arc::new(found))), is_asked: false });
            self.answers.send_replace(());
        }
        state.threads -= 1;
    }

    fn is_waiting(&self, wanted: &[K]) -> bool {
        let state = self.lock();
        wanted.iter().any(|key| state.known.get(key).is_some_and(|one| one.is_asked))
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How old what is known may be.
#[derive(Clone, Copy)]
pub(super) struct Ages {
    /// Since boot.
    pub(super) now: Duration,
    /// Younger than this it is not looked at again.
    pub(super) fresh: Duration,
    /// Older than this it counts as unknown.
    pub(super) stale: Duration,
    /// What the one who asks may be kept waiting.
    pub(super) patience: Duration,
}
