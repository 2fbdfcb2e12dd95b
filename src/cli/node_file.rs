//! `node run --config FILE`: options of a node in a file (TOML), under the names they have on the command line.
//!
//! What the file says is put behind what was typed, so that one parser checks both.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command};
use toml::de::{DeTable, DeValue};

use super::node::RunArgs;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The option that names the file. It cannot stand in one.
const CONFIG: &str = "config";

/// The command line `typed`, and behind it what the file says that its `node run --config` names, but for options that were
/// typed or come from the environment. Any other command line as it is.
///
/// # Errors
/// The file cannot be read, or something in it is wrong: which key on which line, and what belongs there.
pub fn complete(root: Command, typed: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    // What is wrong with what was typed is said by whoever parses it in earnest.
    let Ok(matches) = root.try_get_matches_from(&typed) else {
        return Ok(typed);
    };
    let node = matches.subcommand_matches("node");
    let Some(run) = node.and_then(|node| node.subcommand_matches("run")) else {
        return Ok(typed);
    };
    let Some(path) = run.get_one::<PathBuf>(CONFIG) else {
        return Ok(typed);
    };
    let text = read(path).with_context(|| format!("--config: cannot read {}", path.display()))?;
    let said = Options::new().read(&text, run);
    let said = said.map_err(|mistake| {
        let (path, line) = (path.display(), mistake.line);
        anyhow::anyhow!("{path}, line {line}: {}", mistake.reason)
    })?;
    Ok(typed.into_iter().chain(said).collect())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "it is longer than {FILE_BYTES_MAX} bytes"
    );
    Ok(text)
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
struct Mistake {
    line: usize,
    reason: String,
}

impl Mistake {
    fn at(text: &str, span: Option<Range<usize>>, reason: String) -> Self {
        let before = span.and_then(|span| text.get(..span.start));
        let line = 1 + before.unwrap_or_default().matches('\n').count();
        Self { line, reason }
    }
}

/// The options of `node run`.
struct Options(Command);

impl Options {
    fn new() -> Self {
        Self(RunArgs::augment_args(Command::new("node run")))
    }

    /// What a file says, as options; what `typed` has already is checked and left out.
    fn read(&self, text: &str, typed: &ArgMatches) -> Result<Vec<OsString>, Mistake> {
        let table = DeTable::parse(text).map_err(|error| {
            let reason = format!("this is no TOML: {}", error.message());
            Mistake::at(text, error.span(), reason)
        })?;
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut options = Vec::new();
        for (key, value) in entries {
            let words = self.option(key.get_ref(), value.get_ref());
            let (option, words) =
                words.map_err(|reason| Mistake::at(text, Some(key.span()), reason))?;
            let source = typed.value_source(option.get_id().as_str());
            if source.is_none_or(|source| source == ValueSource::DefaultValue) {
                options.extend(words);
            }
        }
        Ok(options.into_iter().map(OsString::from).collect())
    }

    /// An option of the file as it would be typed.
    fn option(&self, key: &str, value: &DeValue<'_>) -> Result<(&Arg, Vec<String>), String> {
        let option = self.known().find(|option| option.get_long() == Some(key));
        let option = option.ok_or_else(|| self.unknown(key))?;
        let words = words(option, key, value)?;
        // By itself, so that what is wrong with it can be said of its line.
        let alone = [self.0.get_name(), "--config=-"].map(str::to_owned);
        let tried = alone.into_iter().chain(words.iter().cloned());
        match self.0.clone().try_get_matches_from(tried) {
            Err(error) if is_about_the_value(&error) => Err(format!(
                "{}; {key}: {}",
                first_part(&error.to_string()),
                help(option)
            )),
            _ => Ok((option, words)),
        }
    }

    fn known(&self) -> impl Iterator<Item = &Arg> {
        let visible = self
            .0
            .get_arguments()
            .filter(|option| !option.is_hide_set());
        visible.filter(|option| option.get_id() != CONFIG)
    }

    fn unknown(&self, key: &str) -> String {
        let known: Vec<_> = self.known().filter_map(Arg::get_long).collect();
        format!("there is no key `{key}`; there are {}", known.join(", "))
    }
}

fn words(option: &Arg, key: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let one = |value: &DeValue<'_>| {
        let text = scalar(value);
        text.map(|text| format!("--{key}={text}"))
    };
    let (words, expected) = match (option.get_action(), value) {
        (ArgAction::SetTrue, value) => {
            let words = value.as_bool().map(|is_set| match is_set {
                true => vec![format!("--{key}")],
                false => Vec::new(),
            });
            (words, "true or false")
        }
        (ArgAction::Append, DeValue::Array(items)) => {
            let words = items.iter().map(|item| one(item.get_ref())).collect();
            (words, "a list of texts, or one text")
        }
        (ArgAction::Append, value) => (
            one(value).map(|word| vec![word]),
            "a list of texts, or one text",
        ),
        (_, value) => (
            one(value).map(|word| vec![word]),
            "one text or whole number",
        ),
    };
    words.ok_or_else(|| {
        let found = value.type_str();
        format!(
            "`{key}` takes {expected}, and not this {found}; {key}: {}",
            help(option)
        )
    })
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        _ => None,
    }
}

fn is_about_the_value(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidValue
            | ErrorKind::ValueValidation
            | ErrorKind::WrongNumberOfValues
            | ErrorKind::TooManyValues
            | ErrorKind::TooFewValues
            | ErrorKind::NoEquals
    )
}

