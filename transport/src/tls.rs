//! TLS 1.3 with both sides authenticated by the cluster's authority. There is no other way in, in tests either.

use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::{BlobHash, Millis};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::identity::{CredentialError, NodeCredential};
use crate::pinned::PinnedAuthority;

/// The protocol spoken inside; other versions and other services are turned away in the handshake.
const PROTOCOL: &[u8] = b"riftmesh/1";

/// What is spoken at the door for those without a certificate.
const DOOR_PROTOCOL: &[u8] = b"riftmesh-join/1";

/// The answering side: asks every client for a certificate of the cluster. No tickets, so no 0-RTT.
pub(crate) fn server(credential: &NodeCredential) -> Result<ServerConfig, CredentialError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(crypto)?
        .with_client_cert_verifier(client_verifier(credential)?)
        .with_single_cert(vec![credential.certificate.clone()], credential.key())
        .map_err(crypto)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The door for those without a certificate: asks for none, and shows the authority's own too, whose fingerprint their
/// token carries.
pub(crate) fn door(credential: &NodeCredential) -> Result<ServerConfig, CredentialError> {
    let chain = vec![credential.certificate.clone(), credential.authority.clone()];
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(crypto)?
        .with_no_client_auth()
        .with_single_cert(chain, credential.key())
        .map_err(crypto)?;
    config.alpn_protocols = vec![DOOR_PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The side of a stranger at that door: trusts the one authority that has this fingerprint, and nobody else.
pub(crate) fn stranger(authority: BlobHash) -> Result<ClientConfig, CredentialError> {
    let verifier = PinnedAuthority {
        fingerprint: authority,
        provider: provider(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(crypto)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![DOOR_PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The dialling side: presents the node's certificate and checks the other's.
pub(crate) fn client(credential: &NodeCredential) -> Result<ClientConfig, CredentialError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(crypto)?
        .with_root_certificates(roots(credential)?)
        .with_client_auth_cert(vec![credential.certificate.clone()], credential.key())
        .map_err(crypto)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A resumed session would skip looking at the certificate again.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Checks a credential as its peers will.
pub(crate) fn check(credential: &NodeCredential, now: Millis) -> Result<(), CredentialError> {
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    client_verifier(credential)?
        .verify_client_cert(&credential.certificate, &[], now)
        .map_err(|error| blame(&error, &credential.facts.name.to_string()))?;
    server(credential).map(drop)
}

/// Whose fault a refused certificate is.
fn blame(error: &rustls::Error, name: &str) -> CredentialError {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return CredentialError::Crypto(error.to_string());
    };
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CredentialError::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CredentialError::NotYetValid
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            CredentialError::WrongCluster(name.to_owned())
        }
        other => CredentialError::NotANode(other.to_string()),
    }
}

fn client_verifier(
    credential: &NodeCredential,
) -> Result<Arc<dyn ClientCertVerifier>, CredentialError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(credential)?), provider())
        .build()
        .map_err(|e| CredentialError::Crypto(e.to_string()))
}

fn roots(credential: &NodeCredential) -> Result<RootCertStore, CredentialError> {
    let mut roots = RootCertStore::empty();
    roots.add(credential.authority.clone()).map_err(crypto)?;
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn crypto(error: rustls::Error) -> CredentialError {
    CredentialError::Crypto(error.to_string())
}
