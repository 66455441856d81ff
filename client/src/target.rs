//! Which relay, and how it is told from an impostor.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

/// A relay's address and what its certificate must be.
#[derive(Clone, Debug)]
pub struct Target {
    host: Host<String>,
    port: u16,
    secure: bool,
    fingerprints: Vec<Fingerprint>,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not a URL, or not one of a relay.
    #[error("{0} is not a relay's address, which looks like https://relay.example")]
    Url(String),
    /// Without TLS to another machine.
    #[error("without TLS (http or ws) only this computer itself may be addressed, not {0}")]
    Plain(String),
    /// Not a fingerprint.
    #[error("a fingerprint is a SHA-256: 64 hexadecimal digits, with or without colons, or base64")]
    Fingerprint,
}

impl Target {
    /// A relay at `url` (`https://`, or `http://` to a loopback address), with the port after it or the scheme's own.
    ///
    /// With `fingerprints` the relay's certificate must be one of these exactly; without, this computer's certificate
    /// authorities must vouch for it.
    ///
    /// # Errors
    /// [`TargetError`] says what is wrong with the address.
    pub fn new(url: &str, fingerprints: Vec<Fingerprint>) -> Result<Self, TargetError> {
        let bad = || TargetError::Url(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| bad())?;
        let secure = match parsed.scheme() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return Err(bad()),
        };
        let host = parsed.host().ok_or_else(bad)?.to_owned();
        let port = parsed.port_or_known_default().ok_or_else(bad)?;
        if !secure && !is_loopback(&host) {
            return Err(TargetError::Plain(host.to_string()));
        }
        Ok(Self { host, port, secure, fingerprints })
    }

    /// Another relay's address, with the same certificates to believe.
    ///
    /// # Errors
    /// [`TargetError`] says what is wrong with the address.
    pub(crate) fn sibling(&self, url: &str) -> Result<Self, TargetError> {
        Self::new(url, self.fingerprints.clone())
    }

    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the relay runs on this computer.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// What the certificate must be; empty: what an authority vouches for.
    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }

    /// Host and port as a URL has them.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host as a certificate names it.
    pub(crate) fn server_name(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        }
    }

    /// Where to connect, in the resolver's order. Of a plain loopback target only loopback addresses, whatever the resolver says.
    pub(crate) async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.server_name(), self.port)).await?;
        Ok(found.filter(|address| self.secure || address.ip().is_loopback()).collect())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => IpAddr::V4(*ip).is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).is_loopback(),
    }
}

/// The SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of this certificate.
    pub fn of(certificate: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits: Vec<u32> = text.chars().filter(|&c| c != ':').map_while(|c| c.to_digit(16)).collect();
        let bytes = if digits.len() == 64 && text.chars().all(|c| c == ':' || c.is_ascii_hexdigit()) {
            digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
        } else {
            STANDARD.decode(text).map_err(|_| TargetError::Fingerprint)?
        };
        bytes.try_into().map(Self).map_err(|_| TargetError::Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_only_this_computer_may_be_addressed() {
        for url in ["http://127.0.0.1:8443", "ws://localhost:80/", "http://[::1]:1"] {
            let target = Target::new(url, Vec::new()).unwrap();
            assert!(target.is_loopback() && !target.is_secure());
        }
        for url in ["http://192.168.1.2", "ws://relay.example", "http://localhost.example"] {
            assert!(matches!(Target::new(url, Vec::new()), Err(TargetError::Plain(_))), "{url}");
        }
    }

    #[test]
    fn an_address_has_its_schemes_port_and_no_surprises() {
        let target = Target::new("https://relay.example/anything", Vec::new()).unwrap();
        assert_eq!(target.to_string(), "https://relay.example:443");
        assert_eq!(Target::new("wss://[::1]:8443", Vec::new()).unwrap().server_name(), "::1");
        for url in ["relay.example", "ftp://relay.example", "https://", ""] {
            assert!(matches!(Target::new(url, Vec::new()), Err(TargetError::Url(_))), "{url}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_every_tool_prints_it() {
        let of_nothing = Fingerprint::of(b"");
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of_nothing.to_string(), hex);
        assert_eq!(hex.parse(), Ok(of_nothing));
        let colons: Vec<&str> = (0..32).map(|at| &hex[2 * at..2 * at + 2]).collect();
        assert_eq!(colons.join(":").to_uppercase().parse(), Ok(of_nothing));
        assert_eq!("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".parse(), Ok(of_nothing));
        for bad in ["", "e3b0", "zz", &hex[1..]] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(TargetError::Fingerprint), "{bad}");
        }
    }
}
