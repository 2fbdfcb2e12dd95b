//! A node's key, made on the node and never sent anywhere, and the request that asks an authority to certify it.

use std::fmt;
use std::path::Path;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData,
};
use riftmesh_base::limits::JOIN_BYTES_MAX;
use riftmesh_base::{BlobHash, Millis};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use crate::authority::crypto;
use crate::identity::{CredentialError, NodeCredential, read_key};
use crate::secret::{self, pem};

/// Bytes of an uncompressed point on P-256, the only kind of key that is certified.
const PUBLIC_KEY_BYTES: usize = 65;

/// A node's private key.
pub struct NodeKey(KeyPair);

impl fmt::Debug for NodeKey {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.fingerprint())
    }
}

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`CredentialError::Crypto`] when the system gives no randomness.
    pub fn generate() -> Result<Self, CredentialError> {
        KeyPair::generate().map(Self).map_err(crypto)
    }

    pub(crate) fn from_der(der: &PrivatePkcs8KeyDer<'_>) -> Result<Self, CredentialError> {
        KeyPair::try_from(der).map(Self).map_err(crypto)
    }

    pub(crate) fn public(&self) -> &impl PublicKeyData {
        &self.0
    }

    /// The hash of the public key, under which the cluster knows it.
    pub fn fingerprint(&self) -> BlobHash {
        BlobHash::of(&self.0.subject_public_key_info())
    }

    /// A request to certify this key, signed by it (PKCS #10, DER): it proves that the sender holds the key, and claims
    /// nothing else.
    ///
    /// # Errors
    /// [`CredentialError::Crypto`].
    pub fn request(&self) -> Result<Vec<u8>, CredentialError> {
        let request = CertificateParams::default()
            .serialize_request(&self.0)
            .map_err(crypto)?;
        Ok(request.der().to_vec())
    }

    /// The key with the certificate it was given by `authority` (both DER); `now` is wall-clock time.
    ///
    /// # Errors
    /// The certificate is not for this key, not of this authority, no node's, or not valid now.
    pub fn certified(
        &self,
        certificate: &[u8],
        authority: &[u8],
        now: Millis,
    ) -> Result<NodeCredential, CredentialError> {
        NodeCredential::new(
            CertificateDer::from(certificate.to_vec()),
            CertificateDer::from(authority.to_vec()),
            PrivatePkcs8KeyDer::from(self.0.serialize_der()),
            now,
        )
    }

    /// Writes the key to `path`, readable by its owner only.
    ///
    /// # Errors
    /// [`CredentialError::Disk`].
    pub fn write(&self, path: &Path) -> Result<(), CredentialError> {
        secret::write(path, &pem("PRIVATE KEY", self.0.serialized_der()))
    }

    /// Reads a key from `path`.
    ///
    /// # Errors
    /// [`CredentialError::Permissions`] when others may read it; see [`CredentialError`] for the rest.
    pub fn read(path: &Path) -> Result<Self, CredentialError> {
        Self::from_der(&read_key(&secret::read(path)?)?)
    }
}

/// A request for a certificate whose signature was checked: its sender holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest(PublicKey);

impl KeyRequest {
    /// Reads what [`NodeKey::request`] made. Names and usages it may ask for are not looked at.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`]: no such request, not signed by its key, or not a P-256 key.
    pub fn read(request: &[u8]) -> Result<Self, CredentialError> {
        let malformed = |reason: String| {
            CredentialError::Malformed(format!("request for a certificate: {reason}"))
        };
        if request.len() > JOIN_BYTES_MAX {
            let reason = format!("{} bytes, at most {JOIN_BYTES_MAX}", request.len());
            return Err(malformed(reason));
        }
        let request = CertificateSigningRequestDer::from(request);
        let params = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| malformed(error.to_string()))?;
        let key = params.public_key;
        let fits = key.der_bytes().len() == PUBLIC_KEY_BYTES;
        if !fits || *key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(malformed("its key is not of the curve P-256".to_owned()));
        }
        Ok(Self(key))
    }

    pub(crate) fn public(&self) -> &impl PublicKeyData {
        &self.0
    }

    /// The hash of the public key; see [`NodeKey::fingerprint`].
    pub fn fingerprint(&self) -> BlobHash {
        BlobHash::of(&self.0.subject_public_key_info())
    }
}
