//! Who sent how much to whom, as both ends count it.

#![cfg(test)]

mod cases {
    use std::net::Ipv4Addr;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use riftmesh_base::limits::DATAGRAM_BYTES_MAX;
    use riftmesh_base::time::wall_clock;
    use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
    use riftmesh_transport::{
        BoxFuture, CallError, ClusterAuthority, Handler, Lane, Link, OversizeCounts, Peer,
        PeerTraffic, QuicLink, QuicSettings, Refused, Target,
    };
    use tokio::sync::Semaphore;

    const DEADLINE: Duration = Duration::from_secs(5);

    /// Answers calls, and has a permit for each datagram that came.
    struct Counting(Arc<Semaphore>);

    impl Handler for Counting {
        fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
            Box::pin(async move { Ok(request) })
        }
        fn datagram(&self, _: Peer, _: Bytes) {
            self.0.add_permits(1);
        }
        fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
            None
        }
    }

    fn node(authority: &ClusterAuthority, id: u64) -> (Arc<QuicLink>, Arc<Semaphore>) {
        let hour = Millis::from_secs(3_600);
        let credential = authority.issue(NodeId(id), Role::Voter, hour, wall_clock());
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let link = QuicLink::bind(address, &credential.unwrap(), QuicSettings::default()).unwrap();
        let came = Arc::new(Semaphore::new(0));
        link.serve(Arc::new(Counting(Arc::clone(&came))));
        (link, came)
    }

    fn target(link: &QuicLink) -> Target {
        Target {
            node: Some(link.node()),
            address: link.local_address(),
        }
    }

    /// Calls of every size, a blob, and datagrams are on the account of the peer at both ends, bytes are, and stay there when
    /// the connection is gone; a third node is not charged for them. What is too long to be a datagram is counted and not sent.
    #[tokio::test]
    async fn both_ends_count_the_same() {
        let authority = ClusterAuthority::create(ClusterId([1; 16]), wall_clock()).unwrap();
        let ((alice, _), (bob, came), (carol, _)) = (
            node(&authority, 1),
            node(&authority, 2),
            node(&authority, 3),
        );
        assert_eq!(alice.traffic(bob.node()), None);
        let sizes = [1, 100, 100_000, 300_000];
        for size in sizes {
            let request = Bytes::from(vec![0; size]);
            let call = alice.call(target(&bob), Lane::Client, request, DEADLINE);
            assert_eq!(call.await.unwrap().len(), size);
        }
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("blob");
        let fetched = alice.fetch(target(&bob), BlobHash([7; 32]), &into, DEADLINE);
        assert!(fetched.await.is_err(), "there is none");
        for _ in 0..3 {
            alice.datagram(target(&bob), "x".into()).await.unwrap();
        }
        let arrived = tokio::time::timeout(DEADLINE, came.acquire_many(3));
        arrived.await.unwrap().unwrap().forget();
        let long = Bytes::from(vec![0; DATAGRAM_BYTES_MAX + 1]);
        let refused = alice.datagram(target(&bob), long).await;
        assert!(
            matches!(refused, Err(CallError::TooLarge { .. })),
            "{refused:?}"
        );
        let call = carol.call(target(&bob), Lane::Client, "x".into(), DEADLINE);
        call.await.unwrap();

        let sent = alice.traffic(bob.node()).unwrap();
        let total: usize = sizes.iter().sum();
        assert!(sent.bytes_sent as usize > total, "{sent:?}");
        assert!(sent.bytes_received as usize > total, "{sent:?}");
        assert_eq!((sent.calls_made, sent.calls_answered), (5, 0));
        assert_eq!((sent.datagrams_sent, sent.datagrams_received), (3, 0));
        let got = bob.traffic(alice.node()).unwrap();
        assert!(got.bytes_received as usize > total, "{got:?}");
        assert_eq!((got.calls_made, got.calls_answered), (0, 5));
        assert_eq!((got.datagrams_sent, got.datagrams_received), (0, 3));
        let small = bob.traffic(carol.node()).unwrap();
        assert_eq!(small.calls_answered, 1);
        assert!((small.bytes_received as usize) < total, "{small:?}");
        assert_eq!(bob.traffic_of_all().calls_answered, 6);
        let refused = OversizeCounts {
            refused: 1,
            ..OversizeCounts::default()
        };
        assert_eq!(alice.oversize(), refused);

        alice.close().await;
        let gone = |now: PeerTraffic| now.bytes_received >= got.bytes_received;
        assert!(bob.traffic(alice.node()).is_some_and(gone));
        let sent_now = alice.traffic(bob.node()).unwrap();
        assert!(sent_now.bytes_sent >= sent.bytes_sent);
    }
}
