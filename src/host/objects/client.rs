//! The client that requests to a bucket go through: with the authorities, the resolver and the bounds that this program
//! has everywhere.

use std::net::SocketAddr;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, redirect};

use crate::host::{names, trust};

const CONNECT: Duration = Duration::from_secs(15);

/// `silence`: how long an answer may take.
pub(super) fn client(silence: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .tls_backend_preconfigured(trust::verifying(trust::authorities()).with_no_client_auth())
        .user_agent(concat!("punk-eco-sched/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT)
        .read_timeout(silence)
        .dns_resolver(Resolver)
        .build()
}

/// The client that it is given.
#[derive(Debug)]
pub(super) struct Own(pub(super) Client);

impl HttpConnector for Own {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// The system's resolver, bounded.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = names::addresses(name.as_str()).await?;
            // The port is put in by whoever connects.
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
