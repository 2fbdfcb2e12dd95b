//! Stories told to the state, with what it answered. `RIFTMESH_BLESS=1` rewrites the answers; the reviewer reads
//! the difference.

use std::fs;
use std::path::Path;

use riftmesh_statemachine::State;
use riftmesh_statemachine::script::Script;

/// What the state answers stands behind four spaces; everything else is the story.
const ANSWER: &str = "    ";

/// Tells the story in `text`, checking every rule and the image after each line.
fn tell(name: &str, text: &str) -> String {
    let mut script = Script::new();
    let mut told = String::new();
    for line in text.lines().filter(|line| !line.starts_with(ANSWER)) {
        told += line;
        told += "\n";
        let answers = script.line(line).unwrap_or_else(|e| panic!("{name}: {e}"));
        for answer in answers {
            told += &format!("{ANSWER}{answer}\n");
        }
        let state = script.state();
        assert_eq!(state.validate(), Ok(()), "{name}: after `{line}`");
        assert_eq!(
            State::restore(&state.snapshot()).as_ref(),
            Ok(state),
            "{name}: after `{line}`"
        );
    }
    told
}

/// Every story in `tests/data` gets exactly the answers written down there.
#[test]
fn stories_are_answered_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let bless = std::env::var_os("RIFTMESH_BLESS").is_some_and(|value| value == "1");
    let mut stories = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let recorded = fs::read_to_string(&path).unwrap();
        let told = tell(&name, &recorded);
        stories += 1;
        if bless {
            fs::write(&path, told).unwrap();
        } else {
            assert_eq!(
                told, recorded,
                "{name}: run with RIFTMESH_BLESS=1 and read the difference"
            );
        }
    }
    assert!(
        stories >= 21,
        "only {stories} stories found in {}",
        folder.display()
    );
}
