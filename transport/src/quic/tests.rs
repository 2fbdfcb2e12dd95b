//! What only the QUIC endpoint has: bounds on peers, unusual frames and the ways around a small packet size.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use riftmesh_base::time::wall_clock;
use riftmesh_base::{Millis, Role};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::*;
use crate::authority::ClusterAuthority;
use crate::identity::NodeName;
use crate::link::{Doorkeeper, Peer, Refused};
use crate::relayed;

const DEADLINE: Duration = Duration::from_secs(5);

/// Answers calls only while it has permits, and passes datagrams on.
struct Gate {
    /// One for each call that has come in.
    entered: Semaphore,
    permits: Semaphore,
    datagrams: mpsc::Sender<Bytes>,
}

impl Handler for Gate {
    fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async move {
            self.entered.add_permits(1);
            let _permit = self.permits.acquire().await.unwrap();
            Ok(match request.strip_prefix(b"five times ") {
                Some(body) => body.repeat(5).into(),
                None => request,
            })
        })
    }
    fn datagram(&self, _: Peer, payload: Bytes) {
        self.datagrams.try_send(payload).unwrap();
    }
    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
    fn door(&self) -> Option<&dyn Doorkeeper> {
        Some(self)
    }
}

impl Doorkeeper for Gate {
    fn knocked(&self, _: SocketAddr, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        self.entered.add_permits(1);
        Box::pin(std::future::ready(Ok(request)))
    }
}

struct Pair {
    authority: ClusterAuthority,
    alice: Arc<QuicLink>,
    bob: Arc<QuicLink>,
    gate: Arc<Gate>,
    datagrams: mpsc::Receiver<Bytes>,
}

impl Pair {
    fn new(settings: &QuicSettings) -> Self {
        let authority = ClusterAuthority::create(ClusterId([9; 16]), wall_clock()).unwrap();
        let bind = |node| {
            let credential = authority.issue(
                NodeId(node),
                Role::Voter,
                Millis::from_secs(3_600),
                wall_clock(),
            );
            let address = (Ipv4Addr::LOCALHOST, 0).into();
            QuicLink::bind(address, &credential.unwrap(), settings.clone()).unwrap()
        };
        let (alice, bob) = (bind(1), bind(2));
        let (sender, datagrams) = mpsc::channel(16);
        let gate = Arc::new(Gate {
            entered: Semaphore::new(0),
            permits: Semaphore::new(0),
            datagrams: sender,
        });
        bob.serve(gate.clone());
        Self {
            authority,
            alice,
            bob,
            gate,
            datagrams,
        }
    }

    fn target(&self) -> Target {
        Target {
            node: Some(self.bob.node()),
            address: self.bob.local_address(),
        }
    }

    async fn dialled(&self) -> Dialled {
        let dialled = self.alice.pool.get(self.target(), Class::General).await;
        dialled.unwrap()
    }
}

/// A lane that is full refuses after its patience, names the lane, and leaves the other lanes alone.
#[tokio::test]
async fn full_lanes_refuse() {
    let pair = Pair::new(&QuicSettings {
        calls_per_lane_max: 2,
        patience: Duration::from_millis(100),
        ..QuicSettings::default()
    });
    let call = |lane| pair.alice.call(pair.target(), lane, "x".into(), DEADLINE);
    let (first, second) = (call(Lane::Client), call(Lane::Client));
    let others = async {
        let entered = timeout(DEADLINE, pair.gate.entered.acquire_many(2)).await;
        entered.unwrap().unwrap().forget();
        let Err(CallError::Refused(reason)) = call(Lane::Client).await else {
            panic!("a third call found a place");
        };
        assert!(
            reason.contains("overloaded") && reason.contains("client"),
            "{reason}"
        );
        pair.gate.permits.add_permits(3);
        call(Lane::Raft).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, others);
    assert!(first.is_ok() && second.is_ok());
}

