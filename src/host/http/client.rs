//! The clients: one for http, and one for https that is made when it is first asked for. And how far a request has
//! come, which they are asked to note.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, redirect};
use rustls::RootCertStore;
use tower_layer::Layer;
use tower_service::Service;

use super::{HttpError, Target};
use crate::host::{names, trust};

static PLAIN: OnceLock<Client> = OnceLock::new();

/// With the authorities that it trusts.
static SECURE: Mutex<Option<(Arc<RootCertStore>, Client)>> = Mutex::new(None);

tokio::task_local! {
    static OBSERVED: Progress;
}

pub(super) fn of(target: &Target) -> Result<Client, HttpError> {
    if target.is_tls() {
        let roots = trust::authorities();
        let mut known = SECURE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = &*known
            && Arc::ptr_eq(of, &roots)
        {
            return Ok(client.clone());
        }
        let client = build(roots.clone())?;
        *known = Some((roots, client.clone()));
        return Ok(client);
    }
    if let Some(client) = PLAIN.get() {
        return Ok(client.clone());
    }
    let client = build(Arc::new(RootCertStore::empty()))?;
    Ok(PLAIN.get_or_init(|| client).clone())
}

fn build(roots: Arc<RootCertStore>) -> Result<Client, HttpError> {
    Client::builder()
        .tls_backend_preconfigured(trust::verifying(roots).with_no_client_auth())
        .user_agent(concat!("punk-eco-sched/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(0)
        // A request's own span of time ends it: nothing is left for TCP to watch over.
        .tcp_keepalive(None)
        .tcp_keepalive_interval(None)
        .tcp_keepalive_retries(None)
        .tcp_user_timeout(None)
        .dns_resolver(Resolver)
        .connector_layer(Observe)
        .build()
        .map_err(|error| HttpError::Client { reason: error.to_string() })
}

/// Runs a request so that the clients note in `progress` how far it has come.
pub(super) async fn observed<F: Future>(progress: Progress, request: F) -> F::Output {
    OBSERVED.scope(progress, request).await
}

/// How far a request has come.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<Reached>>);

#[derive(Default)]
struct Reached {
    target: Option<Target>,
    step: Step,
}

#[derive(Default)]
enum Step {
    #[default]
    Start,
    LooksUp,
    Connects,
    Connected,
    Headers(u16),
    Body(u16, usize),
}

impl Progress {
    pub(super) fn asks(&self, target: &Target) {
        *self.state() = Reached { target: Some(target.clone()), step: Step::Start };
    }

    pub(super) fn status(&self, status: u16) {
        self.state().step = Step::Headers(status);
    }

    pub(super) fn body(&self, bytes: usize) {
        let mut state = self.state();
        if let Step::Headers(status) | Step::Body(status, _) = state.step {
            state.step = Step::Body(status, bytes);
        }
    }

    pub(super) fn url(&self) -> Option<String> {
        self.state().target.as_ref().map(Target::to_string)
    }

    /// Whether the connection stands, TLS included.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state().step, Step::Connected | Step::Headers(_) | Step::Body(..))
    }

    /// What has come, in words: `connected, but no answer came`.
    pub(super) fn reached(&self) -> String {
        let state = self.state();
        let host = state.target.as_ref().map(Target::host).unwrap_or_default();
        match state.step {
            Step::LooksUp => format!("{host} was still being looked up"),
            Step::Start | Step::Connects if state.target.as_ref().is_some_and(Target::is_tls) => {
                "no TLS connection was made".into()
            }
            Step::Start | Step::Connects => "no connection was made".into(),
            Step::Connected => "connected, but no whole header came".into(),
            Step::Headers(status) => format!("status {status} came, but nothing of the body"),
            Step::Body(status, 1) => format!("status {status} and 1 byte of the body came, but not its end"),
            Step::Body(status, bytes) => {
                format!("status {status} and {bytes} bytes of the body came, but not its end")
            }
        }
    }

    fn step(step: Step) {
        let _ = OBSERVED.try_with(|progress| progress.state().step = step);
    }

    fn state(&self) -> MutexGuard<'_, Reached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's resolver, bounded.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Progress::step(Step::LooksUp);
        Box::pin(async move {
            let found = names::addresses(name.as_str()).await?;
            Progress::step(Step::Connects);
            // The port is put in by whoever connects.
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// Notes when a connection stands.
#[derive(Clone, Copy)]
struct Observe;

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, connector: S) -> Observed<S> {
        Observed { connector }
    }
}

#[derive(Clone)]
struct Observed<S> {
    connector: S,
}

impl<S, R> Service<R> for Observed<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        Progress::step(Step::Connects);
        let connecting = self.connector.call(to);
        Box::pin(async move {
            let connection = connecting.await?;
            Progress::step(Step::Connected);
            Ok(connection)
        })
    }
}
