//! The cluster's own certificate authority: the root of all trust between nodes.

use std::fmt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
use rustls::pki_types::CertificateDer;

use crate::identity::{
    CredentialError, NodeCredential, NodeName, parse, read_certificates, read_key,
};
use crate::key::{KeyRequest, NodeKey};
use crate::secret::{self, pem};

/// Certificates are valid from a little before their issue, since clocks differ.
const CLOCK_SKEW: Millis = Millis::from_secs(3_600);
/// How long an authority lives. The cluster is rebuilt or re-keyed before that.
const AUTHORITY_LIFETIME: Millis = Millis::from_secs(10 * 365 * 24 * 3_600);

/// Issues node certificates of one cluster. Whoever holds it can become any node.
pub struct ClusterAuthority {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl fmt::Debug for ClusterAuthority {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterAuthority({})", self.cluster)
    }
}

impl ClusterAuthority {
    /// A fresh authority for `cluster`; `now` is wall-clock time.
    ///
    /// # Errors
    /// [`CredentialError::Crypto`] when the system gives no randomness.
    pub fn create(cluster: ClusterId, now: Millis) -> Result<Self, CredentialError> {
        let key = KeyPair::generate().map_err(crypto)?;
        let mut params = authority_params(cluster);
        set_validity(&mut params, now, AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key).map_err(crypto)?.der().clone();
        Ok(Self {
            cluster,
            certificate,
            key,
        })
    }

    /// The cluster this authority speaks for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The hash of the authority's certificate, carried by join tokens.
    pub fn fingerprint(&self) -> BlobHash {
        BlobHash::of(&self.certificate)
    }

    /// The authority's certificate, which is no secret.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Issues a key and a certificate to `node`, valid for `lifetime` from `now` (wall-clock time). For the holder of the
    /// authority itself; others make their keys and ask ([`ClusterAuthority::certify`]).
    ///
    /// # Errors
    /// [`CredentialError::Crypto`] when the system gives no randomness.
    pub fn issue(
        &self,
        node: NodeId,
        role: Role,
        lifetime: Millis,
        now: Millis,
    ) -> Result<NodeCredential, CredentialError> {
        let key = NodeKey::generate()?;
        let certificate = self.sign(key.public(), node, role, lifetime, now)?;
        key.certified(&certificate, &self.certificate, now)
    }

    /// Issues a certificate for the key of a request, as DER. Of the request only the key counts: who its holder is and
    /// what it may do is for the caller to say.
    ///
    /// # Errors
    /// [`CredentialError::Crypto`].
    pub fn certify(
        &self,
        request: &KeyRequest,
        node: NodeId,
        role: Role,
        lifetime: Millis,
        now: Millis,
    ) -> Result<Vec<u8>, CredentialError> {
        self.sign(request.public(), node, role, lifetime, now)
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        node: NodeId,
        role: Role,
        lifetime: Millis,
        now: Millis,
    ) -> Result<Vec<u8>, CredentialError> {
        let cluster = self.cluster;
        let names = [
            NodeName { node, cluster }.to_string(),
            NodeName::any_of(cluster),
            NodeName::any_with_role(role, cluster),
        ];
        let mut params = CertificateParams::new(names).map_err(crypto)?;
        params
            .distinguished_name
            .push(DnType::CommonName, format!("riftmesh node {node}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, lifetime);
        let authority = authority_params(cluster);
        let issuer = Issuer::from_params(&authority, &self.key);
        let certificate = params.signed_by(key, &issuer).map_err(crypto)?;
        Ok(certificate.der().to_vec())
    }

    /// Key and certificate as PEM. The cluster's greatest secret.
    pub fn to_pem(&self) -> String {
        [
            pem("PRIVATE KEY", self.key.serialized_der()),
            pem("CERTIFICATE", &self.certificate),
        ]
        .concat()
    }

    /// Reads what [`ClusterAuthority::to_pem`] wrote.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] when it is something else or damaged, also when key and certificate do not
    /// belong together.
    pub fn from_pem(text: &str) -> Result<Self, CredentialError> {
        let key = KeyPair::try_from(&read_key(text)?).map_err(crypto)?;
        let [certificate] = read_certificates(text)?;
        let parsed = parse(&certificate)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            let reason = "the key does not belong to the certificate";
            return Err(CredentialError::Malformed(reason.to_owned()));
        }
        Ok(Self {
            cluster: authority_cluster(&certificate)?,
            certificate,
            key,
        })
    }

    /// When it was made, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`].
    pub fn begins(&self) -> Result<Millis, CredentialError> {
        let begins = parse(&self.certificate)?.validity().not_before.timestamp();
        Ok(Millis::from_secs(u64::try_from(begins).unwrap_or(0)))
    }

    /// Writes the authority to `path`, readable by its owner only.
    ///
    /// # Errors
    /// [`CredentialError::Disk`].
    pub fn write(&self, path: &Path) -> Result<(), CredentialError> {
        secret::write(path, &self.to_pem())
    }

    /// Reads an authority from `path`.
    ///
    /// # Errors
    /// [`CredentialError::Permissions`] when others may read it; see [`CredentialError`] for the rest.
    pub fn read(path: &Path) -> Result<Self, CredentialError> {
        Self::from_pem(&secret::read(path)?)
    }
}

/// The cluster that the certificate of an authority is for.
pub(crate) fn authority_cluster(certificate: &[u8]) -> Result<ClusterId, CredentialError> {
    let parsed = parse(certificate)?;
    let name = parsed.subject().iter_common_name().next();
    let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default();
    let cluster = name
        .strip_prefix(AUTHORITY_NAME)
        .and_then(|id| id.parse().ok());
    let reason = || CredentialError::Malformed(format!("`{name}` is no cluster authority"));
    cluster.ok_or_else(reason)
}

/// In front of the cluster id in the authority's common name.
const AUTHORITY_NAME: &str = "riftmesh authority ";

/// What an authority's certificate says. Issuing needs the same text again, so it depends on nothing else.
fn authority_params(cluster: ClusterId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{AUTHORITY_NAME}{cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// Makes certificates issued at `now` valid for `lifetime`.
fn set_validity(params: &mut CertificateParams, now: Millis, lifetime: Millis) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.since(CLOCK_SKEW).duration();
    params.not_after = epoch + (now + lifetime.min(AUTHORITY_LIFETIME)).duration();
}

pub(crate) fn crypto(error: rcgen::Error) -> CredentialError {
    CredentialError::Crypto(error.to_string())
}