/// What clap says before it names `--help`, in one line.
fn first_part(text: &str) -> String {
    let part = text.split("\n\n").next().unwrap_or(text);
    let lines: Vec<_> = part.lines().map(str::trim).collect();
    let line = lines.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn help(option: &Arg) -> String {
    let help = option.get_help();
    help.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{CommandFactory, Parser};
    use riftmesh_base::Role;

    use super::super::{Cli, Command as Family};
    use super::*;
    use crate::cli::node::NodeCommand;
    use crate::node::NodeConfig;

    /// What `node run` makes of a file and of what was typed besides.
    fn run(file: &str, typed: &[&str]) -> anyhow::Result<NodeConfig> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        fs::write(&path, file).unwrap();
        let path = path.to_str().unwrap();
        let typed = [&["riftmesh", "node", "run", "--config", path], typed].concat();
        let typed = typed.into_iter().map(OsString::from).collect();
        let complete = complete(Cli::command(), typed)?;
        match Cli::try_parse_from(complete)?.command {
            Family::Node(NodeCommand::Run(args)) => args.check(),
            other => panic!("{other:?}"),
        }
    }

    fn refused(file: &str) -> String {
        let error = format!("{:#}", run(file, &[]).unwrap_err());
        // Its folder is another one each time.
        let (_, said) = error.split_once("node.toml").unwrap();
        said.to_owned()
    }

    const WHOLE: &str = r#"
# A worker with a GPU.
name = "gpu-1"
listen = "10.0.0.9:7700"
seeds = ["10.0.0.1:7700", "10.0.0.2:7700"]
slots = 4
cuda = "cuda:0"
gpu-memory-mib = 0x4000
label = ["big", "eu"]
dial-out = true
zone = "rack-7"
"#;

    /// Each kind of option can stand in the file, under its name on the command line; what is typed wins, lists included; what
    /// neither says has the default.
    #[test]
    fn a_file_says_what_could_be_typed() {
        let config = run(WHOLE, &[]).unwrap();
        assert_eq!(config.name, "gpu-1");
        assert_eq!(config.role, Role::Worker);
        assert_eq!(config.seeds.len(), 2);
        assert_eq!(
            (config.slots, config.gpu_memory_mib, config.dial_out),
            (4, 16_384, true)
        );
        assert_eq!(config.cuda, ["cuda:0"]);
        assert_eq!(Vec::from_iter(config.labels), ["big", "eu"]);
        assert_eq!(config.http, "127.0.0.1:7700".parse().unwrap());
        let typed = [
            "--slots=7",
            "--seeds=10.0.0.3:7700",
            "--label=small",
            "--name",
            "x",
        ];
        let config = run(WHOLE, &typed).unwrap();
        assert_eq!((config.slots, config.name.as_str()), (7, "x"));
        assert_eq!(config.seeds, ["10.0.0.3:7700".parse().unwrap()]);
        assert_eq!(Vec::from_iter(config.labels), ["small"]);
        assert_eq!(config.zone.as_deref(), Some("rack-7"));
        // What is needed may come from either side.
        let file = "dial-out = false\nlisten = '10.0.0.9:7700'";
        let config = run(file, &["--seeds", "10.0.0.1:7700"]).unwrap();
        assert!(!config.dial_out);
    }

    /// What is wrong is said with the line, the key, and what belongs there.
    #[test]
    fn mistakes_in_a_file_are_named() {
        let cases = [
            (
                "slots = 1\nslot = 2",
                ", line 2: there is no key `slot`; there are dir, name,",
            ),
            ("\n\nlifeline = true", ", line 3: there is no key"),
            ("config = 'other.toml'", ", line 1: there is no key"),
            ("[node]\nslots = 1", ", line 1: there is no key `node`"),
            (
                "seeds = []\nslots = 'many'",
                ", line 2: invalid value 'many' for '--slots <SLOTS>'",
            ),
            ("slots = 70000", ", line 1: invalid value '70000'"),
            ("slots = -1", "; slots: Jobs this node runs at once"),
            (
                "slots = [1]",
                ", line 1: `slots` takes one text or whole number, and not this array",
            ),
            (
                "slots = 1.5",
                "and not this float; slots: Jobs this node runs at once",
            ),
            ("dial-out = 'yes'", "`dial-out` takes true or false"),
            (
                "seeds = ['10.0.0.1:7700', 'nowhere']",
                "invalid value 'nowhere' for '--seeds",
            ),
            ("seeds = [[1]]", "`seeds` takes a list of texts"),
            ("preset = 'huge'", "[possible values: tiny, scratch, smoke]"),
            (
                "zone = 'a b'",
                "letters, digits, `-`, `_`, `.` and `/`; zone: Where the machine",
            ),
            (
                "name = 'a'\nname = 'b'",
                ", line 2: this is no TOML: duplicate key",
            ),
            ("name", ", line 1: this is no TOML"),
        ];
        for (file, expected) in cases {
            let said = refused(file);
            assert!(
                said.contains(expected),
                "{file:?}: {said} lacks {expected:?}"
            );
        }
        let long = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        assert!(refused(&long).contains("longer than"));
        let none = ["riftmesh", "node", "run", "--config", "nowhere/node.toml"].map(OsString::from);
        let error = complete(Cli::command(), none.to_vec()).unwrap_err();
        assert!(
            format!("{error:#}").contains("cannot read nowhere/node.toml"),
            "{error:#}"
        );
        let error = run("name = 'n'", &[]).unwrap_err().to_string();
        assert!(error.contains("--seeds"), "{error}");
    }

    /// Other command lines are left alone, wrong ones too.
    #[test]
    fn the_rest_is_not_touched() {
        for line in [
            "riftmesh status",
            "riftmesh node run --slots many",
            "riftmesh",
        ] {
            let typed: Vec<_> = line.split(' ').map(OsString::from).collect();
            assert_eq!(complete(Cli::command(), typed.clone()).unwrap(), typed);
        }
    }
}
