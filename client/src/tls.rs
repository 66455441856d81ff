//! TLS 1.3, and whom to believe: this computer's certificate authorities, or one certificate by its fingerprint.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::target::{Fingerprint, Target};

/// TLS as `target` asks for it, with this protocol inside.
///
/// # Errors
/// In words for the person at the keyboard: without a fingerprint, when this computer knows no authority.
pub fn config(target: &Target, alpn: &[u8]) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let mut config = if target.fingerprints().is_empty() {
        builder.with_root_certificates(authorities()?).with_no_client_auth()
    } else {
        let pinned = Pinned { fingerprints: target.fingerprints().to_vec(), provider };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned)).with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_early_data = false;
    Ok(config)
}

/// The authorities that this computer's administrator trusts: on one's own servers that is often one's own.
fn authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            "this computer has no certificate authorities: install ca-certificates, or give the relay's \
                    certificate by its fingerprint"
                .to_owned(),
        );
    }
    Ok(roots)
}

/// Believes the certificates with these fingerprints and no other, whatever names or dates they have.
#[derive(Debug)]
struct Pinned {
    fingerprints: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is = Fingerprint::of(end_entity);
        if self.fingerprints.contains(&is) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General(format!("the relay's certificate has another fingerprint: {is}")))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
