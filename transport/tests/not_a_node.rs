//! Certificates that the cluster's own authority signed, and that are none of a node. Trust in the authority alone is not
//! enough: whoever holds it may have signed something else, for another purpose, with another tool.

#![cfg(test)]

mod cases {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
    use quinn::{ClientConfig, ConnectionError, Endpoint, ServerConfig};
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
    use riftmesh_base::time::wall_clock;
    use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
    use riftmesh_transport::{
        BoxFuture, CallError, ClusterAuthority, Handler, Lane, Link, Peer, QuicLink, QuicSettings,
        Refused, Target,
    };
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::version::TLS13;
    use tokio::sync::Notify;

    const CLUSTER: ClusterId = ClusterId([1; 16]);
    const DEADLINE: Duration = Duration::from_secs(5);
    const PROTOCOL: &[u8] = b"riftmesh/2";
    const BOTH: [ExtendedKeyUsagePurpose; 2] = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];

    /// Counts what gets through to it.
    #[derive(Default)]
    struct Counting {
        times: AtomicUsize,
        once: Notify,
    }

    impl Counting {
        fn count(&self) {
            self.times.fetch_add(1, Ordering::SeqCst);
            self.once.notify_one();
        }
    }

    impl Handler for Counting {
        fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
            self.count();
            Box::pin(async move { Ok(request) })
        }
        fn datagram(&self, _: Peer, _: Bytes) {
            self.count();
        }
        fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
            None
        }
    }

    /// What another tool had signed by the cluster's authority.
    struct Odd {
        certificate: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
    }

    impl Odd {
        fn new(
            authority: &ClusterAuthority,
            names: &[&str],
            uses: &[ExtendedKeyUsagePurpose],
        ) -> Self {
            let signing = PrivatePkcs8KeyDer::from_pem_slice(authority.to_pem().as_bytes());
            let signing = KeyPair::try_from(&signing.unwrap()).unwrap();
            let mut issuer = CertificateParams::default();
            issuer.distinguished_name.push(
                DnType::CommonName,
                format!("riftmesh authority {}", authority.cluster()),
            );
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.extended_key_usages = uses.to_vec();
            let key = KeyPair::generate().unwrap();
            let issuer = Issuer::from_params(&issuer, &signing);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            Self {
                certificate: certificate.der().clone(),
                key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            }
        }

        fn key(&self) -> PrivateKeyDer<'static> {
            PrivateKeyDer::Pkcs8(self.key.clone_key())
        }

        /// Dials a node with it and asks for something; gives how that ended.
        async fn dial(&self, authority: &ClusterAuthority, to: SocketAddr) -> ConnectionError {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.certificate().to_vec().into()).unwrap();
            let mut tls = rustls::ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![self.certificate.clone()], self.key())
                .unwrap();
            tls.alpn_protocols = vec![PROTOCOL.to_vec()];
            let crypto = QuicClientConfig::try_from(tls).unwrap();
            let config = ClientConfig::new(Arc::new(crypto));
            let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let ended = async {
                let name = format!("node.{CLUSTER}.riftmesh");
                let connection = match endpoint.connect_with(config, to, &name).unwrap().await {
                    Ok(connection) => connection,
                    Err(error) => return error,
                };
                // The handshake is over for who dials before its certificate is looked at.
                connection.send_datagram("let me in".into()).ok();
                connection.closed().await
            };
            let ended = tokio::time::timeout(DEADLINE, ended).await;
            ended.expect("the connection goes on")
        }

        /// Listens with it as a node would.
        fn listen(&self) -> Endpoint {
            let mut tls = rustls::ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![self.certificate.clone()], self.key())
                .unwrap();
            tls.alpn_protocols = vec![PROTOCOL.to_vec()];
            let crypto = QuicServerConfig::try_from(tls).unwrap();
            let config = ServerConfig::with_crypto(Arc::new(crypto));
            Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
        }
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    fn authority() -> ClusterAuthority {
        ClusterAuthority::create(CLUSTER, wall_clock()).unwrap()
    }

    fn node(authority: &ClusterAuthority) -> (Arc<QuicLink>, Arc<Counting>) {
        let hour = Millis::from_secs(3_600);
        let credential = authority.issue(NodeId(1), Role::Voter, hour, wall_clock());
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let link = QuicLink::bind(address, &credential.unwrap(), QuicSettings::default()).unwrap();
        let counting = Arc::<Counting>::default();
        link.serve(Arc::clone(&counting) as Arc<dyn Handler>);
        (link, counting)
    }

    /// What a peer was told when its connection was ended.
    fn told(error: &ConnectionError) -> String {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                String::from_utf8_lossy(&close.reason).into_owned()
            }
            other => other.to_string(),
        }
    }

    /// Names that make no node, and of one that is no client: each is sent away with the reason and counted, and nothing it
    /// said was heard.
    #[tokio::test]
    async fn who_dials_with_another_certificate_is_sent_away() {
        let authority = authority();
        let (link, heard) = node(&authority);
        let (whose, any) = (
            format!("{}.{CLUSTER}.riftmesh", NodeId(5)),
            format!("node.{CLUSTER}.riftmesh"),
        );
        let voter = format!("voter.{CLUSTER}.riftmesh");
        let worker = format!("worker.{CLUSTER}.riftmesh");
        let other = format!("{}.{CLUSTER}.riftmesh", NodeId(6));
        let named = "does not carry exactly one name of the form <node>.<cluster>.riftmesh";
        let odd: [(&[&str], &[_], _); 5] = [
            (&["metrics.example"], &BOTH, named),
            (&[&whose, &other, &any, &voter], &BOTH, named),
            (&[&whose, &any], &BOTH, "exactly one role"),
            (&[&whose, &any, &voter, &worker], &BOTH, "exactly one role"),
            // By TLS, which has a word for it.
            (&[&whose, &any, &voter], &BOTH[..1], "certificate"),
        ];
        for (at, (names, uses, reason)) in (1..).zip(odd) {
            let odd = Odd::new(&authority, names, uses);
            let ended = odd.dial(&authority, link.local_address()).await;
            assert!(told(&ended).contains(reason), "{names:?}: {ended}");
            assert_eq!(link.refusals()["not-a-node"], at, "{names:?}");
        }
        assert_eq!(heard.times.load(Ordering::SeqCst), 0, "somebody was heard");
        // With all that a node's has, it is heard: what was wrong with the others is what they differ in.
        let whole = Odd::new(&authority, &[&whose, &any, &voter], &BOTH);
        tokio::select! {
            ended = whole.dial(&authority, link.local_address()) => panic!("{ended}"),
            () = heard.once.notified() => {}
        }
    }

    /// The same of those who answer: a node says nothing to them, and both sides know why.
    #[tokio::test]
    async fn nobody_calls_those_who_show_another_certificate() {
        let authority = authority();
        let (link, _) = node(&authority);
        let (whose, any) = (
            format!("{}.{CLUSTER}.riftmesh", NodeId(5)),
            format!("node.{CLUSTER}.riftmesh"),
        );
        let odd: [(&[&str], _, _); 2] = [
            // By TLS: it does not carry the name that was asked for.
            (
                &["metrics.example"],
                "is not a valid node certificate",
                "certificate",
            ),
            (&[&whose, &any], "exactly one role", "exactly one role"),
        ];
        for (at, (names, here, there)) in (1..).zip(odd) {
            let endpoint = Odd::new(&authority, names, &BOTH).listen();
            let address = endpoint.local_addr().unwrap();
            let answering = tokio::spawn(async move {
                match endpoint.accept().await.unwrap().await {
                    Ok(connection) => connection.closed().await,
                    Err(error) => error,
                }
            });
            let target = Target {
                node: None,
                address,
            };
            let error = link.call(target, Lane::Client, "secret".into(), DEADLINE);
            let error = error.await.unwrap_err();
            assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
            assert!(error.to_string().contains(here), "{names:?}: {error}");
            let ended = tokio::time::timeout(DEADLINE, answering).await;
            let ended = ended.unwrap().unwrap();
            assert!(told(&ended).contains(there), "{names:?}: {ended}");
            assert_eq!(link.refusals()["not-a-node"], at, "{names:?}");
        }
    }
}
