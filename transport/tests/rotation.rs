//! One authority replaces another: who is trusted meanwhile, what strangers are shown, and what ends with the old one.

#![cfg(test)]

mod cases {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use riftmesh_base::time::wall_clock;
    use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
    use riftmesh_transport::{
        BoxFuture, CallError, ClusterAuthority, CredentialError, Doorkeeper, Handler, KeyRequest,
        Lane, Link, NodeCredential, Peer, QuicLink, QuicSettings, Refused, Target, knock,
    };

    const CLUSTER: ClusterId = ClusterId([1; 16]);
    const HOUR: Millis = Millis::from_secs(3_600);
    const DEADLINE: Duration = Duration::from_secs(5);

    /// Echoes calls, and at the door too.
    struct Echo;

    impl Handler for Echo {
        fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
            Box::pin(async move { Ok(request) })
        }
        fn datagram(&self, _: Peer, _: Bytes) {}
        fn blob(&self, _: Peer, _: BlobHash) -> Option<std::path::PathBuf> {
            None
        }
        fn door(&self) -> Option<&dyn Doorkeeper> {
            Some(self)
        }
    }

    impl Doorkeeper for Echo {
        fn knocked(&self, _: SocketAddr, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
            Box::pin(async move { Ok(request) })
        }
    }

    fn authority() -> ClusterAuthority {
        ClusterAuthority::create(CLUSTER, wall_clock()).unwrap()
    }

    fn issue(authority: &ClusterAuthority, node: u64) -> NodeCredential {
        authority
            .issue(NodeId(node), Role::Voter, HOUR, wall_clock())
            .unwrap()
    }

    fn der(authorities: &[&ClusterAuthority]) -> Vec<Vec<u8>> {
        let all = authorities.iter();
        all.map(|one| one.certificate().to_vec()).collect()
    }

    fn bind(credential: &NodeCredential) -> Arc<QuicLink> {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let link = QuicLink::bind(address, credential, QuicSettings::default()).unwrap();
        link.serve(Arc::new(Echo));
        link
    }

    async fn call(from: &QuicLink, to: &QuicLink) -> Result<Bytes, CallError> {
        let target = Target {
            node: None,
            address: to.local_address(),
        };
        from.call(target, Lane::Client, "hello".into(), DEADLINE)
            .await
    }

    /// Nodes of both authorities meet as long as both sides trust both, and a node that has not heard of the next one is
    /// told why it is alone. What ends the old one ends standing connections under it too.
    #[tokio::test]
    async fn both_are_trusted_for_a_while() {
        let (old, next) = (authority(), authority());
        let both = der(&[&old, &next]);
        let early = issue(&old, 1).trusting(&both).unwrap();
        let late = issue(&next, 2).trusting(&both).unwrap();
        let (first, second) = (bind(&early), bind(&late));
        let behind = bind(&issue(&old, 3));
        for (from, to) in [(&first, &second), (&second, &first), (&behind, &first)] {
            assert_eq!(call(from, to).await.unwrap(), "hello");
        }
        for (from, to) in [(&behind, &second), (&second, &behind)] {
            let error = call(from, to).await.unwrap_err();
            assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
            assert!(error.to_string().contains("authority"), "{error}");
        }

        first
            .renew(&issue(&next, 1).trusting(&both).unwrap())
            .unwrap();
        assert_eq!(call(&first, &second).await.unwrap(), "hello");
        assert_eq!(
            call(&behind, &first).await.unwrap(),
            "hello",
            "on the standing connection"
        );
        for (link, node) in [(&first, 1), (&second, 2)] {
            link.renew(&issue(&next, node)).unwrap();
        }
        // What stood under the old authority is closed from both sides: a call that meets the end of it is lost.
        let anew = async {
            while call(&first, &second).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, anew).await.unwrap();
        // The connection is closed from the other side, so it may take a call to notice.
        let refused = async {
            while call(&behind, &first).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, refused).await.unwrap();
        let error = call(&behind, &first).await.unwrap_err();
        assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
        assert_eq!(first.refusals()["authority-retired"], 1);
    }

    /// A stranger is shown a certificate of the authority that its token pins, whichever of the two that is, and of no
    /// third one.
    #[tokio::test]
    async fn tokens_of_both_open_the_door() {
        let (old, next) = (authority(), authority());
        let both = der(&[&old, &next]);
        let present = issue(&next, 1).trusting(&both).unwrap();
        let voter = bind(&present);
        let shown = async |authority: &ClusterAuthority| {
            let (address, pin) = (voter.local_address(), authority.fingerprint());
            knock(address, CLUSTER, pin, "let me in".into(), DEADLINE).await
        };
        assert!(shown(&next).await.is_ok());
        assert!(shown(&old).await.is_err(), "nothing of it is there yet");
        voter
            .renew_with_others(&present, vec![issue(&old, 1)])
            .unwrap();
        for authority in [&old, &next] {
            assert_eq!(shown(authority).await.unwrap(), "let me in");
        }
        assert!(shown(&self::authority()).await.is_err());
        voter.renew_with_others(&present, Vec::new()).unwrap();
        assert!(shown(&old).await.is_err(), "its time is over");
    }

    /// Whom a node trusts survives the disk, also when its own certificate does not; and nobody else's authority gets in.
    #[test]
    fn trust_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.credential");
        let (old, next) = (authority(), authority());
        let both = der(&[&old, &next]);
        let credential = issue(&old, 1).trusting(&both).unwrap();
        credential.write(&path).unwrap();
        let reread = NodeCredential::read(&path, wall_clock()).unwrap();
        assert_eq!(reread.authorities(), both);
        assert_eq!(NodeCredential::authorities_in(&path).unwrap(), both);
        let expired = NodeCredential::read(&path, wall_clock() + HOUR + HOUR).unwrap_err();
        assert_eq!(expired, CredentialError::Expired);

        let request = KeyRequest::read(&reread.renewal_request().unwrap()).unwrap();
        let certify = |authority: &ClusterAuthority| {
            let now = wall_clock();
            let certificate = authority
                .certify(&request, NodeId(1), Role::Voter, HOUR, now)
                .unwrap();
            reread.renewed(&certificate, now)
        };
        let renewed = certify(&next).unwrap();
        assert_eq!(renewed.authority(), next.fingerprint());
        assert_eq!(renewed.authorities(), der(&[&next, &old]));
        assert!(
            certify(&authority()).is_err(),
            "of an authority nobody named"
        );

        let elsewhere = ClusterAuthority::create(ClusterId([2; 16]), wall_clock()).unwrap();
        let error = credential.trusting(&der(&[&elsewhere])).unwrap_err();
        assert!(matches!(error, CredentialError::WrongCluster(_)), "{error}");
        let node = vec![b"no certificate".to_vec()];
        assert!(credential.trusting(&node).is_err());
        let crowd = der(&[&old, &next, &authority()]);
        assert!(credential.trusting(&crowd).is_err(), "two at a time");
    }
}
