//! As much of Rust's grammar as the rules need: tokens, the paths a file names, the functions it defines.

use std::collections::{BTreeMap, BTreeSet};

/// An identifier, `::` or any other single character; comments and literals are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

/// A path that a file names, `std::fs::read` for example.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) lines: usize,
}

/// All paths in a file, in full where a `use` of the file shortens them, except those that begin at a module
/// which the file itself declares.
pub(crate) fn named_paths(source: &str) -> Vec<Named> {
    let tokens = tokens(source);
    let modules: BTreeSet<&str> =
        tokens.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text).collect();
    let (mut imported, mut plain) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1).map_or("", |next| next.text);
        // `use<..>` lists what an opaque type captures.
        at = if token.text == "use" && next != "<" {
            use_tree(&tokens, at + 1, "", &mut imported)
        } else if is_identifier(token.text) && next == "::" {
            plain_path(&tokens, at, &mut plain)
        } else {
            at + 1
        };
    }
    let shortened: BTreeMap<&str, &str> =
        imported.iter().map(|(name, named)| (name.as_str(), named.path.as_str())).collect();
    let in_full = plain.into_iter().map(|Named { line, path }| {
        let (first, rest) = path.split_once("::").unwrap_or((&path, ""));
        let path = shortened.get(first).map_or_else(|| path.clone(), |full| format!("{full}::{rest}"));
        Named { line, path }
    });
    let mut named: Vec<Named> = in_full.collect();
    named.extend(imported.into_iter().map(|(_, named)| named));
    named.retain(|named| !modules.contains(first_segment(&named.path)));
    named.sort();
    named
}

/// All functions that have a body.
pub(crate) fn functions(source: &str) -> Vec<Function> {
    let tokens = tokens(source);
    let is_definition = |at: &usize| tokens[*at].text == "fn" && is_identifier(tokens[at + 1].text);
    (0..tokens.len().saturating_sub(1))
        .filter(is_definition)
        .filter_map(|at| {
            let end = body_end(&tokens[at..])?;
            let Token { line, .. } = tokens[at];
            Some(Function { line, name: tokens[at + 1].text.into(), lines: end - line + 1 })
        })
        .collect()
}

pub(crate) fn first_segment(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

/// The line where the body of the function that begins here ends; None when it has no body.
fn body_end(tokens: &[Token<'_>]) -> Option<usize> {
    let (mut brackets, mut braces) = (0, 0);
    for token in tokens {
        match token.text {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets -= 1,
            // In a signature a semicolon may stand in an array's type.
            ";" if brackets == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

/// Adds every path of the `use` tree at `at` with the name it gets in the file, and returns where it ends.
fn use_tree(tokens: &[Token<'_>], mut at: usize, prefix: &str, imported: &mut Vec<(String, Named)>) -> usize {
    let mut path = prefix.to_owned();
    let mut alias = None;
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &path, imported);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => {
                alias = tokens.get(at + 1).map(|name| name.text);
                at += 2;
            }
            "::" | "self" => at += 1,
            segment => {
                path = if path.is_empty() { segment.into() } else { format!("{path}::{segment}") };
                at += 1;
            }
        }
    }
    let name = alias.or(path.split("::").last()).unwrap_or_default().to_owned();
    imported.push((name, Named { line, path }));
    at
}

fn plain_path(tokens: &[Token<'_>], mut at: usize, named: &mut Vec<Named>) -> usize {
    let line = tokens[at].line;
    let mut path = tokens[at].text.to_owned();
    at += 1;
    while let [colons, segment, ..] = &tokens[at..]
        && colons.text == "::"
        && is_identifier(segment.text)
    {
        path = format!("{path}::{}", segment.text);
        at += 2;
    }
    named.push(Named { line, path });
    at
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (length, is_token) = lexeme(rest, first);
        let (text, tail) = rest.split_at(length);
        if is_token {
            tokens.push(Token { line, text });
        }
        line += text.matches('\n').count();
        rest = tail;
    }
    tokens
}

/// The length of what stands at the beginning of the text, and whether it is a token that the rules look at.
fn lexeme(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (block_comment(rest), false)
    } else if let Some(length) = raw_string(rest) {
        (length, false)
    } else if first == '"' {
        (1 + quoted(&rest[1..], '"'), false)
    } else if first == '\'' {
        (character_or_lifetime(rest), false)
    } else if first.is_alphanumeric() || first == '_' {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (end, is_identifier(rest))
    } else if rest.starts_with("::") {
        (2, true)
    } else {
        (first.len_utf8(), !first.is_whitespace())
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|tail| tail.trim_start_matches('#').starts_with('"'))
    })?;
    let tail = &rest[prefix.len()..];
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    let close = format!("\"{}", "#".repeat(hashes));
    let body = &tail[hashes + 1..];
    let end = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(prefix.len() + hashes + 1 + end)
}

/// The length up to and with the closing quote.
fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}

fn character_or_lifetime(rest: &str) -> usize {
    let body = &rest[1..];
    let mut characters = body.chars();
    let (first, second) = (characters.next(), characters.next());
    if first == Some('\\') || second == Some('\'') { 1 + quoted(body, '\'') } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_where_code_names_them() {
        for (source, expected) in [
            ("use std::fs;", vec!["std::fs"]),
            (
                "use std::{fs, io::{self, Read as _}, net::*};",
                vec!["std::fs", "std::io", "std::io::Read", "std::net::*"],
            ),
            ("use ::tokio::time;", vec!["tokio::time"]),
            ("fn f() { let now = std::time::Instant::now(); }", vec!["std::time::Instant::now"]),
            ("fn f(k: <T as kube::Resource>::Kind) {}", vec!["kube::Resource"]),
            ("tracing::info!(\"std::fs\");", vec!["tracing::info"]),
            ("fn f() -> impl Sized + use<'a> { a::b() }", vec!["a::b"]),
            ("use std::io; fn f() { io::stdin(); }", vec!["std::io", "std::io::stdin"]),
            ("use a::b as c; fn f() { c::d(); }", vec!["a::b", "a::b::d"]),
            ("use crate::kube; fn f() { kube::new(); }", vec!["crate::kube", "crate::kube::new"]),
            ("// std::fs\n/* std::fs /* std::fs */ std::fs */ /// std::fs", vec![]),
            (
                "let a = \"\\\"std::fs\"; let b = r#\"\"std::fs\"#; let c = '\"'; let d = '\\''; e::f",
                vec!["e::f"],
            ),
            ("mod kube; pub use kube::KubeCluster;", vec![]),
        ] {
            let paths: Vec<_> = named_paths(source).into_iter().map(|named| named.path).collect();
            assert_eq!(paths, expected, "{source}");
        }
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = "/*\n*/ const A: &str = \"\n\";\nuse std::fs;\n";
        assert_eq!(named_paths(source), [Named { line: 4, path: "std::fs".into() }]);
    }

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        let source =
            "fn one() {}\ntrait T { fn none(a: [u8; 4]); }\nfn three(f: fn(u8)) {\n  if x { \"}\" }\n}\n";
        let found: Vec<_> = functions(source).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("one".to_owned(), 1, 1), ("three".to_owned(), 3, 3)]);
    }
}
