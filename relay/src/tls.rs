//! Certificates: from files that can be read again, or made here for trying out.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::RwLock;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs as provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tandem_protocol::limits;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;

use crate::config::Tls;
use crate::private_file;

/// Browsers take a certificate by its hash only if it lives no longer than 14 days.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(13 * 86_400);
/// A self-signed certificate is made anew after this time.
pub const RENEW_AFTER: Duration = Duration::from_secs(6 * 86_400);

/// The certificate in use. Connections take the one that is here when they begin.
#[derive(Debug)]
pub struct Certificates {
    source: RwLock<Tls>,
    names: Vec<IpAddr>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Loads or makes a certificate.
    ///
    /// # Errors
    /// If a file cannot be read, or key and certificate do not belong together.
    pub fn load(source: Tls, address: IpAddr) -> anyhow::Result<Arc<Self>> {
        let names = vec![address];
        let current = RwLock::new(Arc::new(make(&source, &names, false)?));
        Ok(Arc::new(Self { source: RwLock::new(source), names, current }))
    }

    /// Loads or makes it again; the old one stays in use if that fails.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn renew(&self) -> anyhow::Result<()> {
        let source = self.source.read().clone();
        self.renew_from(source)
    }

    /// Loads or makes it, from there; the old one stays in use if that fails.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn renew_from(&self, source: Tls) -> anyhow::Result<()> {
        let renewed = make(&source, &self.names, true)?;
        *self.current.write() = Arc::new(renewed);
        *self.source.write() = source;
        Ok(())
    }

    /// From when to when the certificate in use is good; `None` if it does not say so in a way that is understood.
    pub fn validity(&self) -> Option<Validity> {
        let current = self.current.read();
        validity(current.cert.first()?)
    }

    /// The names that the certificate in use is for.
    pub fn names(&self) -> Vec<String> {
        let current = self.current.read();
        current.cert.first().map(|certificate| names(certificate)).unwrap_or_default()
    }

    /// SHA-256 of the certificate in use, if no authority has signed it.
    pub fn hash(&self) -> Option<[u8; 32]> {
        if !matches!(*self.source.read(), Tls::SelfSigned { .. }) {
            return None;
        }
        let current = self.current.read();
        let certificate = current.cert.first()?;
        digest(&SHA256, certificate).as_ref().try_into().ok()
    }

    /// TLS settings for these application protocols: TLS 1.3, no early data.
    ///
    /// # Errors
    /// If the ciphers do not support it, which they do.
    pub fn server_config(self: &Arc<Self>, alpn: &[&[u8]]) -> anyhow::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("TLS 1.3 is not available")?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before this time.
    pub from: SystemTime,
    /// Not after this time.
    pub until: SystemTime,
}

fn validity(certificate: &[u8]) -> Option<Validity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time =
        |seconds: i64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?));
    let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
    Some(Validity { from: time(from.timestamp())?, until: time(until.timestamp())? })
}

fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

fn make(source: &Tls, names: &[IpAddr], anew: bool) -> anyhow::Result<CertifiedKey> {
    let (chain, key) = match source {
        Tls::Files { certificate, key } => read(certificate, key)?,
        Tls::SelfSigned { file: None } => parse(&self_signed(names)?)?,
        Tls::SelfSigned { file: Some(file) } => {
            if anew || !is_young(file) {
                private_file::write(file, self_signed(names)?.as_bytes())?;
            }
            read(file, file)?
        }
    };
    let certified = CertifiedKey::from_der(chain, key, &provider::default_provider());
    certified.context("certificate and private key do not work together")
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(certificate: &Path, key: &Path) -> anyhow::Result<Pair> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", certificate.display()))?;
    if chain.is_empty() {
        bail!("there is no certificate in {}", certificate.display());
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the private key {}", key.display()))?;
    Ok((chain, key))
}

/// Whether a kept certificate has time left.
fn is_young(file: &Path) -> bool {
    let age =
        file.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|made| made.elapsed().ok());
    age.is_some_and(|age| age < RENEW_AFTER)
}

/// Certificate and key as PEM. ECDSA P-256: browsers do not take Ed25519 by its hash.
fn self_signed(names: &[IpAddr]) -> anyhow::Result<String> {
    let mut names: Vec<String> = names.iter().map(IpAddr::to_string).collect();
    names.extend(["localhost".into(), "127.0.0.1".into(), "::1".into()]);
    let mut params = CertificateParams::new(names).context("the names do not fit a certificate")?;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + SELF_SIGNED_LIFE - time::Duration::hours(1);
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
    let certificate = params.self_signed(&pair).context("cannot make a certificate")?;
    Ok(certificate.pem() + &pair.serialize_pem())
}

fn parse(pem: &str) -> anyhow::Result<Pair> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).context("not a certificate")?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).context("not a private key")?;
    Ok((vec![certificate], key))
}

/// Application protocols on UDP and TCP.
pub const ALPN_UDP: [&[u8]; 2] = [limits::ALPN_QUIC, limits::ALPN_H3];
/// WebSocket upgrades from HTTP/1.1.
pub const ALPN_TCP: [&[u8]; 1] = [b"http/1.1"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_changes_with_renewal_and_files_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        for file in [None, Some(directory.path().join("self-signed.pem"))] {
            let source = Tls::SelfSigned { file: file.clone() };
            let load = || Certificates::load(source.clone(), IpAddr::from([127, 0, 0, 1])).unwrap();
            let certificates = load();
            let before = certificates.hash().unwrap();
            assert_eq!(load().hash() == Some(before), file.is_some(), "a kept one survives a restart");
            certificates.renew().unwrap();
            let left = certificates.validity().unwrap().until.duration_since(SystemTime::now()).unwrap();
            assert!(left > SELF_SIGNED_LIFE - Duration::from_secs(2 * 3600) && left < SELF_SIGNED_LIFE);
            assert_ne!(certificates.hash().unwrap(), before);
        }
        let missing = Tls::Files { certificate: "/nowhere/a.pem".into(), key: "/nowhere/a.key".into() };
        let error = Certificates::load(missing, IpAddr::from([127, 0, 0, 1])).unwrap_err();
        assert!(error.to_string().contains("/nowhere/a.pem"));
    }
}
