//! Who a node is, as its certificate says it: names, the node's own credential, and reading a peer's certificate.
//!
//! A node certificate carries three DNS-like names. `<node>.<cluster>.riftmesh` says who it is;
//! `node.<cluster>.riftmesh` says that it is a node of that cluster, which is what a dialler asks for when it does
//! not know yet who lives at an address; `voter.<cluster>.riftmesh` or `worker.<cluster>.riftmesh` says what it is for.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::authority::authority_cluster;
use crate::key::NodeKey;
use crate::secret::{self, pem};
use crate::tls;

/// The last label of every name in a certificate.
const REALM: &str = "riftmesh";
/// The first label of the name that all nodes of a cluster share.
const ANY_NODE: &str = "node";

/// Why a credential or a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The operating system's doing.
    #[error("{path}: {error}", path = .path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: String,
    },
    /// The operator's doing: others could read the key.
    #[error("{path} has mode {mode:o}: others may read this key; set it to 600, and replace the key if others had access", path = .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a credential, or a damaged one.
    #[error("malformed credential: {0}")]
    Malformed(String),
    /// A valid certificate of something else than a node.
    #[error("not a node certificate: {0}")]
    NotANode(String),
    /// Issued by the authority of another cluster.
    #[error("{0}: issued by another cluster's authority")]
    WrongCluster(String),
    /// Too old; the node must renew it.
    #[error("the certificate has expired")]
    Expired,
    /// From the future: a clock is wrong, here or at the authority.
    #[error(
        "the certificate is not valid yet: compare the clocks of this machine and of the issuer"
    )]
    NotYetValid,
    /// The cryptographic library refused.
    #[error("cryptography: {0}")]
    Crypto(String),
}

/// What a node certificate says about its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeName {
    /// Which node.
    pub node: NodeId,
    /// Of which cluster.
    pub cluster: ClusterId,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{REALM}", self.node, self.cluster)
    }
}

impl NodeName {
    /// The name shared by all nodes of `cluster`, asked for when dialling.
    pub(crate) fn any_of(cluster: ClusterId) -> String {
        format!("{ANY_NODE}.{cluster}.{REALM}")
    }

    /// The name shared by all nodes of `cluster` with this role.
    pub(crate) fn any_with_role(role: Role, cluster: ClusterId) -> String {
        format!("{role}.{cluster}.{REALM}")
    }

    /// What a stranger asks for who trusts the authority with this fingerprint and no other. No certificate carries it: it
    /// tells a voter that has certificates of two authorities which to show.
    pub(crate) fn door(authority: BlobHash, cluster: ClusterId) -> String {
        format!("door-{}.{cluster}.{REALM}", authority.short())
    }

    fn parse(name: &str) -> Option<Self> {
        let (node, cluster) = labels(name)?;
        let node = node.parse().ok()?;
        Some(Self { node, cluster })
    }
}

/// The first label of a name in our realm, and the cluster behind it.
fn labels(name: &str) -> Option<(&str, ClusterId)> {
    let mut labels = name.split('.');
    let (first, cluster, realm) = (labels.next()?, labels.next()?, labels.next()?);
    let ours = realm == REALM && labels.next().is_none();
    ours.then_some((first, cluster.parse().ok()?))
}

/// Everything a node certificate says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whose it is.
    pub name: NodeName,
    /// What its holder is for.
    pub role: Role,
    /// The hash of the holder's public key.
    pub key: BlobHash,
    /// Valid from, in milliseconds since the Unix epoch.
    pub begins: Millis,
    /// Valid until, likewise.
    pub expires: Millis,
    /// The hash of the identifier of the issuer's key, if it names one; ours always do.
    pub issuer: Option<BlobHash>,
}

impl CertificateFacts {
    /// Reads them from a certificate. Checks no signature and no date: the handshake has done that.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] or [`CredentialError::NotANode`].
    pub fn read(certificate: &[u8]) -> Result<Self, CredentialError> {
        let parsed = parse(certificate)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|e| CredentialError::Malformed(e.to_string()))?;
        let names = names.map_or(&[][..], |extension| &extension.value.general_names);
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        });
        let not_a_node = |what: &str| {
            let subject = parsed.subject();
            CredentialError::NotANode(format!("`{subject}` does not carry exactly one {what}"))
        };
        let name = only(names.clone().filter_map(NodeName::parse));
        let name = name.ok_or_else(|| not_a_node("name of the form <node>.<cluster>.riftmesh"))?;
        let roles = [Role::Voter, Role::Worker].into_iter();
        let has = |role: &Role| {
            let wanted = NodeName::any_with_role(*role, name.cluster);
            names.clone().any(|name| name == wanted)
        };
        let role = only(roles.filter(has)).ok_or_else(|| not_a_node("role"))?;
        let validity = parsed.validity();
        Ok(Self {
            name,
            role,
            key: BlobHash::of(parsed.public_key().raw),
            begins: date(validity.not_before),
            expires: date(validity.not_after),
            issuer: issuer(&parsed),
        })
    }
}

