//! Keeps a node's certificate valid: renews it at half of its life, and when an operator asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use riftmesh_base::limits::CERTIFICATE_LIFE;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, Millis, NodeId};
use riftmesh_statemachine::rotation::RotationPhase;
use riftmesh_transport::link::BoxFuture;
use riftmesh_transport::{NodeCredential, QuicLink, Refusals};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::join::Identity;
use super::ring::AuthorityRing;
use crate::answers::{CertificateAnswer, Envelope, ReadMode};
use crate::client::{CallFailure, Client};
use crate::node::http::{AnswerError, CertificateDesk};
use crate::protocol::{Request, Response};

/// An authority that lives no longer than this should be replaced.
const AUTHORITY_WARNING: Millis = Millis::from_secs(180 * 24 * 3_600);
/// Longest wait before a renewal that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(3_600);
/// Shortest.
const RETRY_MIN: Duration = Duration::from_secs(10);
/// The voters have this long for a renewal; a person who asked for it is promised an answer in two seconds.
const RENEWAL_MAX: Duration = Duration::from_millis(1_500);

/// The log speaks of an authority that ends soon this often.
const WARN_EVERY: Millis = Millis::from_secs(24 * 3_600);

/// When what others trust a node by ends, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiries {
    /// Its certificate.
    pub certificate: Millis,
    /// The authority that issued that.
    pub authority: Millis,
}

impl Expiries {
    /// Those of a credential.
    pub(super) fn of(credential: &NodeCredential) -> Self {
        let certificate = credential.expires();
        let authority = credential.authority_expires().inspect_err(
            |error| tracing::error!(%error, "the authority does not say when it ends"),
        );
        Self {
            certificate,
            // Nothing of it is good for longer than this for all that is known.
            authority: authority.unwrap_or(certificate),
        }
    }

    /// What to say about an authority that ends soon.
    pub fn authority_warning(&self, now: Millis) -> Option<String> {
        let left = self.authority.since(now);
        (left < AUTHORITY_WARNING).then(|| {
            format!("the cluster's authority expires in {left}, and every certificate with it: `riftmesh cert rotate-ca` replaces it")
        })
    }
}

/// A node's certificate and its renewal.
pub struct CertificateKeeper {
    name: String,
    pub(super) link: Arc<QuicLink>,
    pub(super) file: PathBuf,
    pub(super) renewal: Renewal,
    /// For orders to the log, on a voter. Set once, after the parts that need this keeper.
    pub(super) orders: OnceLock<Client>,
    /// Also says when a renewal may be under way: there is one at a time.
    pub(super) credential: Mutex<NodeCredential>,
    pub(super) expires: watch::Sender<Expiries>,
    /// What this node has said of itself in the rotation under way.
    pub(super) reported: Mutex<Option<(BlobHash, RotationPhase)>>,
    /// Held while an operator's order to replace the authority is carried out.
    pub(super) beginning: Mutex<()>,
    /// Counts those who were sent away at the door.
    refusals: Arc<Refusals>,
    /// Wall-clock time.
    wall: WallClock,
}

/// Tells wall-clock time; another than the system's in tests.
type WallClock = Box<dyn Fn() -> Millis + Send + Sync>;

/// Who certifies the node anew.
pub(super) enum Renewal {
    /// The node itself, which holds the authority.
    Own(AuthorityRing),
    /// The voters.
    Voters(Arc<Client>),
}

impl CertificateKeeper {
    /// Keeps what the node started with, for as long as `link` uses it.
    pub fn new(name: String, identity: Identity, link: Arc<QuicLink>, client: Arc<Client>) -> Self {
        Self::with_clock(name, identity, link, client, Box::new(wall_clock))
    }

    fn with_clock(
        name: String,
        identity: Identity,
        link: Arc<QuicLink>,
        client: Arc<Client>,
        wall: WallClock,
    ) -> Self {
        let renewal = match identity.authority {
            Some(ring) => Renewal::Own(ring),
            None => Renewal::Voters(client),
        };
        Self {
            name,
            link,
            file: identity.file,
            renewal,
            orders: OnceLock::new(),
            reported: Mutex::default(),
            beginning: Mutex::default(),
            expires: watch::Sender::new(Expiries::of(&identity.credential)),
            credential: Mutex::new(identity.credential),
            refusals: Arc::default(),
            wall,
        }
    }

    /// Puts orders about the authority into the log with `client` from now on. A second call changes nothing.
    pub fn order_with(&self, client: Client) {
        self.orders.get_or_init(|| client);
    }

