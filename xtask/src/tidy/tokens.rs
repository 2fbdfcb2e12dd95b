//! Rust source as a flat list of tokens with their lines: no comments, no string contents, no test modules.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One token of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceToken {
    /// The token's text. Every literal is the single character `"`, so that what is quoted matches no rule.
    pub text: String,
    /// From 1.
    pub line: usize,
}

/// The tokens of `source`, without those of modules that are compiled for tests only.
///
/// # Errors
/// Says where the text stops being Rust.
pub fn tokens(source: &str) -> Result<Vec<SourceToken>, String> {
    let stream: TokenStream = source.parse().map_err(|error: proc_macro2::LexError| {
        format!("line {}: {error}", error.span().start().line)
    })?;
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    Ok(flat)
}

/// Splits a pattern such as `SystemTime::now` into the texts of its tokens.
pub fn pattern(source: &str) -> Vec<String> {
    let stream: TokenStream = source.parse().unwrap_or_default();
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    flat.into_iter().map(|token| token.text).collect()
}

/// The lines at which `pattern` occurs in `tokens`. An empty pattern occurs nowhere.
pub fn find<'a>(
    tokens: &'a [SourceToken],
    pattern: &'a [String],
) -> impl Iterator<Item = usize> + 'a {
    tokens
        .windows(pattern.len().max(1))
        .filter(move |window| {
            !pattern.is_empty()
                && window
                    .iter()
                    .zip(pattern)
                    .all(|(token, text)| token.text == *text)
        })
        .map(|window| window[0].line)
}

fn flatten(stream: TokenStream, out: &mut Vec<SourceToken>) {
    let mut trees = stream.into_iter().peekable();
    // Set between `#[cfg(test)]` and the block of the item it belongs to.
    let mut for_tests = false;
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        let mut push = |text: String| out.push(SourceToken { text, line });
        match tree {
            TokenTree::Group(group) if for_tests && group.delimiter() == Delimiter::Brace => {
                for_tests = false;
            }
            TokenTree::Group(group) => flatten_group(&group, out),
            TokenTree::Ident(ident) => push(ident.to_string()),
            TokenTree::Literal(_) => push("\"".to_owned()),
            TokenTree::Punct(punct) => {
                if punct.as_char() == '#' {
                    for_tests |=
                        matches!(trees.peek(), Some(TokenTree::Group(g)) if is_cfg_test(g));
                } else if punct.as_char() == ';' {
                    for_tests = false;
                }
                push(punct.as_char().to_string());
            }
        }
    }
}

fn flatten_group(group: &Group, out: &mut Vec<SourceToken>) {
    let (open, close) = match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    };
    out.push(SourceToken {
        text: open.to_owned(),
        line: group.span_open().start().line,
    });
    flatten(group.stream(), out);
    out.push(SourceToken {
        text: close.to_owned(),
        line: group.span_close().start().line,
    });
}

fn is_cfg_test(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    attribute.delimiter() == Delimiter::Bracket && text == "cfg(test)"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source)
            .unwrap()
            .into_iter()
            .map(|t| t.text)
            .collect()
    }

    /// Comments and strings may mention anything; test modules have their own rules.
    #[test]
    fn only_product_code_is_seen() {
        let source =
            "// dbg!\nfn f() { g(\"dbg!\") }\n#[cfg(test)]\nmod tests { dbg!() }\nfn h() {}";
        let texts = texts(source);
        assert!(!texts.contains(&"dbg".to_owned()), "{texts:?}");
        assert!(
            texts.contains(&"h".to_owned()),
            "what follows is seen again"
        );
    }

    /// A path is found however it is laid out, with the line it starts at.
    #[test]
    fn patterns_match_tokens_not_characters() {
        let tokens = tokens("fn f() {\n  std::time::SystemTime\n    ::now()\n}").unwrap();
        let found: Vec<_> = find(&tokens, &pattern("SystemTime::now")).collect();
        assert_eq!(found, [2]);
        assert_eq!(find(&tokens, &pattern("Time::now")).count(), 0);
    }
}
