//! Other relays.

use anyhow::Context as _;
use serde_json::json;
use tandem_workload::job::Way;

use super::{NGINX_STREAM, Stage, Started};
use crate::shell::quoted;

impl Stage<'_> {
    /// Forwards TCP, with TLS on both sides. It cannot pair: technicians listen.
    pub(super) fn haproxy(&self) -> anyhow::Result<Started> {
        let (fronts, listeners) = ([self.address()?, self.address()?], self.listeners()?);
        let pem = self.path("both.pem");
        let mut config = "global\n  nbthread 1\n  maxconn 5000\n  \
             ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets\n  \
             ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384\n  \
             ssl-default-server-options ssl-min-ver TLSv1.3\n  \
             ssl-default-server-ciphersuites TLS_AES_256_GCM_SHA384\n\
             defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n"
            .to_owned();
        for (at, (front, listener)) in fronts.iter().zip(listeners).enumerate() {
            config += &format!(
                "listen way{at}\n  bind {front} ssl crt {pem}\n  \
                 server technicians {listener} ssl verify none no-ssl-reuse\n"
            );
        }
        let config = self.write("haproxy.cfg", &config)?;
        let relay = self.run(&format!("exec haproxy -q -db -f {}", quoted(&config)))?;
        self.network.wait_for(fronts[0], &relay)?;
        self.streams(Some(relay), fronts, listeners)
    }

    /// The same with nginx's stream module.
    pub(super) fn nginx(&self) -> anyhow::Result<Started> {
        let (fronts, listeners) = ([self.address()?, self.address()?], self.listeners()?);
        let mut servers = String::new();
        for (front, listener) in fronts.iter().zip(listeners) {
            servers += &format!("server {{ listen {front} ssl; proxy_pass {listener}; }}\n");
        }
        let config = format!(
            "load_module {NGINX_STREAM};\n\
             daemon off; worker_processes 1; worker_rlimit_nofile 20000; user root;\n\
             error_log stderr emerg; pid {pid};\n\
             events {{ worker_connections 9000; }}\n\
             stream {{\n\
             ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;\n\
             ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384; ssl_session_tickets off;\n\
             proxy_ssl on; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse off;\n\
             proxy_ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;\n\
             tcp_nodelay on; proxy_timeout 1h;\n{servers}}}\n",
            pid = self.path("nginx.pid"),
            certificate = self.path("certificate.pem"),
            key = self.path("key.pem"),
        );
        let config = self.write("nginx.conf", &config)?;
        let relay = self.run(&format!("exec nginx -e stderr -c {}", quoted(&config)))?;
        self.network.wait_for(fronts[0], &relay)?;
        self.streams(Some(relay), fronts, listeners)
    }

    /// Passes datagrams on between keys, over a WebSocket each. It pairs by key; a customer sends each technician a copy.
    pub(super) fn iroh(&self) -> anyhow::Result<Started> {
        let (plain, secure) = (self.address()?, self.address()?);
        let config = format!(
            "enable_relay = true\nhttp_bind_addr = \"{plain}\"\nenable_metrics = false\n\
             [tls]\nhttps_bind_addr = \"{secure}\"\ncert_mode = \"Manual\"\nhostname = [\"localhost\"]\n\
             manual_cert_path = \"{}\"\nmanual_key_path = \"{}\"\n",
            self.path("certificate.pem"),
            self.path("key.pem"),
        );
        let config = self.write("iroh-relay.toml", &config)?;
        let program = self.peer("iroh-relay")?;
        let relay = self.run(&format!("RUST_LOG=error exec {program} --config-path {}", quoted(&config)))?;
        self.network.wait_for(secure, &relay)?;
        let near = Way { relay: format!("https://{secure}"), ..Way::default() };
        let load = self.peer("tandem-peer-iroh")?;
        let settings = json!({ "certificate": self.certificate });
        Ok(Started { relay: Some(relay), load, far: self.far(&near), near, settings })
    }

    /// Passes tracks on between those of a path, over QUIC. It fans out. What is beside its defaults: it lets everybody in, and
    /// keeps what it has passed on for 10 s rather than 30. At its end it waits for nobody.
    pub(super) fn moq(&self) -> anyhow::Result<Started> {
        let (plain, secure) = (self.address()?, self.address()?);
        let relay = self.run(&format!(
            "RUST_LOG=error exec {} --listen {secure} --web-http-listen {plain} --listen-tls-cert {} --listen-tls-key {} \
             --auth-public '**' --cache-duration 10s --drain-timeout 0s",
            self.peer("moq-relay")?,
            quoted(&self.path("certificate.pem")),
            quoted(&self.path("key.pem")),
        ))?;
        self.network.wait_for(plain, &relay)?;
        let near = Way { relay: format!("https://{secure}"), ..Way::default() };
        let load = self.peer("tandem-peer-moq")?;
        let settings = json!({ "fingerprint": self.fingerprint.to_string() });
        Ok(Started { relay: Some(relay), load, far: self.far(&near), near, settings })
    }

    /// The same way to a relay from behind the link.
    fn far(&self, near: &Way) -> Option<Way> {
        let namespace = self.network.far_namespace()?;
        Some(Way { namespace: Some(namespace), ..near.clone() })
    }

    /// A program of the peers, for a shell.
    fn peer(&self, name: &str) -> anyhow::Result<String> {
        let program = self.programs.peers.join(name).canonicalize().with_context(|| name.to_owned())?;
        Ok(quoted(program.to_str().context("its path is not UTF-8")?))
    }
}