    /// Where the others that send somebody away count it.
    pub fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.refusals)
    }

    /// When the present certificate and its authority expire, as that changes.
    pub fn expires(&self) -> watch::Receiver<Expiries> {
        self.expires.subscribe()
    }

    /// Renews the certificate at half of its life, for as long as the node runs.
    pub async fn run(self: Arc<Self>) {
        if let Err(error) = self.open_doors().await {
            tracing::error!(
                error,
                "tokens that pin another authority are of no use here"
            );
        }
        let mut warned = None;
        loop {
            self.warn(&mut warned);
            let due = self.credential.lock().await.renewal();
            let wait = due.since((self.wall)()).duration();
            if wait > Duration::ZERO {
                // In pieces, since the wall clock may be set meanwhile.
                sleep(wait.min(RETRY_MAX)).await;
                continue;
            }
            if let Err(error) = self.renew().await {
                let left = self.expires.borrow().certificate.since((self.wall)());
                tracing::error!(error, %left, "the certificate could not be renewed; it expires in");
                let pause = (left.duration() / 16).clamp(RETRY_MIN, RETRY_MAX);
                sleep(pause).await;
            }
        }
    }

    /// Says in the log that the authority ends soon, unless that was said lately.
    fn warn(&self, said: &mut Option<Millis>) {
        let now = (self.wall)();
        if said.is_some_and(|said| now.since(said) < WARN_EVERY) {
            return;
        }
        let warning = self.expires.borrow().authority_warning(now);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
            *said = Some(now);
        }
    }

    pub(super) async fn renew(&self) -> Result<(), String> {
        let mut credential = self.credential.lock().await;
        let renewed = match &self.renewal {
            Renewal::Own(ring) => {
                let facts = credential.facts();
                let (node, role) = (facts.name.node, facts.role);
                ring.present()
                    .issue(node, role, CERTIFICATE_LIFE, (self.wall)())
                    .and_then(|renewed| renewed.trusting(&credential.authorities()))
                    .map_err(|error| error.to_string())?
            }
            Renewal::Voters(client) => ask_voters(client, &credential, (self.wall)()).await?,
        };
        let lasts = renewed.expires().since((self.wall)());
        self.use_from_now_on(&mut credential, renewed)?;
        tracing::info!(%lasts, "the certificate was renewed");
        Ok(())
    }

    /// How often this node has turned somebody away since it started, by reason.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (word, count) in self
            .link
            .refusals()
            .into_iter()
            .chain(self.refusals.counts())
        {
            *all.entry(word.to_owned()).or_default() += count;
        }
        all
    }

    async fn answer(&self) -> Result<String, AnswerError> {
        let credential = self.credential.lock().await;
        let (facts, now) = (*credential.facts(), (self.wall)());
        let answer = CertificateAnswer {
            cluster: facts.name.cluster,
            role: facts.role,
            authority: credential.authority(),
            trusted: credential
                .authorities()
                .iter()
                .map(|one| BlobHash::of(one))
                .collect(),
            key: facts.key,
            issued: facts.begins,
            renews: credential.renewal(),
            expires: facts.expires,
            expires_in_ms: facts.expires.since(now).0,
            authority_expires: Some(self.expires.borrow().authority),
            holds_authority: matches!(self.renewal, Renewal::Own(_)),
            refused: self.refused(),
        };
        wrap(facts.name.node, &self.name, answer)
    }
}

