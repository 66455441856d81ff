//! moq-relay, with the options of its own program: the library it publishes, so that `Cargo.lock` of this package says what it is
//! built from. It speaks QUIC only; iroh, WebSockets and discovery of other relays are left out.

#![forbid(unsafe_code)]

use moq_relay::{Config, Relay};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if moq_tokio::crypto::install_default().is_err() {
        anyhow::bail!("there is another cryptography provider already");
    }
    Relay::load(Config::load()?).await?.run().await
}