/// Streams with junk on them end without an answer and without harm to the connection.
#[tokio::test]
async fn junk_frames_are_dropped() {
    let pair = Pair::new(&QuicSettings::default());
    let dialled = pair.dialled().await;
    for junk in [
        &b""[..],
        b"\x09\0\0\0\0",
        b"\x02\xff\xff\xff\xff",
        b"\x04\0\0\0\x01x",
        b"\x02\0\0",
        // Streams of calls: half a piece, one that is too long, one on no lane, one that says that more of it follows.
        b"\x07\0\0\0\0\x02\0\0",
        b"\x07\0\0\0\0\x02\0\0\0\x01\0\x01\0\0",
        b"\x07\0\0\0\0\x04\0\0\0\x01\0\0\0\0",
        b"\x07\0\0\0\0\x82\0\0\0\x01\0\0\0\x01x",
    ] {
        let (mut send, mut recv) = dialled.connection.open_bi().await.unwrap();
        send.write_all(junk).await.unwrap();
        send.finish().unwrap();
        let reply = timeout(DEADLINE, recv.read_to_end(1_000)).await.unwrap();
        let reply = reply.unwrap_or_default();
        let is_refusal = reply.first().is_none_or(|outcome| *outcome != 0);
        assert!(is_refusal, "{junk:?} was answered with {reply:?}");
    }
    pair.gate.permits.add_permits(1);
    let reply = pair
        .alice
        .call(pair.target(), Lane::Client, "x".into(), DEADLINE);
    assert_eq!(reply.await.unwrap(), "x");
}

/// Calls share a stream, long replies among short ones, and each gets its own answer. One that is given up leaves nothing
/// behind, and a stream that is lost is replaced.
#[tokio::test]
async fn calls_share_a_stream() {
    let pair = Pair::new(&QuicSettings::default());
    let body = |number: usize| Bytes::from(vec![number as u8; number * 97]);
    let call = |number| {
        let target = pair.target();
        pair.alice
            .call(target, Lane::Client, body(number), DEADLINE)
    };
    let given_up = pair.alice.call(
        pair.target(),
        Lane::Client,
        "x".into(),
        Duration::from_millis(50),
    );
    assert!(matches!(given_up.await, Err(CallError::Unknown(_))));
    let first = pair.dialled().await.calls().await.unwrap();
    assert_eq!(first.waiting(), 0);
    pair.gate.permits.add_permits(100);
    // The last ones are too long for a piece, and have streams of their own.
    let replies = futures::future::join_all((0..200).map(call)).await;
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), body(number));
    }
    let doubled = |number| {
        let mut request = b"five times ".to_vec();
        request.extend(body(number));
        let target = pair.target();
        pair.alice
            .call(target, Lane::Client, request.into(), DEADLINE)
    };
    let replies = futures::future::join_all((0..150).map(doubled)).await;
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), body(number).repeat(5));
    }
    let second = pair.dialled().await.calls().await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "one stream for all of them");

    pair.dialled().await.connection.close(CLOSED, b"");
    assert_eq!(call(3).await.unwrap(), body(3));
    assert!(first.is_lost());
}

/// A datagram too large for the path's packets takes a stream; an empty one is only an acknowledgement asked for; one that is
/// too large altogether is counted and dropped.
#[tokio::test]
async fn large_datagrams_take_a_stream() {
    let mut pair = Pair::new(&QuicSettings::default());
    let dialled = pair.dialled().await;
    dialled.connection.send_datagram(Bytes::new()).unwrap();
    send_as_stream(&dialled.connection, b"as a stream")
        .await
        .unwrap();
    let received = timeout(DEADLINE, pair.datagrams.recv()).await.unwrap();
    assert_eq!(received.unwrap(), "as a stream");
    send_as_stream(&dialled.connection, &[0; DATAGRAM_BYTES_MAX + 1])
        .await
        .unwrap();
    let counted = async {
        while pair.bob.oversize().dropped == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, counted).await.unwrap();
    assert!(pair.datagrams.try_recv().is_err(), "it was passed on");
}