/// Milliseconds since the Unix epoch.
fn date(time: ASN1Time) -> Millis {
    Millis::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// The hash of the identifier of the key that signed a certificate.
fn issuer(certificate: &X509Certificate<'_>) -> Option<BlobHash> {
    let named =
        certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(named) => named.key_identifier.as_ref(),
                _ => None,
            });
    named.map(|key| BlobHash::of(key.0))
}

/// The hash of the identifier of an authority's own key, as those it certifies name it.
pub(crate) fn key_of_authority(certificate: &[u8]) -> Result<BlobHash, CredentialError> {
    let parsed = parse(certificate)?;
    let own = parsed
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(own) => Some(own.0),
            _ => None,
        });
    let key = own.map(BlobHash::of);
    let missing = || "the authority's certificate does not identify its key".to_owned();
    key.ok_or_else(|| CredentialError::Malformed(missing()))
}

/// The item of an iterator that has exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

pub(crate) fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, CredentialError> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|e| CredentialError::Malformed(e.to_string()))
}

/// Authorities that are trusted at a time: two, while one replaces the other.
const AUTHORITIES_MAX: usize = 2;

/// What a node proves its identity with: its key, its certificate and the authorities it trusts.
pub struct NodeCredential {
    pub(crate) facts: CertificateFacts,
    pub(crate) certificate: CertificateDer<'static>,
    /// The one that issued the certificate.
    pub(crate) authority: CertificateDer<'static>,
    /// Those that are trusted besides.
    pub(crate) others: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
}

impl fmt::Debug for NodeCredential {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, expires) = (self.facts.name, self.facts.expires);
        write!(f, "NodeCredential({name}, expires {expires})")
    }
}

impl NodeCredential {
    /// Puts a credential together and checks it: a node certificate, in its time, issued by this authority.
    pub(crate) fn new(
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
        now: Millis,
    ) -> Result<Self, CredentialError> {
        let credential = Self {
            facts: CertificateFacts::read(&certificate)?,
            certificate,
            authority,
            others: Vec::new(),
            key,
        };
        tls::check(&credential, now)?;
        Ok(credential)
    }

    /// The same, trusting these authorities (as DER) besides the one that issued its certificate, and no others.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`]: too many, or one is no authority of this cluster.
    pub fn trusting(&self, authorities: &[Vec<u8>]) -> Result<Self, CredentialError> {
        let others = authorities.iter();
        let others: Vec<_> = others
            .filter(|certificate| ***certificate != *self.authority)
            .map(|certificate| CertificateDer::from(certificate.clone()))
            .collect();
        if others.len() >= AUTHORITIES_MAX {
            let reason = format!("{} authorities at a time", others.len() + 1);
            return Err(CredentialError::Malformed(reason));
        }
        for certificate in &others {
            authority_cluster(certificate).and_then(|cluster| {
                if cluster == self.cluster() {
                    return Ok(());
                }
                Err(CredentialError::WrongCluster(format!(
                    "an authority of {cluster}"
                )))
            })?;
        }
        Ok(Self {
            facts: self.facts,
            certificate: self.certificate.clone(),
            authority: self.authority.clone(),
            others,
            key: self.key.clone_key(),
        })
    }

