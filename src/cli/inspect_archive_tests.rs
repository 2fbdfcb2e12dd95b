use super::*;
use crate::history::tests::{Files, ended};

fn look(state: &State, files: &Files) -> ArchiveCheck {
    let file = |hash: &BlobHash| PathBuf::from(format!("blobs/{}", hash.short()));
    check(state, |hash| Ok(files.get(hash).cloned()), file)
}

/// A whole archive is counted; the last batch may be in the state alone.
#[test]
fn a_whole_archive_holds() {
    let (state, files) = ended(600);
    let found = look(&state, &files);
    assert_eq!((found.whole_batches, found.whole_jobs), (2, 512));
    assert_eq!(found.whole_jobs, state.archived_jobs());
    assert_eq!((found.in_state_alone, found.broken), (0, None));
}

/// Every batch that is missing, torn, flipped in a bit or exchanged for another is found, with its file and what to do.
#[test]
fn damage_is_named() {
    let (state, files) = ended(1_100);
    let damages: [fn(&mut Files, BlobHash); 4] = [
        |files, hash| drop(files.remove(&hash)),
        |files, hash| files.get_mut(&hash).unwrap().truncate(100),
        |files, hash| files.get_mut(&hash).unwrap()[77] ^= 4,
        |files, hash| {
            let other = files.values().next().unwrap().clone();
            let another = files.values().nth(1).unwrap().clone();
            let mine = &files[&hash];
            let exchanged = if *mine == other { another } else { other };
            files.insert(hash, exchanged);
        },
    ];
    let mut at = state.archive_head();
    let mut whole = 0;
    while let Some(link) = at {
        for (number, damage) in damages.iter().enumerate() {
            let mut files = files.clone();
            damage(&mut files, link.hash);
            let found = look(&state, &files);
            let broken = found.broken.expect("noticed");
            assert_eq!((broken.batch, found.whole_batches), (link, whole));
            assert!(broken.file.ends_with(link.hash.short()));
            let missing = broken.advice == ADVICE_MISSING;
            assert_eq!(missing, number == 0, "{broken:?}");
        }
        whole += 1;
        at = walk(Some(link), 1, |hash| Ok(files[hash].clone())).next;
    }
    assert_eq!(whole, 4);
}

/// What a person reads, of a broken archive and of none.
#[test]
fn the_words() {
    let (state, mut files) = ended(600);
    let head = state.archive_head().unwrap();
    files.remove(&head.hash);
    let report = |state: &State, files: &Files| ArchiveReport {
        node: NodeId(7),
        head: state.archive_head(),
        jobs: state.archived_jobs(),
        found: look(state, files),
    };
    insta::assert_snapshot!(lines(&report(&state, &files)).join("\n"));
    let (state, files) = ended(3);
    assert_eq!(
        lines(&report(&state, &files)),
        ["no job has left the state yet, so there is no archive"]
    );
}