async fn ask_voters(
    client: &Client,
    held: &NodeCredential,
    now: Millis,
) -> Result<NodeCredential, String> {
    let request = held.renewal_request().map_err(|error| error.to_string())?;
    match client
        .ask_any(Request::Renew { request }, RENEWAL_MAX)
        .await
    {
        Ok(Response::Renewed { certificate }) => held
            .renewed(&certificate, now)
            .map_err(|error| error.to_string()),
        Ok(other) => Err(format!("unexpected answer {other:?}")),
        Err(CallFailure::Refused(refusal)) => Err(refusal.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn wrap<T: Serialize>(node: NodeId, name: &str, answer: T) -> Result<String, AnswerError> {
    let envelope = Envelope {
        node,
        name: name.to_owned(),
        mode: ReadMode::Stale,
        applied_index: None,
        term: None,
        leader_contact_ms: None,
        answer,
    };
    serde_json::to_string(&envelope).map_err(|error| AnswerError::Unavailable(error.to_string()))
}

impl CertificateDesk for CertificateKeeper {
    fn show(&self) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.answer())
    }

    fn renew(&self) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(async move {
            CertificateKeeper::renew(self)
                .await
                .map_err(AnswerError::Unavailable)?;
            self.answer().await
        })
    }

    fn rotate(&self) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(async move {
            let trusted: Vec<_> = {
                let credential = self.credential.lock().await;
                let authorities = credential.authorities();
                authorities.iter().map(|one| BlobHash::of(one)).collect()
            };
            self.begin(&trusted)
                .await
                .map_err(AnswerError::Unavailable)?;
            self.answer().await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Mutex as StdMutex;

    use riftmesh_base::{ClusterId, Role};
    use riftmesh_transport::link::{Link, SharedLink, Target};
    use riftmesh_transport::{ClusterAuthority, QuicSettings};
    use tokio::time::Instant;

    use super::*;
    use crate::client::VoterDirectory;

    const NODE: NodeId = NodeId(7);

    /// Nobody is there to be asked; notes when somebody wanted to.
    #[derive(Clone, Default)]
    struct Nobody(Arc<StdMutex<Vec<Instant>>>);

    impl VoterDirectory for Nobody {
        fn voters(&self) -> Vec<Target> {
            self.0.lock().unwrap().push(Instant::now());
            Vec::new()
        }
    }

    struct World {
        folder: tempfile::TempDir,
        link: Arc<QuicLink>,
        keeper: Arc<CertificateKeeper>,
        asked: Nobody,
        began: Instant,
        /// Wall-clock time then.
        wall: Millis,
    }

    impl World {
        /// A node that certifies itself, or one that has to ask voters. The wall clock goes with tokio's.
        fn new(own: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (began, wall) = (Instant::now(), wall_clock());
            let authority = ClusterAuthority::create(ClusterId([1; 16]), wall).unwrap();
            let credential = authority
                .issue(NODE, Role::Worker, CERTIFICATE_LIFE, wall)
                .unwrap();
            let listen: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
            let link = QuicLink::bind(listen, &credential, QuicSettings::default()).unwrap();
            let ring = AuthorityRing::open(authority, folder.path(), None).unwrap();
            let identity = Identity {
                credential,
                authority: own.then_some(ring),
                file: folder.path().join("node.credential"),
            };
            let asked = Nobody::default();
            let shared: SharedLink = Arc::clone(&link) as SharedLink;
            let client = Client::new(shared, Arc::new(asked.clone()), None, 1);
            let clock = Box::new(move || wall + Millis::from(began.elapsed()));
            let keeper = CertificateKeeper::with_clock(
                "n".to_owned(),
                identity,
                Arc::clone(&link),
                Arc::new(client),
                clock,
            );
            Self {
                folder,
                link,
                keeper: Arc::new(keeper),
                asked,
                began,
                wall,
            }
        }

        async fn due(&self) -> Millis {
            self.keeper
                .credential
                .lock()
                .await
                .renewal()
                .since(self.wall)
        }
    }

    /// A certificate is replaced when half of its life is over, again and again, and what replaces it is on the disk.
    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_renewed_at_half_of_its_life() {
        let world = World::new(true);
        let mut expires = world.keeper.expires();
        tokio::spawn(Arc::clone(&world.keeper).run());
        for _ in 0..3 {
            let (due, before) = (world.due().await, expires.borrow().certificate);
            expires.changed().await.unwrap();
            let now = Millis::from(world.began.elapsed());
            assert!(now >= due, "{now} is before {due}");
            assert!(
                now < due + Millis::from_secs(2),
                "{now} is long after {due}"
            );
            let gained = expires.borrow().certificate.since(before);
            assert!(
                Millis(3 * gained.0) > CERTIFICATE_LIFE,
                "only {gained} more"
            );
            let file = world.folder.path().join("node.credential");
            let kept = NodeCredential::read(&file, world.wall + now).unwrap();
            assert_eq!(Expiries::of(&kept), *expires.borrow());
        }
        world.link.close().await;
    }

    /// The authority's end is announced half a year ahead, and what is left of it is right.
    #[tokio::test(start_paused = true)]
    async fn the_authority_s_end_is_announced() {
        let world = World::new(true);
        let expiries = *world.keeper.expires().borrow();
        let years = expiries.authority.since(world.wall).0 / (365 * 24 * 3_600_000);
        assert!((9..=10).contains(&years), "{years} years");
        let begin = expiries.authority - AUTHORITY_WARNING;
        assert_eq!(expiries.authority_warning(begin), None);
        let said = expiries.authority_warning(begin + Millis(1_001)).unwrap();
        assert!(said.contains("rotate-ca"), "{said}");
        assert!(expiries.authority_warning(expiries.authority).is_some());
        world.link.close().await;
    }

    /// A renewal that fails is tried again, more and more often as the end comes nearer, and never without a pause.
    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_is_tried_again() {
        let world = World::new(false);
        let due = world.due().await;
        let running = tokio::spawn(Arc::clone(&world.keeper).run());
        tokio::time::sleep((CERTIFICATE_LIFE + Millis::from_secs(60)).duration()).await;
        running.abort();
        let asked = world.asked.0.lock().unwrap();
        let asked: Vec<_> = asked
            .iter()
            .map(|at| Millis::from(*at - world.began))
            .collect();
        assert!(asked[0] >= due && asked[0] < due + Millis::from_secs(2));
        let hour = Millis::from(RETRY_MAX);
        let early = asked.iter().filter(|at| **at < due + Millis(5 * hour.0));
        let late = asked.iter().filter(|at| **at + hour >= CERTIFICATE_LIFE);
        let (early, late) = (early.count() / 5, late.count());
        assert!(
            late > early,
            "{late} in the last hour, {early} in an early one"
        );
        let last = asked.last().unwrap();
        assert!(
            *last + Millis::from_secs(20) >= CERTIFICATE_LIFE,
            "it gave up at {last}"
        );
    }
}