    /// The certificates of the authorities it trusts, as DER, that of its own issuer first.
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        self.roots().map(|authority| authority.to_vec()).collect()
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.authority).chain(&self.others)
    }

    /// The keys of the authorities it trusts; see [`CertificateFacts::issuer`].
    pub(crate) fn trusted_keys(&self) -> Result<BTreeSet<BlobHash>, CredentialError> {
        self.roots()
            .map(|authority| key_of_authority(authority))
            .collect()
    }

    /// What its certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The node this credential names.
    pub fn node(&self) -> NodeId {
        self.facts.name.node
    }

    /// The cluster it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.facts.name.cluster
    }

    /// When the certificate expires, in milliseconds since the Unix epoch.
    pub fn expires(&self) -> Millis {
        self.facts.expires
    }

    /// When to renew it: at half of its life, in milliseconds since the Unix epoch.
    pub fn renewal(&self) -> Millis {
        let (begins, expires) = (self.facts.begins, self.facts.expires);
        Millis(begins.0 + expires.since(begins).0 / 2)
    }

    /// The hash of the certificate of the authority that issued it.
    pub fn authority(&self) -> BlobHash {
        BlobHash::of(&self.authority)
    }

    /// When the authority that issued it expires, in milliseconds since the Unix epoch. No certificate of it is good then.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`], which the checks at reading leave no room for.
    pub fn authority_expires(&self) -> Result<Millis, CredentialError> {
        Ok(date(parse(&self.authority)?.validity().not_after))
    }

    /// Asks for a new certificate for the same key; see [`NodeKey::request`].
    ///
    /// # Errors
    /// [`CredentialError::Crypto`].
    pub fn renewal_request(&self) -> Result<Vec<u8>, CredentialError> {
        NodeKey::from_der(&self.key)?.request()
    }

    /// This credential with the certificate that answered [`NodeCredential::renewal_request`]; `now` is wall-clock
    /// time.
    ///
    /// # Errors
    /// The certificate is another node's, another key's, of another role or of an authority that is not trusted.
    pub fn renewed(&self, certificate: &[u8], now: Millis) -> Result<Self, CredentialError> {
        let facts = CertificateFacts::read(certificate)?;
        let mut authorities = self.roots();
        let issuer = authorities.find(|authority| key_of_authority(authority).ok() == facts.issuer);
        let renewed = Self::new(
            CertificateDer::from(certificate.to_vec()),
            issuer.unwrap_or(&self.authority).clone(),
            self.key.clone_key(),
            now,
        )?
        .trusting(&self.authorities())?;
        if (renewed.facts.name, renewed.facts.role) != (self.facts.name, self.facts.role) {
            let reason = format!("{} became {}", self.facts.name, renewed.facts.name);
            return Err(CredentialError::NotANode(reason));
        }
        Ok(renewed)
    }

    /// Key, certificate and authorities as PEM. A secret.
    pub fn to_pem(&self) -> String {
        let mut text = pem("PRIVATE KEY", self.key.secret_pkcs8_der());
        text.push_str(&pem("CERTIFICATE", &self.certificate));
        for authority in self.roots() {
            text.push_str(&pem("CERTIFICATE", authority));
        }
        text
    }

    /// Reads what [`NodeCredential::to_pem`] wrote; `now` is wall-clock time.
    ///
    /// # Errors
    /// See [`CredentialError`]; nothing else can go wrong.
    pub fn from_pem(text: &str, now: Millis) -> Result<Self, CredentialError> {
        let key = read_key(text)?;
        let mut found = all_certificates(text)?.into_iter();
        let (Some(certificate), Some(authority)) = (found.next(), found.next()) else {
            let reason = "a certificate and that of its authority are needed";
            return Err(CredentialError::Malformed(reason.to_owned()));
        };
        let others: Vec<_> = found.map(|other| other.to_vec()).collect();
        Self::new(certificate, authority, key, now)?.trusting(&others)
    }

    /// The certificates of the authorities in a file that [`NodeCredential::write`] wrote, as DER, the issuer's first. The
    /// node's own certificate may have expired.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn authorities_in(path: &Path) -> Result<Vec<Vec<u8>>, CredentialError> {
        let text = secret::read(path)?;
        let found = all_certificates(&text)?.into_iter().skip(1);
        Ok(found.map(|authority| authority.to_vec()).collect())
    }

    /// Writes the credential to `path`, readable by its owner only.
    ///
    /// # Errors
    /// [`CredentialError::Disk`].
    pub fn write(&self, path: &Path) -> Result<(), CredentialError> {
        secret::write(path, &self.to_pem())
    }

    /// Reads a credential from `path`; `now` is wall-clock time.
    ///
    /// # Errors
    /// [`CredentialError::Permissions`] when others may read it; see [`CredentialError`] for the rest.
    pub fn read(path: &Path, now: Millis) -> Result<Self, CredentialError> {
        Self::from_pem(&secret::read(path)?, now)
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

/// The one private key in a PEM text.
pub(crate) fn read_key(text: &str) -> Result<PrivatePkcs8KeyDer<'static>, CredentialError> {
    PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
        .map_err(|e| CredentialError::Malformed(format!("private key: {e}")))
}

/// Exactly `N` certificates from a PEM text.
pub(crate) fn read_certificates<const N: usize>(
    text: &str,
) -> Result<[CertificateDer<'static>; N], CredentialError> {
    <[_; N]>::try_from(all_certificates(text)?).map_err(|found| {
        CredentialError::Malformed(format!("{} certificates instead of {N}", found.len()))
    })
}

fn all_certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| CredentialError::Malformed(format!("certificate: {e}")))
}
