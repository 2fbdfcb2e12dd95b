//! The door for machines without a certificate, and what a certificate is good for afterwards.

#![cfg(test)]

mod cases {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use riftmesh_base::limits::JOIN_BYTES_MAX;
    use riftmesh_base::time::wall_clock;
    use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
    use riftmesh_transport::{
        BoxFuture, CallError, ClusterAuthority, CredentialError, Doorkeeper, Handler, KeyRequest,
        Lane, Link, NodeCredential, NodeKey, Peer, QuicLink, QuicSettings, Refused, Target, knock,
    };

    const CLUSTER: ClusterId = ClusterId([1; 16]);
    const HOUR: Millis = Millis::from_secs(3_600);
    const DEADLINE: Duration = Duration::from_secs(5);
    const NEWCOMER: NodeId = NodeId(9);

    /// Echoes calls, and at the door, if it has one, certifies whoever sends a request for a certificate.
    struct Voter {
        authority: Option<Arc<ClusterAuthority>>,
        knocks: Arc<AtomicUsize>,
    }

    impl Handler for Voter {
        fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
            Box::pin(async move { Ok(request) })
        }
        fn datagram(&self, _: Peer, _: Bytes) {}
        fn blob(&self, _: Peer, _: BlobHash) -> Option<std::path::PathBuf> {
            None
        }
        fn door(&self) -> Option<&dyn Doorkeeper> {
            self.authority.is_some().then_some(self)
        }
    }

    impl Doorkeeper for Voter {
        fn knocked(&self, _: SocketAddr, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
            self.knocks.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                let authority = self.authority.as_ref().unwrap();
                let key = KeyRequest::read(&request).map_err(|e| Refused(e.to_string()))?;
                let certificate =
                    authority.certify(&key, NEWCOMER, Role::Worker, HOUR, wall_clock());
                Ok(certificate.unwrap().into())
            })
        }
    }

    fn authority() -> Arc<ClusterAuthority> {
        Arc::new(ClusterAuthority::create(CLUSTER, wall_clock()).unwrap())
    }

    fn credential(authority: &ClusterAuthority, node: u64, role: Role) -> NodeCredential {
        let issued = authority.issue(NodeId(node), role, HOUR, wall_clock());
        issued.unwrap()
    }

    struct Node {
        link: Arc<QuicLink>,
        knocks: Arc<AtomicUsize>,
    }

    impl Node {
        fn start(credential: &NodeCredential, door: Option<&Arc<ClusterAuthority>>) -> Self {
            let address = (Ipv4Addr::LOCALHOST, 0).into();
            let link = QuicLink::bind(address, credential, QuicSettings::default()).unwrap();
            let knocks = Arc::default();
            link.serve(Arc::new(Voter {
                authority: door.cloned(),
                knocks: Arc::clone(&knocks),
            }));
            Self { link, knocks }
        }

        async fn knock(&self, pin: BlobHash, request: Bytes) -> Result<Bytes, CallError> {
            knock(self.link.local_address(), CLUSTER, pin, request, DEADLINE).await
        }

        async fn call(&self, to: &Self, lane: Lane) -> Result<Bytes, CallError> {
            let target = Target {
                node: None,
                address: to.link.local_address(),
            };
            self.link.call(target, lane, "hello".into(), DEADLINE).await
        }
    }

    /// A machine that has nothing but the authority's fingerprint makes a key, is certified, and is a node; the
    /// certificate is of no use with another key or as another role's.
    #[tokio::test]
    async fn a_stranger_becomes_a_node() {
        let authority = authority();
        let voter = Node::start(&credential(&authority, 1, Role::Voter), Some(&authority));
        let key = NodeKey::generate().unwrap();
        let request = key.request().unwrap();
        assert_eq!(
            KeyRequest::read(&request).unwrap().fingerprint(),
            key.fingerprint()
        );
        let certificate = voter.knock(authority.fingerprint(), request.into()).await;
        let certificate = certificate.unwrap();
        let now = wall_clock();
        let given = key.certified(&certificate, authority.certificate(), now);
        let given = given.unwrap();
        assert_eq!((given.node(), given.facts().role), (NEWCOMER, Role::Worker));
        assert_eq!(given.facts().key, key.fingerprint());
        let worker = Node::start(&given, None);
        assert_eq!(worker.call(&voter, Lane::Client).await.unwrap(), "hello");

        let other = NodeKey::generate().unwrap();
        let stolen = other.certified(&certificate, authority.certificate(), now);
        assert!(stolen.is_err(), "a certificate without its key");
        let renewal = given.renewal_request().unwrap();
        let renewal = KeyRequest::read(&renewal).unwrap();
        let sign = |node, role| authority.certify(&renewal, node, role, HOUR, now).unwrap();
        assert!(given.renewed(&sign(NEWCOMER, Role::Worker), now).is_ok());
        assert!(given.renewed(&sign(NEWCOMER, Role::Voter), now).is_err());
        assert!(given.renewed(&sign(NodeId(8), Role::Worker), now).is_err());
    }

    /// A stranger says nothing to those who cannot show what its token pins: another cluster, another authority that
    /// claims the same cluster, a worker that opens a door of its own, a node without a door.
    #[tokio::test]
    async fn a_stranger_trusts_nobody_else() {
        let (ours, theirs) = (authority(), authority());
        let elsewhere = ClusterAuthority::create(ClusterId([2; 16]), wall_clock()).unwrap();
        let elsewhere = Arc::new(elsewhere);
        let pin = ours.fingerprint();
        let doors = [
            (credential(&theirs, 1, Role::Voter), Some(&theirs)),
            (credential(&elsewhere, 1, Role::Voter), Some(&elsewhere)),
            (credential(&ours, 1, Role::Worker), Some(&ours)),
        ];
        for (credential, door) in doors {
            let node = Node::start(&credential, door);
            let error = node.knock(pin, "secret".into()).await.unwrap_err();
            assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
            assert_eq!(
                node.knocks.load(Ordering::SeqCst),
                0,
                "the secret was shown"
            );
        }
        // The right authority, of a cluster that the token does not name.
        let node = Node::start(&credential(&elsewhere, 1, Role::Voter), Some(&elsewhere));
        let error = node.knock(elsewhere.fingerprint(), "x".into()).await;
        assert!(
            matches!(error, Err(CallError::Untrusted { .. })),
            "{error:?}"
        );
        let shut = Node::start(&credential(&ours, 1, Role::Voter), None);
        let error = shut.knock(pin, "secret".into()).await.unwrap_err();
        assert!(error.to_string().contains("lets nobody in"), "{error}");
    }

    /// What is no request for a certificate is refused, whole or in part, and so is too much of it.
    #[tokio::test]
    async fn malformed_requests_are_refused() {
        let authority = authority();
        let request = NodeKey::generate().unwrap().request().unwrap();
        for cut in 0..request.len() {
            let error = KeyRequest::read(&request[..cut]).unwrap_err();
            assert!(matches!(error, CredentialError::Malformed(_)), "{error}");
        }
        // What is not signed, such as the encoding of the signature itself, can differ; the key cannot.
        let key = KeyRequest::read(&request).unwrap();
        for at in 0..request.len() {
            let mut changed = request.clone();
            changed[at] ^= 1;
            let read = KeyRequest::read(&changed);
            assert!(
                read.is_err() || read.as_ref() == Ok(&key),
                "byte {at}: {read:?}"
            );
        }
        let voter = Node::start(&credential(&authority, 1, Role::Voter), Some(&authority));
        let pin = authority.fingerprint();
        let error = voter.knock(pin, "nonsense".into()).await.unwrap_err();
        assert!(matches!(error, CallError::Refused(_)), "{error}");
        let error = voter.knock(pin, vec![0; JOIN_BYTES_MAX + 1].into()).await;
        assert!(error.is_err() && voter.knocks.load(Ordering::SeqCst) == 1);
    }

    /// A worker's certificate opens no voters' lane, and nobody believes a worker that answers like a voter.
    #[tokio::test]
    async fn roles_are_kept_apart() {
        let authority = authority();
        let voter = Node::start(&credential(&authority, 1, Role::Voter), None);
        let worker = Node::start(&credential(&authority, 2, Role::Worker), None);
        let error = worker.call(&voter, Lane::Raft).await.unwrap_err();
        assert!(matches!(error, CallError::Refused(_)), "{error}");
        for lane in [Lane::Raft, Lane::Client] {
            let error = voter.call(&worker, lane).await.unwrap_err();
            assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
        }
        assert!(worker.call(&voter, Lane::Client).await.is_ok());
        assert!(voter.call(&worker, Lane::Mesh).await.is_ok());
    }

    /// A revoked node loses the connections it has and gets no new ones, either way, and is told why.
    #[tokio::test]
    async fn revoked_nodes_are_cut_off() {
        let authority = authority();
        let voter = Node::start(&credential(&authority, 1, Role::Voter), None);
        let worker = Node::start(&credential(&authority, 2, Role::Worker), None);
        assert!(worker.call(&voter, Lane::Client).await.is_ok());
        assert!(voter.call(&worker, Lane::Mesh).await.is_ok());
        voter.link.revoke(BTreeSet::from([NodeId(2)]));
        let refused = async {
            loop {
                // The first call may still find the old connection closing.
                match worker.call(&voter, Lane::Client).await {
                    Err(error @ CallError::Untrusted { .. }) => break error,
                    Err(_) => {}
                    Ok(_) => panic!("a revoked node was answered"),
                }
            }
        };
        let error = tokio::time::timeout(DEADLINE, refused).await.unwrap();
        assert!(error.to_string().contains("revoked"), "{error}");
        let error = voter.call(&worker, Lane::Mesh).await.unwrap_err();
        assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
        assert!(voter.link.refusals()["revoked"] >= 2);
        voter.link.revoke(BTreeSet::new());
        assert!(worker.call(&voter, Lane::Client).await.is_ok());
    }

    /// A connection does not outlive the certificate it was made with: a node that can no longer renew is out, however
    /// long it keeps talking.
    #[tokio::test]
    async fn connections_end_with_their_certificate() {
        let authority = authority();
        let voter = Node::start(&credential(&authority, 1, Role::Voter), None);
        let short = authority.issue(NodeId(2), Role::Worker, Millis(6_000), wall_clock());
        let worker = Node::start(&short.unwrap(), None);
        assert!(worker.call(&voter, Lane::Client).await.is_ok());
        let ended = async {
            while !voter.link.refusals().contains_key("expired") {
                worker.call(&voter, Lane::Client).await.ok();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), ended)
            .await
            .expect("the connection goes on");
        assert!(worker.call(&voter, Lane::Client).await.is_err());
    }
}