/// A router that translates the address of `client`: `server` sees the first one of `outside`, and once it was started anew the
/// second. Answers to the first are lost then.
async fn translate(
    client: SocketAddr,
    inside: &UdpSocket,
    outside: [&UdpSocket; 2],
    server: SocketAddr,
    started_anew: &AtomicBool,
) {
    let (mut question, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let way = outside[usize::from(started_anew.load(Ordering::SeqCst))];
        tokio::select! {
            came = inside.recv_from(&mut question) => {
                let (length, from) = came.unwrap();
                // Who dials also asks whether the port is open, from a socket of its own.
                if from != client {
                    continue;
                }
                let way = outside[usize::from(started_anew.load(Ordering::SeqCst))];
                way.send_to(&question[..length], server).await.unwrap();
            }
            came = way.recv_from(&mut answer) => {
                let (length, _) = came.unwrap();
                inside.send_to(&answer[..length], client).await.unwrap();
            }
        }
    }
}

/// A connection goes on when its dialler's address becomes another, as behind a router that starts anew. It is still the node's whose
/// certificate it was made with, and nothing is dialled again.
#[tokio::test]
async fn connections_survive_another_address() {
    let pair = Pair::new(&QuicSettings::default());
    pair.gate.permits.add_permits(2);
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (inside, first, second) = (
        bind().await.unwrap(),
        bind().await.unwrap(),
        bind().await.unwrap(),
    );
    let through = Target {
        node: Some(pair.bob.node()),
        address: inside.local_addr().unwrap(),
    };
    let started_anew = AtomicBool::new(false);
    let calling = async {
        for is_anew in [false, true] {
            started_anew.store(is_anew, Ordering::SeqCst);
            let call = pair.alice.call(through, Lane::Client, "x".into(), DEADLINE);
            assert_eq!(call.await.unwrap(), "x");
        }
    };
    let (client, server) = (pair.alice.local_address(), pair.bob.local_address());
    tokio::select! {
        () = translate(client, &inside, [&first, &second], server, &started_anew) => {}
        () = calling => {}
    }
    assert_eq!(pair.bob.endpoint.open_connections(), 1, "it dialled again");
    let answered = pair.bob.traffic(pair.alice.node()).unwrap().calls_answered;
    assert_eq!(answered, 2, "both are the same node's");
}

/// Concurrent first calls share one connection, lanes of consensus and the rest do not, and the bound on
/// connections closes the one used longest ago.
#[tokio::test]
async fn connections_are_shared_and_bounded() {
    let pair = Pair::new(&QuicSettings {
        connections_dialled_max: 2,
        ..QuicSettings::default()
    });
    pair.gate.permits.add_permits(100);
    let call = |lane| pair.alice.call(pair.target(), lane, "x".into(), DEADLINE);
    let calls = (0..50).map(|_| call(Lane::Client));
    let replies = futures::future::join_all(calls).await;
    assert!(replies.iter().all(Result::is_ok));
    let general = pair.dialled().await;
    assert_eq!(pair.alice.endpoint.open_connections(), 1);
    call(Lane::Raft).await.unwrap();
    assert_eq!(pair.alice.endpoint.open_connections(), 2);
    let bulk = pair
        .alice
        .pool
        .get(pair.target(), Class::Bulk)
        .await
        .unwrap();
    let again = pair.dialled().await;
    assert_ne!(again.connection.stable_id(), general.connection.stable_id());
    drop((bulk, general, again));
    let settled = async {
        while pair.alice.endpoint.open_connections() > 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, settled).await.unwrap();
}

/// While a connection for calls is kept alive, one for gossip is left in peace.
#[tokio::test]
async fn gossip_is_not_kept_alive_as_calls_are() {
    let pair = Pair::new(&QuicSettings {
        keep_alive: Duration::from_millis(20),
        ..QuicSettings::default()
    });
    let (target, pool) = (pair.target(), &pair.alice.pool);
    let gossip = pool.get(target, Class::Gossip).await.unwrap();
    let calls = pair.dialled().await;
    let sent = |dialled: &Dialled| dialled.connection.stats().frame_tx.ping;
    let (gossip_before, calls_before) = (sent(&gossip), sent(&calls));
    let many = async {
        while sent(&calls) < calls_before + 20 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, many).await.unwrap();
    // One or two are to find out what size of packets the path takes.
    assert!(sent(&gossip) < gossip_before + 10);
}

