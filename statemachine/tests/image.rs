//! Images of the state: damage is noticed, and every view can be sent.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use riftmesh_base::ConfigurationName;
use riftmesh_statemachine::query::{ConfigurationView, JobFilter, RosterRow, StateSummary};
use riftmesh_statemachine::script::Script;
use riftmesh_statemachine::{RestoreError, State};

/// A story with something of everything in it.
const STORY: &str = "found
admit n1 voter ; admit n2 worker
@5.1 open n1 gen=3 slots=4 ; open n2 slots=2 cuda
submit self-play hex8_2p x=6 key=
submit self-play hex8_2p x=3
submit train hex8_2p after=j1,j2
submit evaluate hex8_2p from=90s
@5.2 claim s1 2
complete j1 6.0 segment=aa:8:300
register hex8_2p b1 ; register square8_2p b2
match hex8_2p 01 b1@64:60-20:untrained@64
promote hex8_2p b1 over=none
holder aa n2
cancel j2
lock exporter alice 60s ; lock importer bob 90s
set loop.paused by=alice to true
set greeting to hello
unset greeting
share red weight=3 jobs=10 ; share blue weight=1
open n2 gen=1 slots=4 mem=24000 labels=big+quiet cuda
submit train hex8_2p tenant=red labels=big mem=8000 cuda x=2 every=60s key=cron scope=tenant
submit evaluate square8_2p tenant=blue after=j3 await=over
claim s3 2
upgrade 2 n1
token 1 secret=aa uses=3 until=3600s ; token 2 secret=bb until=60s
join 1 n6 secret=aa key=c6 wall=5s ; join 1 n7 secret=aa key=c7 wall=5s
untoken 2 ; distrust n7 wall=9s stolen
upgrade 3 n1
submit train hex8_2p x=2 prio=150 yields
claim s3 2
checkpoint j9 26.0 cc 1000 5 n2
submit train hex8_2p labels=big prio=255
drain n2 within=600s ; authority 1 2 wall=10s
adopt n1 2 trusting ; adopt n6 2 trusting ; force trusting wall=11s
adopt n1 2 renewing";

fn lived() -> State {
    told_until("")
}

#[test]
fn an_image_is_the_state() {
    let state = lived();
    let image = state.snapshot();
    let restored = State::restore(&image).unwrap();
    assert_eq!(restored, state);
    assert_eq!(restored.snapshot(), image);
    assert_eq!(restored.hash(), state.hash());
    assert_ne!(State::new().hash(), state.hash());
}

proptest! {
    /// One flipped bit anywhere is noticed.
    #[test]
    fn a_flipped_bit_is_noticed(bit: prop::sample::Index) {
        let mut image = lived().snapshot();
        let bit = bit.index(image.len() * 8);
        image[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(State::restore(&image).is_err());
    }

    /// A cut or longer image is refused, never a panic.
    #[test]
    fn other_lengths_are_refused(cut: prop::sample::Index, more in 1usize..9) {
        let mut image = lived().snapshot();
        let cut = cut.index(image.len());
        prop_assert!(State::restore(&image[..cut]).is_err());
        image.extend(vec![0; more]);
        prop_assert!(matches!(State::restore(&image), Err(RestoreError::Sections(_))));
    }

    /// Whatever the bytes are, restoring them is an error or a state that keeps every rule.
    #[test]
    fn noise_is_refused(noise: Vec<u8>) {
        prop_assert!(State::restore(&noise).is_err());
    }
}

/// Every version of the image with the line of the story that it could not have known yet, empty for the present one.
const VERSIONS: [(u8, &str); 5] = [
    (1, "lock exporter"),
    (2, "share red"),
    (3, "token 1"),
    (4, "upgrade 3"),
    (5, ""),
];

/// The image of a version as the build wrote it that had this version, in hexadecimal digits.
fn fixture(version: u8) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    folder.join(format!("image-v{version}.hex"))
}

/// The state that the story gives before the line that begins with `end`.
fn told_until(end: &str) -> State {
    let mut script = Script::new();
    let lines = STORY.lines();
    for line in lines.take_while(|line| end.is_empty() || !line.starts_with(end)) {
        script.line(line).unwrap();
    }
    script.state().clone()
}

