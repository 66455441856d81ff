//! Joins the built-in desk to the relay: the only place that knows both.

#[cfg(feature = "desk")]
mod built_in;

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_relay::admission::NoDesk;
use tandem_relay::config::{Config, State};
#[cfg(feature = "desk")]
use tandem_relay::private_file;
use tandem_relay::server::DeskParts;

#[cfg(feature = "desk")]
pub(crate) use built_in::BuiltIn;

/// A relay built without the desk.
#[cfg(not(feature = "desk"))]
pub(crate) enum BuiltIn {}

#[cfg(not(feature = "desk"))]
impl BuiltIn {
    pub(crate) fn connect(&self, _: &Arc<tandem_relay::relay::Relay>) {
        match *self {}
    }
}

/// The desk that the configuration asks for.
pub(crate) fn build(config: &Config, plain_http: bool) -> anyhow::Result<(DeskParts, Option<Arc<BuiltIn>>)> {
    #[cfg(feature = "desk")]
    if let Some(settings) = &config.desk {
        let desk = BuiltIn::new(settings, &config.audience, plain_http)?;
        if let State::Directory(directory) = &config.state {
            private_file::directory(directory)?;
            desk.remember(directory.join("desk.json"), config.timing.grace)?;
        }
        return Ok((desk.parts(), Some(desk)));
    }
    #[cfg(not(feature = "desk"))]
    let _ = (config, plain_http);
    Ok((DeskParts { desk: Arc::new(NoDesk), keys: Vec::new(), routes: axum::Router::new() }, None))
}

/// Leaves the operator a link that signs the technician in, once, where only the operator can read it.
pub(crate) fn leave_sign_in_link(desk: Option<&BuiltIn>, state: &State) -> anyhow::Result<()> {
    #[cfg(feature = "desk")]
    if let (Some(desk), State::Directory(directory)) = (desk, state) {
        let link = format!("/#secret={}\n", desk.one_time_secret());
        private_file::write(&directory.join("sign-in-link"), link.as_bytes())?;
    }
    #[cfg(not(feature = "desk"))]
    let _ = (desk, state);
    Ok(())
}

/// Tells who tries the relay out where everything is.
pub(crate) fn announce(
    desk: Option<&BuiltIn>,
    address: SocketAddr,
    operations: Option<SocketAddr>,
    fingerprint: Option<[u8; 32]>,
    json: bool,
) -> anyhow::Result<()> {
    #[cfg(feature = "desk")]
    let first = desk.map(BuiltIn::first_session).transpose()?;
    #[cfg(not(feature = "desk"))]
    let first: Option<(String, String)> = desk.map(|desk| match *desk {});
    let fingerprint: String = fingerprint.iter().flatten().map(|byte| format!("{byte:02x}")).collect();
    let relay = format!("https://{address}");
    let console = first.as_ref().map(|(secret, _)| format!("http://{address}/#secret={secret}"));
    let code = first.map(|(_, code)| code);
    let operations = operations.map(|address| format!("http://{address}"));
    if json {
        let all = serde_json::json!({
            "schema": 1, "kind": "ready", "relay": relay, "fingerprint": fingerprint, "console": console, "code": code,
            "operations": operations,
        });
        println!("{all}");
        return Ok(());
    }
    println!("Relay       {relay}");
    println!("Fingerprint {fingerprint}");
    if let Some(operations) = operations {
        println!("Operations  {operations}/metrics");
    }
    if let (Some(console), Some(code)) = (console, code) {
        println!("Console     {console}");
        println!("            (this link signs the technician in, once)");
        println!("Code        {code}");
        println!();
        println!("Share a screen: tandem-applet --relay {relay} --fingerprint {fingerprint} --code {code}");
    }
    Ok(())
}
