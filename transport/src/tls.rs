//! TLS 1.3 with both sides authenticated by the cluster's authority. There is no other way in, in tests either.

use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::{BlobHash, ClusterId, Millis, Role};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::identity::{CredentialError, NodeCredential, NodeName};
use crate::pinned::PinnedAuthority;

/// The protocol spoken inside; other versions and other services are turned away in the handshake.
const PROTOCOL: &[u8] = b"riftmesh/2";
/// The version of it, the only one that this build speaks.
pub const PROTOCOL_VERSION: u16 = 2;

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
/// token carries. While one authority replaces another, there are credentials of both; the first is shown to those who ask
/// for neither.
pub(crate) fn door(credentials: &[&NodeCredential]) -> Result<ServerConfig, CredentialError> {
    let keys: Result<Vec<_>, _> = credentials.iter().map(|one| door_key(one)).collect();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(crypto)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(DoorKeys(keys?)));
    config.alpn_protocols = vec![DOOR_PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What is shown at the door, each under the name that strangers ask for who trust its authority.
#[derive(Debug)]
struct DoorKeys(Vec<(String, Arc<CertifiedKey>)>);

impl ResolvesServerCert for DoorKeys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let mut keys = self.0.iter();
        let wanted = keys.find(|(name, _)| Some(name.as_str()) == asked);
        let shown = wanted.or_else(|| self.0.first());
        shown.map(|(_, key)| Arc::clone(key))
    }
}

fn door_key(credential: &NodeCredential) -> Result<(String, Arc<CertifiedKey>), CredentialError> {
    let chain = vec![credential.certificate.clone(), credential.authority.clone()];
    let key = CertifiedKey::from_der(chain, credential.key(), &provider()).map_err(crypto)?;
    let name = NodeName::door(credential.authority(), credential.cluster());
    Ok((name, Arc::new(key)))
}

/// The side of a stranger at that door: trusts the one authority that has this fingerprint, and nobody else, to say who
/// is a voter of the cluster.
pub(crate) fn stranger(
    authority: BlobHash,
    cluster: ClusterId,
) -> Result<ClientConfig, CredentialError> {
    let voter = NodeName::any_with_role(Role::Voter, cluster);
    let voter = ServerName::try_from(voter).map_err(|e| CredentialError::Crypto(e.to_string()))?;
    let verifier = PinnedAuthority {
        fingerprint: authority,
        voter,
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
    for authority in credential.roots() {
        roots.add(authority.clone()).map_err(crypto)?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn crypto(error: rustls::Error) -> CredentialError {
    CredentialError::Crypto(error.to_string())
}
