//! Our own relay: a plain installation, but with limits on strangers that let two thousand pairs in from one address, and
//! one on a connection's records that does not end throughput: 10 000 a second of 64 KiB are 5.2 Gbit/s.

use std::net::SocketAddrV4;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tandem_workload::job::Way;

use super::{Stage, Started};
use crate::peers::kept::Kept;
use crate::peers::tandem::Settings;
use crate::run::command::Binding;
use crate::run::desk::{AUDIENCE, Signer};
use crate::shell::quoted;

impl Stage<'_> {
    pub(super) fn tandem(&self, binding: Binding) -> anyhow::Result<Started> {
        let pkcs8 = Signer::generate_pkcs8()?;
        let address = self.address()?;
        self.write("relay.toml", &config(self, address, Signer::from_pkcs8(&pkcs8)?.public()))?;
        let relay = self.start_tandem(address)?;
        let settings = Settings {
            binding,
            fingerprint: self.fingerprint.to_string(),
            signer: STANDARD.encode(pkcs8),
            restarts: false,
        };
        let near = Way { relay: format!("https://{address}"), ..Way::default() };
        let far = self.network.far_namespace();
        let far = far.map(|namespace| Way { namespace: Some(namespace), ..near.clone() });
        let settings = serde_json::to_value(settings)?;
        Ok(Started { relay: Some(relay), load: Self::own_load("tandem")?, near, far, settings })
    }

    /// Where it listens.
    pub(in crate::peers) fn address_of(way: &Way) -> anyhow::Result<SocketAddrV4> {
        let address = way.relay.strip_prefix("https://").context("not a relay of ours")?;
        Ok(address.parse()?)
    }

    /// Starts it with the configuration that is there, and waits until it listens.
    pub(in crate::peers) fn start_tandem(&self, address: SocketAddrV4) -> anyhow::Result<Kept> {
        let program = self.programs.relay.to_str().context("the relay's path is not UTF-8")?;
        let script = format!(
            "exec {} serve --config {} --log warn",
            quoted(program),
            quoted(&self.path("relay.toml")),
        );
        let relay = self.run(&script)?;
        self.network.wait_for(address, &relay)?;
        Ok(relay)
    }
}

fn config(stage: &Stage<'_>, address: SocketAddrV4, key: &str) -> String {
    format!(
        "[listen]\naddress = \"{address}\"\noperations = \"127.0.0.1:0\"\n\
         [tls]\ncertificate = \"{}\"\nkey = \"{}\"\n\
         [state]\ndirectory = \"{}\"\n\
         [tokens]\naudience = \"{AUDIENCE}\"\nkeys = [\"{key}\"]\n\
         [limits]\nhandshakes_per_network = 100000\nhandshakes_per_network_per_second = 10000\n\
         records_per_second = 1000000\n",
        stage.path("certificate.pem"),
        stage.path("key.pem"),
        stage.path("state"),
    )
}
