//! Owns the reading of Rust source for the tidy tests: files, code without comments and strings, paths, functions.

use std::fs;
use std::path::{Path, PathBuf};

/// What holds nothing of ours: build output, other people's code, run-time data.
const FOREIGN: [&str; 6] = ["target", ".git", ".venv", "data", "__pycache__", "node_modules"];

/// One text file of the checkout.
pub struct Source {
    /// Path from the top of the checkout, with forward slashes.
    pub name: String,
    /// The file as it is.
    pub text: String,
    /// The same lines with comments, strings and character literals blanked out; only for Rust files.
    pub code: String,
}

/// One function: its name, the line its `fn` stands on (from 1) and how many lines it covers.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// A path as written in code (`std::fs::File`), with `use` groups spelled out, and its line (from 1).
pub struct CodePath {
    pub segments: Vec<String>,
    pub line: usize,
}

/// The top of the checkout.
pub fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reads one file of the checkout, with a sentence that says what is missing when it is not there.
pub fn read(name: &str) -> String {
    fs::read_to_string(top().join(name)).unwrap_or_else(|e| panic!("{name} must be there and readable: {e}"))
}

/// Every text file of the checkout, sorted by name.
pub fn all_files() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&top(), &top(), &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Every Rust file of the checkout, sorted by name.
pub fn rust_files() -> Vec<Source> {
    let mut files = all_files();
    files.retain(|f| f.name.ends_with(".rs"));
    assert!(files.len() > 10, "only {} Rust files found: the walk is broken", files.len());
    files
}

fn walk(top: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the checkout can be listed") {
        let entry = entry.expect("a directory entry can be read");
        let path = entry.path();
        let kind = entry.file_type().expect("a directory entry has a type");
        let name = entry.file_name().to_string_lossy().into_owned();
        // `tests/data` holds fixtures of ours; a `data` folder at the top is a server's. `.git` may be a file.
        if FOREIGN.contains(&name.as_str()) && (name != "data" || folder == top) {
            continue;
        }
        if kind.is_dir() {
            walk(top, &path, found);
        } else if kind.is_file() {
            // What is not UTF-8 is a fixture or an image and is no text of ours.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let name = path.strip_prefix(top).expect("below the top").to_string_lossy().replace('\\', "/");
            let code = if name.ends_with(".rs") { blank(&text) } else { String::new() };
            found.push(Source { name, text, code });
        }
    }
}

/// Replaces comments and the inside of strings and character literals by spaces and keeps every newline,
/// so that line numbers stay true.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = opaque_end(bytes, at);
        if end > at {
            out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).expect("blanking replaces whole literals and comments")
}

