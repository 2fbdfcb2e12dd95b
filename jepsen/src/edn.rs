//! The part of EDN that histories use: enough for Clojure tools to read ours, and for us to read it back.

use std::fmt;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edn {
    /// `nil`
    Nil,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// `"text"`
    Str(String),
    /// `:name`
    Keyword(String),
    /// `[a b]`; a list `(a b)` is read as one too.
    Vector(Vec<Edn>),
    /// `{:a 1}`, in the order written.
    Map(Vec<(Edn, Edn)>),
}

/// Text that is not the EDN understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseEdnError {
    /// Byte offset in the text.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for ParseEdnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

impl std::error::Error for ParseEdnError {}

/// Values nested deeper than this are refused: no history is, and a parser must not run out of stack.
const DEPTH_MAX: usize = 32;

impl Edn {
    /// `:name`
    pub fn keyword(name: impl Into<String>) -> Self {
        Self::Keyword(name.into())
    }

    /// A map with keyword keys.
    pub fn map<const N: usize>(entries: [(&str, Edn); N]) -> Self {
        let keyed = entries.map(|(name, value)| (Self::keyword(name), value));
        Self::Map(keyed.into())
    }

    /// The value under the keyword `name`, if this is a map that has it.
    pub fn get(&self, name: &str) -> Option<&Edn> {
        let Self::Map(entries) = self else {
            return None;
        };
        let is_name = |key: &Edn| matches!(key, Self::Keyword(k) if k == name);
        entries
            .iter()
            .find(|(key, _)| is_name(key))
            .map(|(_, value)| value)
    }

    /// The number, if it is one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The text of a string or the name of a keyword.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Keyword(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is a vector.
    pub fn items(&self) -> Option<&[Edn]> {
        match self {
            Self::Vector(items) => Some(items),
            _ => None,
        }
    }

    /// Reads one value that must fill `text` but for white space.
    ///
    /// # Errors
    /// Says where and what was expected.
    pub fn parse(text: &str) -> Result<Self, ParseEdnError> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.at == text.len() {
            Ok(value)
        } else {
            Err(reader.expected("the end"))
        }
    }
}

impl From<&str> for Edn {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<i64> for Edn {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl<T: Into<Edn>> From<Option<T>> for Edn {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Str(text) => write_string(f, text),
            Self::Keyword(name) => write!(f, ":{name}"),
            Self::Vector(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// With the escapes that EDN knows; other control characters become spaces, since no fact of a history is in them.
fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => f.write_str(" ")?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn expected(&self, expected: &'static str) -> ParseEdnError {
        ParseEdnError {
            at: self.at,
            expected,
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek().filter(|c| c.is_whitespace() || *c == ',') {
            self.at += c.len_utf8();
        }
    }

    /// The longest run of characters of a number, a keyword or a word.
    fn word(&mut self) -> &str {
        let start = self.at;
        let ends = |c: char| c.is_whitespace() || "\",[](){}:".contains(c);
        let length = self.text[start..]
            .find(ends)
            .unwrap_or(self.text.len() - start);
        self.at += length;
        &self.text[start..self.at]
    }

    fn value(&mut self, depth: usize) -> Result<Edn, ParseEdnError> {
        if depth > DEPTH_MAX {
            return Err(self.expected("a value that is not nested so deep"));
        }
        self.skip_space();
        match self.peek() {
            Some('"') => self.string(),
            Some(':') => {
                self.at += 1;
                match self.word() {
                    "" => Err(self.expected("the name of a keyword")),
                    name => Ok(Edn::Keyword(name.to_owned())),
                }
            }
            Some('[') => self.sequence(']', depth).map(Edn::Vector),
            Some('(') => self.sequence(')', depth).map(Edn::Vector),
            Some('{') => {
                let items = self.sequence('}', depth)?;
                if items.len() % 2 == 1 {
                    return Err(self.expected("a value for the last key"));
                }
                let mut items = items.into_iter();
                let mut entries = Vec::new();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    entries.push((key, value));
                }
                Ok(Edn::Map(entries))
            }
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<Edn, ParseEdnError> {
        let start = self.at;
        match self.word() {
            "nil" => Ok(Edn::Nil),
            "true" => Ok(Edn::Bool(true)),
            "false" => Ok(Edn::Bool(false)),
            word => word.parse().map(Edn::Int).map_err(|_| ParseEdnError {
                at: start,
                expected: "a value",
            }),
        }
    }

    /// The values up to `close`.
    fn sequence(&mut self, close: char, depth: usize) -> Result<Vec<Edn>, ParseEdnError> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(c) if c == close => {
                    self.at += 1;
                    return Ok(items);
                }
                Some(_) => items.push(self.value(depth + 1)?),
                None => return Err(self.expected("a closing bracket")),
            }
        }
    }

    fn string(&mut self) -> Result<Edn, ParseEdnError> {
        self.at += 1;
        let mut out = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(Edn::Str(out)),
                '\\' => out.push(self.escape()?),
                c => out.push(c),
            }
        }
        Err(self.expected("a closing quote"))
    }

    fn escape(&mut self) -> Result<char, ParseEdnError> {
        let c = match self.peek() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(c @ ('"' | '\\')) => c,
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        Ok(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Edn> {
        let leaf = prop_oneof![
            Just(Edn::Nil),
            any::<bool>().prop_map(Edn::Bool),
            any::<i64>().prop_map(Edn::Int),
            "[^\\p{Cc}]*".prop_map(Edn::Str),
            "[a-z][a-z0-9-]{0,8}".prop_map(Edn::Keyword),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Edn::Vector),
                prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Edn::Map),
            ]
        })
    }

    proptest! {
        /// What is written reads back as itself.
        #[test]
        fn values_round_trip(value in values()) {
            prop_assert_eq!(Edn::parse(&value.to_string()).unwrap(), value);
        }

        /// No text makes the reader panic.
        #[test]
        fn reading_never_panics(text: String) {
            if let Ok(value) = Edn::parse(&text) {
                prop_assert_eq!(Edn::parse(&value.to_string()).unwrap(), value);
            }
        }
    }

    #[test]
    fn errors_say_where() {
        let error = Edn::parse("{:a [1 2}").unwrap_err();
        assert_eq!(error.to_string(), "expected a value at byte 8");
        assert_eq!(Edn::parse("(1 2)"), Edn::parse("[1 2]"));
        assert!(
            Edn::parse(&"[".repeat(100_000)).is_err(),
            "deep nesting is refused"
        );
    }
}
