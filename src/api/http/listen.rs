//! The address of `dashboard:`: listens where the table in force says, for as long as it says so.
//!
//! A port that is taken, or a token that can't be read, stops no job: it is said, and tried again.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::token::Access;
use super::{Pages, converse, router};
use crate::config::Dashboard;

/// Connections at once; another one waits until one of them has gone.
const MOST: usize = 64;
/// Until a port that was taken, or a token that could not be read, is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The way to the one who listens. A clone is the same one.
#[derive(Clone)]
pub struct Front {
    wanted: watch::Sender<Option<Dashboard>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Front {
    /// Listens until `stop`, as [`Front::put`] says. Needs a runtime.
    pub fn start(pages: Arc<dyn Pages>, stop: CancellationToken) -> Self {
        let front = Self { wanted: watch::Sender::new(None), said: Arc::default() };
        let desk = Desk { wanted: front.wanted.subscribe(), said: front.said.clone(), router: router(pages) };
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
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Desk {
    wanted: watch::Receiver<Option<Dashboard>>,
    said: Arc<Mutex<Vec<String>>>,
    router: Router,
}

/// The address that was asked for, and who listens there.
struct Bound {
    address: SocketAddr,
    listener: TcpListener,
    access: watch::Sender<Access>,
    clients: JoinSet<()>,
    stop: CancellationToken,
}

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
                () = serve(&mut bound, &self.router) => {}
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
        Ok(Self { address, listener, access: watch::Sender::new(access), clients, stop })
    }
}

/// Takes clients for ever.
async fn serve(bound: &mut Option<Bound>, router: &Router) {
    let Some(Bound { listener, access, clients, stop, .. }) = bound else {
        return std::future::pending().await;
    };
    loop {
        while clients.len() >= MOST {
            clients.join_next().await;
        }
        let accepted = tokio::select! {
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("dashboard: a client could not be accepted: {error}");
                // What was lacking is given back by others, of which nothing tells.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, access, stop) = (router.clone(), access.subscribe(), stop.clone());
        clients.spawn(async move {
            converse(stream, router, move |headers| access.borrow().refuses(headers), stop).await;
        });
    }
}
