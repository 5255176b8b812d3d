//! Owns the reading of JSON that clouds answer with, and the writing of its strings.

use std::collections::BTreeMap;

/// How deep lists and objects may lie in each other.
const DEPTH_MAX: u32 = 32;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As it was written: some are 64-bit integers.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Reads a whole document; `None` if it is none.
    pub fn read(text: &str) -> Option<Json> {
        let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
        let value = reader.value(DEPTH_MAX)?;
        reader.space();
        (reader.at == text.len()).then_some(value)
    }

    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// The text of a member, or the digits of a number.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Json::Text(text) | Json::Number(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list that is a member; none if it isn't there.
    pub fn list(&self, name: &str) -> &[Json] {
        match self.get(name) {
            Some(Json::List(list)) => list,
            _ => &[],
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes the byte if it is next, after space.
    fn takes(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(value)
    }

    fn value(&mut self, depth: u32) -> Option<Json> {
        let depth = depth.checked_sub(1)?;
        self.space();
        match self.bytes.get(self.at)? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'"' => self.string().map(Json::Text),
            b'[' => self.list(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: u32) -> Option<Json> {
        let mut list = Vec::new();
        if !self.takes(b'[') || self.takes(b']') {
            return Some(Json::List(list));
        }
        loop {
            list.push(self.value(depth)?);
            if self.takes(b']') {
                return Some(Json::List(list));
            }
            self.takes(b',').then_some(())?;
        }
    }

    fn object(&mut self, depth: u32) -> Option<Json> {
        let mut members = BTreeMap::new();
        if !self.takes(b'{') || self.takes(b'}') {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.takes(b':').then_some(())?;
            members.insert(name, self.value(depth)?);
            if self.takes(b'}') {
                return Some(Json::Object(members));
            }
            self.takes(b',').then_some(())?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        let text = std::str::from_utf8(&rest[..length]).ok()?;
        text.parse::<f64>().ok()?;
        self.at += length;
        Some(Json::Number(text.to_owned()))
    }

    fn string(&mut self) -> Option<String> {
        self.takes(b'"').then_some(())?;
        let mut out = Vec::new();
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(out).ok(),
                b'\\' => {
                    let mut utf8 = [0; 4];
                    out.extend_from_slice(self.escape()?.encode_utf8(&mut utf8).as_bytes());
                }
                0..=0x1f => return None,
                _ => out.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => byte as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                // The second half of a pair follows.
                let marked = self.bytes.get(self.at..)?.starts_with(b"\\u");
                self.at += 2;
                let second = marked.then(|| self.hex4())??.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second)?
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = std::str::from_utf8(self.bytes.get(self.at..self.at + 4)?).ok()?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

/// Writes a string with its quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_and_others_refused() {
        let json =
            Json::read(r#" {"a":[1,"x\u00e9\ud83d\ude00\n",{"b":null}],"n":"18446744073709551615","e":{},"l":[]} "#)
                .unwrap();
        assert_eq!(json.list("a")[1], Json::Text("xé😀\n".into()));
        assert_eq!(json.text("n"), Some("18446744073709551615"));
        assert_eq!(json.list("l"), &[]);
        assert_eq!(json.list("a")[0], Json::Number("1".into()));
        for bad in [
            "",
            "{",
            "[1",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":1,}",
            "\"\\ud83d\"",
            "\"\\ud83d\\u0041\"",
            "tru",
            "1 2",
            "\"\n\"",
            "nul",
        ] {
            assert_eq!(Json::read(bad), None, "{bad}");
        }
        assert_eq!(Json::read(&"[".repeat(100_000)), None);
        assert_eq!(Json::read(&quoted("a\"\\\n\u{1}é")), Some(Json::Text("a\"\\\n\u{1}é".into())));
    }
}
