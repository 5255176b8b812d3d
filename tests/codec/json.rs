//! Owns a reader for Kafka's schemas: JSON with `//` comments, as much of it as they use.

/// A JSON value; numbers are kept as they are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Word(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A member that is text, a number, or true or false, as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Json::Word(text) | Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A member that is a list; empty if there is none.
    pub fn list(&self, name: &str) -> &[Json] {
        match self.get(name) {
            Some(Json::List(items)) => items,
            _ => &[],
        }
    }
}

/// Reads a whole document, and panics where it is not understood.
pub fn parse(text: &str) -> Json {
    let mut reader = Reader { rest: text };
    let value = reader.value();
    reader.skip();
    assert!(reader.rest.is_empty(), "text after the document: {:.40}", reader.rest);
    value
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix("//") {
                Some(comment) => self.rest = comment.find('\n').map_or("", |end| &comment[end..]),
                None => return,
            }
        }
    }

    fn accept(&mut self, token: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) {
        assert!(self.accept(token), "{token:?} expected before {:.40}", self.rest);
    }

    fn value(&mut self) -> Json {
        if self.accept('{') {
            let mut members = Vec::new();
            while !self.accept('}') {
                let name = self.string();
                self.expect(':');
                members.push((name, self.value()));
                self.accept(',');
            }
            Json::Object(members)
        } else if self.accept('[') {
            let mut items = Vec::new();
            while !self.accept(']') {
                items.push(self.value());
                self.accept(',');
            }
            Json::List(items)
        } else if self.rest.starts_with('"') {
            Json::Text(self.string())
        } else {
            let end = self.rest.find(|c: char| !c.is_alphanumeric() && !"+-.".contains(c));
            let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            assert!(!word.is_empty(), "a value expected before {:.40}", self.rest);
            self.rest = rest;
            Json::Word(word.to_string())
        }
    }

    fn string(&mut self) -> String {
        self.expect('"');
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return text;
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                c => text.push(c),
            }
        }
        panic!("a string does not end");
    }
}

#[test]
fn reads_what_the_schemas_are_made_of() {
    let value = parse("// c\n{ \"a\": [1, -2, true], // \"x\"\n \"b\": \"//no \\\"c\\\"\" }");
    assert_eq!(value.list("a").len(), 3);
    assert_eq!(value.list("a")[1], Json::Word("-2".into()));
    assert_eq!(value.text("b"), Some("//no \"c\""));
    assert_eq!(value.text("c"), None);
}
