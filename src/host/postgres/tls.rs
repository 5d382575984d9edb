//! TLS to a PostgreSQL server, with libpq's rules: only `verify-full` looks at the certificate.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::host::tls::Seen;
use crate::host::trust;

pub(super) async fn connect(config: &Config, verify: bool) -> Result<(Client, AbortHandle), Error> {
    let (client, connection) = config.connect(MakeRustlsConnect::new(client_config(verify))).await?;
    Ok((client, tokio::spawn(connection).abort_handle()))
}

fn client_config(verify: bool) -> ClientConfig {
    if verify {
        return trust::verifying(trust::authorities()).with_no_client_auth();
    }
    // Encrypts without asking who is there, as libpq's `prefer` and `require` do: it guards against listeners only.
    trust::tls().dangerous().with_custom_certificate_verifier(Arc::<Seen>::default()).with_no_client_auth()
}
