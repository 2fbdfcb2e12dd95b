//! Small files, small functions.

use super::Finding;
use super::tokens::SourceToken;
use super::tree::SourceTree;

const FILE_LINES_MAX: usize = 700;
const FILE_LINES_AIM: usize = 400;
const FUNCTION_LINES_AIM: usize = 70;

/// A file that outgrew one subject.
pub fn file_length(tree: &SourceTree) -> Vec<Finding> {
    let advice = "split it by subject; tests move to a sibling file first";
    tree.rust()
        .filter_map(|file| match file.text.lines().count() {
            lines if lines > FILE_LINES_MAX => {
                let message = format!("{lines} lines, at most {FILE_LINES_MAX}: {advice}");
                Some(Finding::error(&file.path, 0, message))
            }
            lines if lines > FILE_LINES_AIM => {
                let message = format!("{lines} lines, aim for {FILE_LINES_AIM}: {advice}");
                Some(Finding::warning(&file.path, 0, message))
            }
            _ => None,
        })
        .collect()
}

/// A function that outgrew one screen.
pub fn function_length(tree: &SourceTree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        for (name, line, lines) in functions(&file.tokens) {
            if lines > FUNCTION_LINES_AIM {
                let message = format!("`{name}` has {lines} lines, aim for {FUNCTION_LINES_AIM}");
                findings.push(Finding::warning(&file.path, line, message));
            }
        }
    }
    findings
}

/// Name, first line and length of every function with a body.
fn functions(tokens: &[SourceToken]) -> Vec<(&str, usize, usize)> {
    let mut out = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn"
            || !pair[1]
                .text
                .starts_with(|c: char| c.is_alphabetic() || c == '_')
        {
            continue;
        }
        if let Some(end) = body_end(&tokens[at..]) {
            out.push((pair[1].text.as_str(), pair[0].line, end - pair[0].line + 1));
        }
    }
    out
}

/// The line of the brace that closes the first block outside parentheses; none for a signature alone.
fn body_end(tokens: &[SourceToken]) -> Option<usize> {
    let (mut parentheses, mut braces) = (0_usize, 0_usize);
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" => parentheses += 1,
            ")" | "]" => parentheses = parentheses.saturating_sub(1),
            ";" if parentheses == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    /// The limit is exact and the aim warns.
    #[test]
    fn long_files_are_found() {
        let text = |lines| "fn f() {}\n".repeat(lines);
        let severity = |lines| {
            let tree = SourceTree::of(&[("src/a.rs", &text(lines))]);
            file_length(&tree).first().map(|f| f.severity)
        };
        assert_eq!(severity(FILE_LINES_AIM), None);
        assert_eq!(severity(FILE_LINES_AIM + 1), Some(Severity::Warning));
        assert_eq!(severity(FILE_LINES_MAX + 1), Some(Severity::Error));
    }

    /// Length runs from `fn` to the closing brace; a trait's signature has none.
    #[test]
    fn long_functions_are_found() {
        let source = format!(
            "trait T {{ fn signature(&self); }}\nfn long() {{\n{}}}\nfn short() {{ {{ }} }}",
            "    g();\n".repeat(FUNCTION_LINES_AIM)
        );
        let findings = function_length(&SourceTree::of(&[("src/a.rs", &source)]));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, 2);
        assert!(findings[0].message.contains("`long` has 72 lines"));
    }
}
