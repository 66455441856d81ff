//! Asks a relay that runs on this machine, over its private port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::settings::Settings;

/// How long a relay may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const ANSWER_MAX: usize = 256 << 20;

/// The private port of a relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay(SocketAddr);

impl Relay {
    /// The one that these settings are of.
    pub(super) fn of(settings: &Settings) -> anyhow::Result<Self> {
        let address = match settings.operations {
            Some(address) => Some(address),
            None => settings.file()?.listen.operations,
        };
        let mut address = address.context("this relay has no private port: listen.operations is not set")?;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            });
        }
        Ok(Self(address))
    }

    /// Whether nobody listens there any more.
    pub(super) async fn is_gone(self) -> bool {
        TcpStream::connect(self.0).await.is_err()
    }

    /// Its answer, if it is one of success.
    pub(super) async fn ask(self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let asked = tokio::time::timeout(PATIENCE, self.exchange(method, path)).await;
        let (status, body) = asked
            .map_err(|_| anyhow::anyhow!("{} does not answer within {} s", self.0, PATIENCE.as_secs()))??;
        if !status.is_success() {
            bail!("{}{path} answers {status}: {}", self.0, String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    }

    async fn exchange(self, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect(self.0)
            .await
            .with_context(|| format!("no relay answers on {} (listen.operations)", self.0))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.0.to_string())
            .header("connection", "close")
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        // The connection has to be driven for as long as the exchange lasts.
        let (exchanged, _) = tokio::join!(exchange, connection);
        exchanged
    }
}

/// Runs a command that only asks.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(future)
}
