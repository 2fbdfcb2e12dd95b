//! Names that must not occur, each with what to use instead.

use super::Finding;
use super::tokens::{find, pattern};
use super::tree::{SourceFile, SourceTree};

/// A token sequence that must not occur in product code.
struct Ban {
    code: &'static str,
    /// Why, and what to use instead.
    instead: &'static str,
    /// Path prefixes it applies to; empty for all.
    within: &'static [&'static str],
    /// Path prefixes it does not apply to.
    except: &'static [&'static str],
}

const EVERYWHERE: &[&str] = &[];
/// Crates whose every run has to be repeatable from its arguments.
const PURE: &[&str] = &[
    "rules/src/",
    "search/src/",
    "statemachine/src/",
    "membership/src/agent",
];
const REPLICATED: &[&str] = &["statemachine/src/"];

const fn everywhere(code: &'static str, instead: &'static str) -> Ban {
    Ban {
        code,
        instead,
        within: EVERYWHERE,
        except: EVERYWHERE,
    }
}

const fn within(paths: &'static [&'static str], code: &'static str, instead: &'static str) -> Ban {
    Ban {
        code,
        instead,
        within: paths,
        except: EVERYWHERE,
    }
}

const HASHED: &str = "its order differs between voters; use a BTreeMap or BTreeSet";
const FLOAT: &str = "rounding may differ between voters; use integers (milli-Elo, per mille)";
const UNBOUNDED: &str =
    "an unbounded queue hides overload until memory ends; use a bounded channel";
const CLOCK: &str = "take a Millis or a Clock as an argument";
const ENTROPY: &str = "take a Seed or a generator as an argument";

const BANS: &[Ban] = &[
    everywhere("todo!", "finish it, or leave the feature out"),
    everywhere("unimplemented!", "finish it, or leave the feature out"),
    everywhere("dbg!", "use tracing"),
    everywhere("unbounded_channel", UNBOUNDED),
    everywhere("mpsc::unbounded", UNBOUNDED),
    everywhere("flume::unbounded", UNBOUNDED),
    everywhere("std::sync::mpsc::channel", UNBOUNDED),
    everywhere("mpsc::channel()", UNBOUNDED),
    everywhere("static mut", "pass state by argument"),
    everywhere(
        "lazy_static!",
        "pass state by argument, or use std's LazyLock for constant tables",
    ),
    everywhere("thread_rng", ENTROPY),
    Ban {
        code: "SystemTime::now",
        instead: CLOCK,
        within: EVERYWHERE,
        // The harness compares its time with what nodes wrote down, and shares no code with them.
        except: &["base/src/time.rs", "jepsen/src/mesh/sightings.rs"],
    },
    Ban {
        code: "env::var",
        instead: "settings come from the configuration, which alone reads the environment",
        within: &[
            "base/",
            "rules/src/",
            "search/src/",
            "learning/src/",
            "statemachine/src/",
            "storage/src/",
            "transport/src/",
            "membership/src/",
            "raft/src/",
        ],
        except: EVERYWHERE,
    },
    within(PURE, "Instant::now", CLOCK),
    within(PURE, "rand::rng()", ENTROPY),
    within(PURE, "rand::random", ENTROPY),
    within(PURE, "from_os_rng", ENTROPY),
    within(
        PURE,
        "std::fs",
        "a pure crate does no I/O; return the bytes",
    ),
    within(PURE, "std::net::TcpStream", "a pure crate does no I/O"),
    within(PURE, "std::thread", "a pure crate starts no threads"),
    within(REPLICATED, "HashMap", HASHED),
    within(REPLICATED, "HashSet", HASHED),
    within(REPLICATED, "f32", FLOAT),
    within(REPLICATED, "f64", FLOAT),
];

/// Leftover reminders; written in two parts so that this file does not find itself.
const REMINDERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
];

impl Ban {
    fn covers(&self, file: &SourceFile) -> bool {
        let under = |paths: &[&str]| paths.iter().any(|path| file.path.starts_with(path));
        !file.is_test() && (self.within.is_empty() || under(self.within)) && !under(self.except)
    }
}

/// Banned names in product code.
pub fn banned_code(tree: &SourceTree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ban in BANS {
        let code = pattern(ban.code);
        for file in tree.rust().filter(|file| ban.covers(file)) {
            findings.extend(find(&file.tokens, &code).map(|line| {
                Finding::error(&file.path, line, format!("`{}`: {}", ban.code, ban.instead))
            }));
        }
    }
    findings
}

/// Leftover reminders in sources and documents, as whole words, and ignored tests.
pub fn banned_text(tree: &SourceTree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if !file.is_rust() && !file.path.ends_with(".md") && !file.path.ends_with(".toml") {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            if let Some(message) = text_finding(line, file.is_rust()) {
                findings.push(Finding::error(&file.path, number + 1, message));
            }
        }
    }
    findings
}

fn text_finding(line: &str, rust: bool) -> Option<String> {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    if let Some(word) = words.find(|word| REMINDERS.contains(word)) {
        return Some(format!("leftover `{word}`: do it now, or open an issue"));
    }
    // Read as text, because the tokens of test modules are left out.
    let ignored = rust && line.trim_start().starts_with("#[ignore");
    ignored
        .then(|| "an ignored test proves nothing; assert today's behaviour with a note".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every ban fires on its own code in a place it covers.
    #[test]
    fn every_ban_fires() {
        for ban in BANS {
            let folder = ban.within.first().unwrap_or(&"src/").trim_end_matches('/');
            let tree = SourceTree::of(&[(&format!("{folder}/a.rs"), &format!("\n{}", ban.code))]);
            let hits = banned_code(&tree);
            assert!(
                hits.iter()
                    .any(|f| f.line == 2 && f.message.contains(ban.code)),
                "`{}` was not found",
                ban.code
            );
        }
    }

    /// Exceptions are by path, tests are their own masters, and a bounded channel is none of our business.
    #[test]
    fn exceptions_hold() {
        let tree = SourceTree::of(&[
            ("base/src/time.rs", "fn f() { SystemTime::now() }"),
            ("learning/src/a.rs", "fn f(x: f32) { mpsc::channel(16) }"),
            ("storage/src/crash_tests.rs", "fn f() { env::var() }"),
        ]);
        assert_eq!(banned_code(&tree), []);
    }

    /// Also inside a test module, where they live.
    #[test]
    fn ignored_tests_are_found() {
        let source = "#[cfg(test)]\nmod tests {\n    #[ignore = \"slow\"]\n    fn f() {}\n}";
        let findings = banned_text(&SourceTree::of(&[("src/a.rs", source)]));
        assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [3]);
    }

    /// Reminders are words, wherever they stand.
    #[test]
    fn reminders_are_found() {
        let text = format!("// fine\n// {}: later", REMINDERS[0]);
        let findings = banned_text(&SourceTree::of(&[
            ("src/a.rs", &text),
            ("src/b.rs", "// todos are words"),
        ]));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
    }
}