/// An image of any version, made by the build that wrote that version, is the state that the same commands give now.
/// The present version's is recorded with `RIFTMESH_BLESS=1`, and never again once a later one exists.
#[test]
fn images_of_every_version_are_read() {
    let bless = std::env::var_os("RIFTMESH_BLESS").is_some_and(|value| value == "1");
    for (version, end) in VERSIONS {
        let state = told_until(end);
        if end.is_empty() && bless {
            let digits = state.snapshot().into_iter();
            let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
            fs::write(fixture(version), digits + "\n").unwrap();
        }
        let digits = fs::read_to_string(fixture(version)).unwrap();
        let pairs = digits.trim().as_bytes().chunks(2);
        let bytes = pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16));
        let image: Vec<u8> = bytes.map(Result::unwrap).collect();
        assert_eq!(image[4], version, "the fixture is of another version");
        assert_eq!(
            State::restore(&image).as_ref(),
            Ok(&state),
            "version {version}"
        );
    }
}

/// A version that this build has not heard of is refused, whatever it holds.
#[test]
fn foreign_versions_are_refused() {
    let image = lived().snapshot();
    let newest = VERSIONS.map(|(version, _)| version).into_iter().max();
    for version in [0, newest.unwrap() + 1, 255] {
        let mut foreign = image.clone();
        foreign[4] = version;
        let refused = State::restore(&foreign);
        assert!(matches!(refused, Err(RestoreError::Header(_))), "{version}");
    }
}

/// Every view goes through postcard to other nodes and through JSON to people.
#[test]
fn views_encode_both_ways() {
    let state = lived();
    let name: ConfigurationName = "hex8_2p".parse().unwrap();
    let view = state.configuration(&name).unwrap();
    assert_eq!(
        riftmesh_base::decode::<ConfigurationView>(&riftmesh_base::encode(&view)),
        Ok(view)
    );
    let roster = state.roster();
    assert_eq!(
        riftmesh_base::decode::<Vec<RosterRow>>(&riftmesh_base::encode(&roster)),
        Ok(roster)
    );
    let summary = state.summary();
    assert_eq!(
        riftmesh_base::decode::<StateSummary>(&riftmesh_base::encode(&summary)),
        Ok(summary)
    );
    let jobs = state.jobs(&JobFilter {
        limit: 3,
        ..JobFilter::default()
    });
    let jobs: Vec<_> = jobs.into_iter().cloned().collect();
    assert_eq!(jobs.len(), 3);
    assert!(jobs.is_sorted_by(|a, b| a.id > b.id));
    assert_eq!(
        riftmesh_base::decode(&riftmesh_base::encode(&jobs)),
        Ok(jobs)
    );
}

/// Filters restrict, and paging goes on where the last page ended.
#[test]
fn jobs_are_filtered_and_paged() {
    // What came later in the story is not what these filters are about.
    let state = told_until(VERSIONS[0].1);
    let list = |filter: JobFilter| {
        state
            .jobs(&filter)
            .into_iter()
            .map(|job| job.id.to_string())
            .collect::<Vec<_>>()
    };
    let all = JobFilter {
        limit: usize::MAX,
        ..JobFilter::default()
    };
    assert_eq!(
        list(JobFilter {
            phase: Some("delayed".parse().unwrap()),
            ..all.clone()
        }),
        ["j6"]
    );
    assert_eq!(
        list(JobFilter {
            kind: Some("train".parse().unwrap()),
            ..all.clone()
        }),
        ["j5"]
    );
    assert_eq!(
        list(JobFilter {
            configuration: "square8_2p".parse().ok(),
            ..all.clone()
        }),
        [""; 0]
    );
    let first = JobFilter {
        limit: 2,
        ..all.clone()
    };
    assert_eq!(list(first.clone()), ["j6", "j5"]);
    assert_eq!(
        list(JobFilter {
            before: "j5".parse().ok(),
            ..first
        }),
        ["j4", "j3"]
    );
}
