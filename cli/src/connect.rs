//! The connection to the collector: mutual TLS, or the root-only socket on its own machine.

use std::path::Path;

use hyper_util::rt::TokioIo;
use mainstay_proto::v1::command_service_client::CommandServiceClient;
use mainstay_proto::v1::query_service_client::QueryServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::context::{CA, CERTIFICATE, COLLECTOR, Context, KEY};
use crate::exit::{Exit, Failure};

/// The port for agents and operators.
const PORT: u16 = 7443;

/// Connects for questions.
pub(crate) async fn queries(context: &Context) -> Result<QueryServiceClient<Channel>, Failure> {
    let channel = channel(context).await?;
    Ok(QueryServiceClient::new(channel).max_decoding_message_size(mainstay_proto::MESSAGE_BYTES_MAX))
}

/// Connects for commands.
pub(crate) async fn commands(context: &Context) -> Result<CommandServiceClient<Channel>, Failure> {
    Ok(CommandServiceClient::new(channel(context).await?))
}

/// Connects for commands over the collector's own socket.
pub(crate) async fn local_commands(socket: &Path) -> Result<CommandServiceClient<Channel>, Failure> {
    let path = socket.to_owned();
    // The address is asked for and not used: the socket's path says where.
    let channel = Endpoint::from_static("http://collector.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| {
            Failure::new(
                Exit::Unreachable,
                format!(
                    "cannot reach the collector over {}: {} (run this as root on the collector's machine; `systemctl status mainstay-collector` tells whether it runs)",
                    socket.display(),
                    innermost(&error)
                ),
            )
        })?;
    Ok(CommandServiceClient::new(channel))
}

async fn channel(context: &Context) -> Result<Channel, Failure> {
    let address = match &context.collector {
        Some(address) => address.clone(),
        None => context.read(COLLECTOR)?.trim().to_owned(),
    };
    let address = with_port(&address)?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(context.read(CA)?))
        .identity(Identity::from_pem(context.read(CERTIFICATE)?, context.read(KEY)?))
        .domain_name(mainstay_proto::COLLECTOR_NAME);
    Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| Failure::usage(format!("collector address `{address}`: {}", innermost(&error))))?
        .connect_timeout(context.timeout)
        .timeout(context.timeout)
        .connect()
        .await
        .map_err(|error| {
            Failure::new(
                Exit::Unreachable,
                format!(
                    "cannot reach the collector at {address}: {} (is it up, and is this its address?)",
                    innermost(&error)
                ),
            )
        })
}

/// Adds the port where none is given: `host`, `host:port`, `[v6]`, `[v6]:port`.
fn with_port(address: &str) -> Result<String, Failure> {
    let after_host = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    let bad = || Failure::usage(format!("`{address}` is not HOST or HOST:PORT"));
    if address.is_empty() || address.contains(['/', ' ']) {
        return Err(bad());
    }
    match after_host.rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().map(|_| address.to_owned()).map_err(|_| bad()),
        None => Ok(format!("{address}:{PORT}")),
    }
}

/// The cause at the bottom of an error: the layers above only repeat "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_added_where_none_is_given() {
        assert_eq!(with_port("db.example").unwrap(), "db.example:7443");
        assert_eq!(with_port("10.0.0.1:99").unwrap(), "10.0.0.1:99");
        assert_eq!(with_port("[::1]").unwrap(), "[::1]:7443");
        assert_eq!(with_port("[::1]:99").unwrap(), "[::1]:99");
        for bad in ["", "https://x", "x:port"] {
            assert_eq!(with_port(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