/// A peer that started anew gets the first datagram that is sent to it, although nothing told of that before.
#[test]
fn datagrams_reach_who_started_anew() {
    let authority = ClusterAuthority::create(ClusterId([9; 16]), wall_clock()).unwrap();
    let issue = |node| {
        let lasting = Millis::from_secs(3_600);
        authority.issue(NodeId(node), Role::Voter, lasting, wall_clock())
    };
    let (alice, bob) = (issue(1).unwrap(), issue(2).unwrap());
    let settings = QuicSettings {
        // Every silence counts as long.
        idle: Duration::from_millis(1),
        ..QuicSettings::default()
    };
    let start = |address: SocketAddr| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sender, datagrams) = mpsc::channel(16);
        let link = {
            let _inside = runtime.enter();
            QuicLink::bind(address, &bob, settings.clone()).unwrap()
        };
        link.serve(Arc::new(Gate {
            entered: Semaphore::new(0),
            permits: Semaphore::new(0),
            datagrams: sender,
        }));
        (runtime, link.local_address(), datagrams)
    };
    let ours = tokio::runtime::Runtime::new().unwrap();
    ours.block_on(async {
        let anywhere = (Ipv4Addr::LOCALHOST, 0).into();
        let alice = QuicLink::bind(anywhere, &alice, settings.clone()).unwrap();
        let (life, address, mut datagrams) = start(anywhere);
        let target = Target {
            node: Some(NodeId(2)),
            address,
        };
        alice.datagram(target, "to the first".into()).await.unwrap();
        let received = timeout(DEADLINE, datagrams.recv()).await.unwrap();
        assert_eq!(received.unwrap(), "to the first");
        // As `kill -9` does: it says nothing.
        life.shutdown_background();
        let (life, _, mut datagrams) = loop {
            // The port is free once the runtime has gone.
            match std::net::UdpSocket::bind(address) {
                Ok(socket) => {
                    drop(socket);
                    break start(address);
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        alice
            .datagram(target, "to the second".into())
            .await
            .unwrap();
        let received = timeout(DEADLINE, datagrams.recv()).await.unwrap();
        assert_eq!(received.unwrap(), "to the second");
        life.shutdown_background();
    });
}

/// Without a certificate nobody gets further than the door: not on the way of the nodes, not by naming the nodes'
/// protocol, and not by asking at the door for what nodes ask for.
#[tokio::test]
async fn strangers_get_no_further_than_the_door() {
    let pair = Pair::new(&QuicSettings::default());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(pair.authority.certificate().to_vec().into())
        .unwrap();
    let stranger = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let name = NodeName::any_with_role(Role::Voter, pair.bob.cluster);
    let dial = async |protocol: &[u8], marked: bool| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        if marked {
            config.initial_dst_cid_provider(Arc::new(door::marked_id));
        }
        let address = pair.bob.local_address();
        let connection = stranger
            .connect_with(config, address, &name)
            .unwrap()
            .await?;
        // The handshake is over for the stranger before its certificate is missed.
        let (mut send, mut recv) = connection.open_bi().await?;
        frame::write_request(&mut send, Kind::Call(Lane::Client), "x".into())
            .await
            .ok();
        recv.read_to_end(100).await.ok();
        Err::<(), _>(connection.closed().await)
    };
    for (protocol, marked) in [
        (&b"riftmesh/2"[..], false),
        (b"riftmesh-join/1", false),
        (b"riftmesh/2", true),
        (b"riftmesh-join/1", true),
    ] {
        let ended = timeout(DEADLINE, dial(protocol, marked)).await;
        ended.expect("the stranger is still there").unwrap_err();
    }
    assert_eq!(pair.gate.entered.available_permits(), 0, "a call came in");
    let refusals = pair.bob.refusals();
    assert_eq!(refusals["no-certificate"], 1);
    assert_eq!(refusals["other-protocol"], 1);
}

/// Passes on what somebody and `server` say to each other until it is told to stop; gives what the former said.
async fn record(tap: &UdpSocket, server: SocketAddr, stop: oneshot::Receiver<()>) -> Vec<Vec<u8>> {
    let (mut client, mut said) = (None, Vec::new());
    let passing = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (length, from) = tap.recv_from(&mut buffer).await.unwrap();
            let packet = &buffer[..length];
            if from == server {
                tap.send_to(packet, client.unwrap()).await.unwrap();
            } else {
                client = Some(from);
                said.push(packet.to_vec());
                tap.send_to(packet, server).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = passing => {}
        _ = stop => {}
    }
    said
}

/// Who records a node's packets on their way gets nothing by sending them again, as that node or as somebody else: no
/// second handshake, no second call.
#[tokio::test]
async fn recorded_packets_do_nothing() {
    let pair = Pair::new(&QuicSettings::default());
    pair.gate.permits.add_permits(10);
    let server = pair.bob.local_address();
    let tap = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let through_tap = Target {
        node: Some(pair.bob.node()),
        address: tap.local_addr().unwrap(),
    };
    let (stop, stopped) = oneshot::channel();
    let calling = async {
        let call = pair
            .alice
            .call(through_tap, Lane::Client, "x".into(), DEADLINE);
        call.await.unwrap();
        stop.send(()).unwrap();
    };
    let (said, ()) = tokio::join!(record(&tap, server, stopped), calling);
    assert!(said.len() > 2, "{} packets", said.len());
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for socket in [&tap, &other] {
        for packet in &said {
            socket.send_to(packet, server).await.unwrap();
        }
    }
    // These come in behind the replayed ones, on a connection of their own.
    for _ in 0..2 {
        let honest = pair
            .alice
            .call(pair.target(), Lane::Client, "y".into(), DEADLINE);
        assert_eq!(honest.await.unwrap(), "y");
    }
    assert_eq!(pair.gate.entered.available_permits(), 3);
}

/// A node that sends more through a relay than it may loses the rest, and nobody else does; junk on a line is counted and
/// harms nobody.
#[tokio::test]
async fn relays_keep_to_their_budget() {
    let settings = QuicSettings {
        relay_bytes_per_second: 64 << 10,
        ..QuicSettings::default()
    };
    let pair = Pair::new(&settings);
    let bind = |node| {
        let lasting = Millis::from_secs(3_600);
        let credential = pair
            .authority
            .issue(NodeId(node), Role::Worker, lasting, wall_clock());
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        QuicLink::bind(address, &credential.unwrap(), settings.clone()).unwrap()
    };
    let (hidden, greedy) = (bind(3), bind(4));
    hidden.serve(pair.gate.clone());
    pair.gate.permits.add_permits(10);
    let relay = pair.bob.local_address();
    let _attachment = hidden.attach(relay, DEADLINE).await.unwrap();
    let to_hidden = Target {
        node: Some(hidden.node()),
        address: relayed::through(relay, hidden.node()).unwrap(),
    };
    let _line = greedy.attach(relay, DEADLINE).await.unwrap();
    let on_line = Target {
        node: None,
        address: relay,
    };
    let line = greedy.pool.get(on_line, Class::Relay).await.unwrap();
    let mut flood = hidden.node().0.to_be_bytes().to_vec();
    flood.resize(1_000, 0);
    line.connection.send_datagram("junk".into()).unwrap();
    let limited = async {
        while pair.bob.relay_counts().over_budget < 1_000 {
            line.connection
                .send_datagram_wait(flood.clone().into())
                .await
                .unwrap();
        }
    };
    timeout(DEADLINE, limited)
        .await
        .expect("the flood is limited");
    let counts = pair.bob.relay_counts();
    assert!(counts.malformed >= 1 && counts.lines == 2, "{counts:?}");
    let call = pair.alice.call(to_hidden, Lane::Mesh, "x".into(), DEADLINE);
    assert_eq!(call.await.unwrap(), "x");
}

/// What relays refuse: more lines than they have, and those that have no address to be one.
#[tokio::test]
async fn relays_have_an_end() {
    let pair = Pair::new(&QuicSettings {
        relay_lines_max: 0,
        ..QuicSettings::default()
    });
    let error = pair.alice.attach(pair.bob.local_address(), DEADLINE).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("choose another"), "{error}");
    for (address, why) in [
        ("[::1]:7700".parse().unwrap(), "IPv4"),
        (pair.alice.local_address(), "itself"),
    ] {
        let error = pair.alice.attach(address, DEADLINE).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