/// The end of the comment or literal that starts at `at`, or `at` itself when none does.
fn opaque_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    let after_word = at > 0 && is_word(bytes[at - 1]);
    if !after_word {
        if let Some(end) = raw_string_end(bytes, at) {
            return end;
        }
    }
    match rest[0] {
        b'"' => quoted_end(bytes, at, b'"'),
        b'\'' if is_char_literal(rest) => quoted_end(bytes, at, b'\''),
        _ => at,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    if matches!(bytes[at], b'b' | b'c') {
        at += 1;
    }
    if bytes.get(at) != Some(&b'r') {
        return None;
    }
    at += 1;
    let hashes = bytes[at..].iter().take_while(|&&b| b == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    at += 1;
    while at < bytes.len() {
        let closes = bytes[at] == b'"' && bytes[at + 1..].iter().take(hashes).filter(|&&b| b == b'#').count() == hashes;
        at += 1;
        if closes {
            return Some(at + hashes);
        }
    }
    Some(bytes.len())
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_char_literal(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(&b) if b < 0x80 => rest.get(2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The line (from 1) on which byte `at` stands.
pub fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1
}

/// Every word of blanked code with the byte at which it starts.
pub fn words(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        if at > start {
            found.push((start, &code[start..at]));
        } else {
            at += 1;
        }
    }
    found
}

/// Every function with a body in blanked code.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let words = words(code);
    for pair in words.windows(2) {
        let [(start, "fn"), (name_at, name)] = pair else {
            continue;
        };
        // `fn(u8)` is a type and `fn $name` a macro's: only blanks may stand between `fn` and a name.
        if !code[start + 2..*name_at].trim().is_empty() {
            continue;
        }
        if let Some(end) = body_end(code.as_bytes(), *name_at) {
            let line = line_of(code, *start);
            found.push(Function { name: (*name).to_owned(), line, lines: line_of(code, end) - line + 1 });
        }
    }
    found
}

/// The byte of the brace that closes the body of the function whose name starts at `from`; none for a mere signature.
fn body_end(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut nested, mut braces) = (0usize, 0usize);
    for (i, &b) in bytes.iter().enumerate().skip(from) {
        match b {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested = nested.saturating_sub(1),
            b';' if nested == 0 && braces == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// Every path of blanked code; `a::{b, c::d}` gives `a::b` and `a::c::d`.
pub fn paths(code: &str) -> Vec<CodePath> {
    let mut found = Vec::new();
    let mut at = 0;
    let bytes = code.as_bytes();
    while at < bytes.len() {
        if is_word(bytes[at]) {
            let mut all = Vec::new();
            let end = tree(code, at, &[], &mut all);
            let line = line_of(code, at);
            found.extend(all.into_iter().map(|segments| CodePath { segments, line }));
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one use tree that starts at `at` below `prefix`; gives back where it ends.
fn tree(code: &str, at: usize, prefix: &[String], all: &mut Vec<Vec<String>>) -> usize {
    let bytes = code.as_bytes();
    let mut path = prefix.to_vec();
    let mut at = at;
    loop {
        let start = at;
        while at < bytes.len() && (is_word(bytes[at]) || bytes[at] == b'*' && at == start) {
            at += 1;
        }
        if at > start {
            path.push(code[start..at].to_owned());
        }
        let next = skip_blanks(bytes, at);
        if at == start || !code[next..].starts_with("::") {
            break;
        }
        at = skip_blanks(bytes, next + 2);
        if bytes.get(at) == Some(&b'{') {
            return group(code, at, &path, all);
        }
    }
    if path.len() > prefix.len() {
        all.push(path);
    }
    at
}

/// Reads `{a, b::c}` that starts at `open` below `prefix`; gives back where it ends.
fn group(code: &str, open: usize, prefix: &[String], all: &mut Vec<Vec<String>>) -> usize {
    let bytes = code.as_bytes();
    let mut at = open + 1;
    while at < bytes.len() && bytes[at] != b'}' {
        let item = skip_blanks(bytes, at);
        let end = tree(code, item, prefix, all);
        at = end.max(item);
        // What follows an item (a comma, `as name`) is stepped over up to the next item.
        while at < bytes.len() && bytes[at] != b',' && bytes[at] != b'}' {
            at += 1;
        }
        if bytes.get(at) == Some(&b',') {
            at = skip_blanks(bytes, at + 1);
        }
    }
    (at + 1).min(bytes.len())
}

fn skip_blanks(bytes: &[u8], from: usize) -> usize {
    from + bytes[from..].iter().take_while(|b| b.is_ascii_whitespace()).count()
}

mod tests {
    use super::{blank, functions, paths};

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let code = "let a = \"x // y\"; // fs\nlet b = r#\"un\"safe\"#; /* mio /* nested */ */ let c: &'static str = f('\\'', '{');\n";
        let out = blank(code);
        assert_eq!(out.len(), code.len());
        assert_eq!(out.lines().count(), 2);
        for gone in ["//", "fs", "safe", "mio", "{", "\""] {
            assert!(!out.contains(gone), "{gone} is still there: {out}");
        }
        assert!(out.contains("&'static str"));
    }

    #[test]
    fn use_groups_are_spelled_out() {
        let all: Vec<String> =
            paths("use std::{fs::{self, File}, thread as t, net};\nlet x = crate::wal ::Log::open();")
                .into_iter()
                .map(|p| format!("{}:{}", p.line, p.segments.join("::")))
                .collect();
        for expected in ["1:std::fs::self", "1:std::fs::File", "1:std::thread", "1:std::net", "2:crate::wal::Log::open"]
        {
            assert!(all.iter().any(|p| p == expected), "{expected} is not in {all:?}");
        }
    }

    #[test]
    fn functions_are_measured_from_fn_to_closing_brace() {
        let found = functions("trait T { fn none(&self) -> [u8; 2]; }\nfn two(f: fn(u8)) where\n{ if f { }\n}\n");
        let seen: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(seen, [("two", 2, 3)]);
    }
}
