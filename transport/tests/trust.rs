//! Who gets in and who does not: credentials on disk, and handshakes between nodes that should not trust each other.

#![cfg(test)]

mod cases {
    use std::net::Ipv4Addr;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use riftmesh_base::time::wall_clock;
    use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
    use riftmesh_transport::{
        BoxFuture, CallError, ClusterAuthority, CredentialError, Handler, Lane, Link,
        NodeCredential, Peer, QuicLink, QuicSettings, Refused, Target,
    };

    const HOUR: Millis = Millis::from_secs(3_600);
    const NODE: NodeId = NodeId(5);

    fn authority(cluster: u8) -> ClusterAuthority {
        ClusterAuthority::create(ClusterId([cluster; 16]), wall_clock()).unwrap()
    }

    fn issue(authority: &ClusterAuthority, node: NodeId) -> NodeCredential {
        authority
            .issue(node, Role::Voter, HOUR, wall_clock())
            .unwrap()
    }

    /// Authority and credential survive the disk, the reread authority still issues what the first one trusts, and
    /// a key that others can read is refused by name and mode.
    #[test]
    fn secrets_stay_secret() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, node) = (folder.path().join("ca.pem"), folder.path().join("node.pem"));
        authority(1).write(&ca).unwrap();
        let reread = ClusterAuthority::read(&ca).unwrap();
        assert_eq!(reread.cluster(), ClusterId([1; 16]));
        issue(&reread, NODE).write(&node).unwrap();
        let credential = NodeCredential::read(&node, wall_clock()).unwrap();
        assert_eq!(
            (credential.node(), credential.cluster()),
            (NODE, reread.cluster())
        );
        for path in [&ca, &node] {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o640)).unwrap();
        }
        let error = NodeCredential::read(&node, wall_clock()).unwrap_err();
        assert_eq!(
            error,
            CredentialError::Permissions {
                path: node,
                mode: 0o640
            }
        );
        assert!(ClusterAuthority::read(&ca).is_err());
    }

    /// Each unusable credential is refused when it is read, and told apart by whose fault it is.
    #[test]
    fn bad_credentials_are_blamed() {
        let (ours, theirs) = (authority(1), authority(2));
        let pem = issue(&ours, NODE).to_pem();
        let later = wall_clock() + HOUR + HOUR;
        assert_eq!(
            NodeCredential::from_pem(&pem, later).unwrap_err(),
            CredentialError::Expired
        );
        let earlier = wall_clock() - HOUR - HOUR;
        assert_eq!(
            NodeCredential::from_pem(&pem, earlier).unwrap_err(),
            CredentialError::NotYetValid
        );

        let certificates = |pem: &str| {
            pem.split_inclusive("-----END CERTIFICATE-----\n")
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let foreign_authority = certificates(&theirs.to_pem())[0]
            .split_once("-----END PRIVATE KEY-----\n")
            .unwrap()
            .1
            .to_owned();
        let mixed = certificates(&pem)[0].clone() + &foreign_authority;
        let error = NodeCredential::from_pem(&mixed, wall_clock()).unwrap_err();
        assert!(matches!(error, CredentialError::WrongCluster(_)), "{error}");

        let key_and_authority = ours.to_pem() + &foreign_authority;
        let error = NodeCredential::from_pem(&key_and_authority, wall_clock()).unwrap_err();
        assert!(matches!(error, CredentialError::NotANode(_)), "{error}");

        for damaged in [
            "",
            "no PEM at all",
            &pem[..pem.len() / 2],
            &pem.replacen("MI", "MJ", 1),
        ] {
            let error = NodeCredential::from_pem(damaged, wall_clock()).unwrap_err();
            assert!(
                matches!(
                    error,
                    CredentialError::Malformed(_) | CredentialError::Crypto(_)
                ),
                "{error}"
            );
        }
    }

    struct Echo;

    impl Handler for Echo {
        fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
            Box::pin(async move { Ok(request) })
        }
        fn datagram(&self, _: Peer, _: Bytes) {}
        fn blob(&self, _: Peer, _: BlobHash) -> Option<std::path::PathBuf> {
            None
        }
    }

    fn bind(credential: &NodeCredential) -> Arc<QuicLink> {
        let link = QuicLink::bind(
            (Ipv4Addr::LOCALHOST, 0).into(),
            credential,
            QuicSettings::default(),
        );
        let link = link.unwrap();
        link.serve(Arc::new(Echo));
        link
    }

    async fn call(from: &QuicLink, to: &QuicLink) -> Result<Bytes, CallError> {
        let target = Target {
            node: None,
            address: to.local_address(),
        };
        from.call(target, Lane::Client, "hello".into(), Duration::from_secs(5))
            .await
    }

    /// Nodes of two clusters refuse each other in both directions, and the error says why.
    #[tokio::test]
    async fn clusters_do_not_mix() {
        let ours = bind(&issue(&authority(1), NODE));
        // Same cluster id, another authority: the id is not what is trusted.
        for stranger in [authority(2), authority(1)] {
            let theirs = bind(&issue(&stranger, NodeId(6)));
            for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
                let error = call(from, to).await.unwrap_err();
                assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
                assert!(error.to_string().contains("cluster"), "{error}");
            }
            // Who dials looks first.
            assert!(theirs.refusals()["wrong-cluster"] >= 1);
        }
        assert!(ours.refusals()["wrong-cluster"] >= 2);
    }

    /// A certificate that ran out after its node started is refused by peers, until the node renews it.
    #[tokio::test]
    async fn certificates_run_out_and_are_renewed() {
        let authority = authority(1);
        let server = bind(&issue(&authority, NodeId(6)));
        let past = wall_clock() - Millis(500);
        let short = authority
            .issue(NODE, Role::Voter, Millis(1_500), past)
            .unwrap();
        let node = bind(&short);
        let expired = async {
            while NodeCredential::from_pem(&short.to_pem(), wall_clock()).is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), expired)
            .await
            .unwrap();
        let error = call(&node, &server).await.unwrap_err();
        assert!(error.to_string().contains("expired"), "{error}");
        let counted = async {
            while !server.refusals().contains_key("expired") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), counted)
            .await
            .expect("the side that refuses counts it");
        node.renew(&issue(&authority, NODE)).unwrap();
        assert_eq!(call(&node, &server).await.unwrap(), "hello");
        assert!(node.renew(&issue(&authority, NodeId(7))).is_err());
    }
}
