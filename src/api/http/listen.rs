//! The address of `dashboard:`: listens where the table in force says, for as long as it says so.
//!
//! A port that is taken, or a token that can't be read, stops no job: it is said, and tried again.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use axum::Router;
use axum::http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::token::Access;
use super::{Pages, converse, router};
use crate::config::Dashboard;

/// Connections at once; for another one the one that was idle for longest goes.
const MOST: usize = 64;
/// For as long it is said that there were too many.
const CROWDED: Duration = Duration::from_secs(60);
/// Until a port that was taken, or a token that could not be read, is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The way to the one who listens. A clone is the same one.
#[derive(Clone)]
pub struct Front {
    wanted: watch::Sender<Option<Dashboard>>,
    said: Arc<Mutex<Vec<String>>>,
    crowd: Arc<Mutex<Option<Crowd>>>,
}

/// When somebody last had to make room, and for whom.
#[derive(Clone, Copy)]
struct Crowd {
    at: Instant,
    newest: IpAddr,
}

impl Front {
    /// Listens until `stop`, as [`Front::put`] says. Needs a runtime.
    pub fn start(pages: Arc<dyn Pages>, stop: CancellationToken) -> Self {
        let front = Self { wanted: watch::Sender::new(None), said: Arc::default(), crowd: Arc::default() };
        let desk = Desk {
            wanted: front.wanted.subscribe(),
            said: front.said.clone(),
            crowd: front.crowd.clone(),
            router: router(pages),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = desk.work() => {}
                () = stop.cancelled() => {}
            }
        });
        front
    }

    /// What the table in force says.
    pub fn put(&self, wanted: Option<Dashboard>) {
        self.wanted.send_replace(wanted);
    }

    /// What an operator should know.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let crowd = *self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        problems.extend(crowd.filter(|crowd| crowd.at.elapsed() < CROWDED).map(|crowd| crowd.to_string()));
        problems
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dashboard.listen: all {MOST} connections are taken: the longest idle ones are closed for others; the newest \
             is from {}",
            self.newest
        )
    }
}

struct Desk {
    wanted: watch::Receiver<Option<Dashboard>>,
    said: Arc<Mutex<Vec<String>>>,
    crowd: Arc<Mutex<Option<Crowd>>>,
    router: Router,
}

/// The address that was asked for, and who listens there.
struct Bound {
    address: SocketAddr,
    listener: TcpListener,
    access: watch::Sender<Access>,
    clients: JoinSet<()>,
    /// In the order in which they came.
    seats: Vec<Seat>,
    stop: CancellationToken,
}

/// A client's connection.
struct Seat {
    task: AbortHandle,
    /// The number of its last request that was let in, or [`NEVER`].
    let_in: Arc<AtomicU64>,
}

const NEVER: u64 = 0;
/// Counts requests that are let in.
static TURNS: AtomicU64 = AtomicU64::new(NEVER + 1);

impl Drop for Bound {
    fn drop(&mut self) {
        self.stop.cancel();
        // They are told, and have their second.
        self.clients.detach_all();
    }
}

impl Desk {
    async fn work(mut self) {
        let mut bound: Option<Bound> = None;
        loop {
            let Some(wanted) = self.wanted.borrow_and_update().clone() else {
                bound = None;
                self.say(vec![]);
                if self.wanted.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let mut problems = vec![];
            let access = Access::of(wanted.token).await.unwrap_or_else(|why| {
                problems.push(format!("dashboard.token: {why}: nobody is answered on {}", wanted.listen));
                Access::Nobody
            });
            // The old one is closed first: the new address may overlap with it.
            bound = bound.filter(|bound| bound.address == wanted.listen);
            match &bound {
                Some(bound) => drop(bound.access.send_replace(access)),
                None => match Bound::at(wanted.listen, access).await {
                    Ok(new) => bound = Some(new),
                    Err(error) => {
                        let address = wanted.listen;
                        problems.push(format!("dashboard.listen: {address} can't be listened on: {error}"));
                    }
                },
            }
            let is_whole = problems.is_empty();
            self.say(problems);
            let again = async {
                if is_whole {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(AGAIN).await;
            };
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = again => {}
                () = serve(&mut bound, &self.router, &self.crowd) => {}
            }
        }
    }

    fn say(&self, problems: Vec<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems.iter().filter(|problem| !said.contains(problem)) {
            tracing::error!("{problem}; it is tried again");
        }
        if !said.is_empty() && problems.is_empty() {
            tracing::info!("dashboard: all is well again");
        }
        *said = problems;
    }
}

impl Bound {
    async fn at(address: SocketAddr, access: Access) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        tracing::info!("metrics are at http://{}/metrics", listener.local_addr()?);
        let (clients, stop) = (JoinSet::new(), CancellationToken::new());
        let access = watch::Sender::new(access);
        Ok(Self { address, listener, access, clients, seats: Vec::new(), stop })
    }
}

/// Takes clients for ever.
async fn serve(bound: &mut Option<Bound>, router: &Router, crowd: &Mutex<Option<Crowd>>) {
    let Some(Bound { listener, access, clients, seats, stop, .. }) = bound else {
        return std::future::pending().await;
    };
    loop {
        let accepted = tokio::select! {
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("dashboard: a client could not be accepted: {error}");
                // What was lacking is given back by others, of which nothing tells.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        seats.retain(|seat| !seat.task.is_finished());
        if seats.len() >= MOST {
            say_crowded(crowd, from.ip());
            make_room(seats);
        }
        let let_in = Arc::new(AtomicU64::new(NEVER));
        let (router, access, stop, seen) = (router.clone(), access.subscribe(), stop.clone(), let_in.clone());
        let gate = move |headers: &HeaderMap| {
            let refused = access.borrow().refuses(headers);
            if refused.is_none() {
                seen.store(TURNS.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            }
            refused
        };
        let task = clients.spawn(async move { converse(stream, router, gate, stop).await });
        seats.push(Seat { task, let_in });
    }
}

/// Whoever was never let in goes first, then whoever asked for nothing for longest.
fn make_room(seats: &mut Vec<Seat>) {
    let longest = seats.iter().enumerate().min_by_key(|(_, seat)| seat.let_in.load(Ordering::Relaxed));
    if let Some((at, _)) = longest {
        seats.remove(at).task.abort();
    }
}

/// Once in the log, for as long as it goes on.
fn say_crowded(crowd: &Mutex<Option<Crowd>>, newest: IpAddr) {
    let mut crowd = crowd.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Crowd { at: Instant::now(), newest };
    if crowd.replace(now).is_none_or(|before| before.at.elapsed() >= CROWDED) {
        tracing::warn!("{now}");
    }
}
