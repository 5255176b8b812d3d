//! Owns made-up messages: bytes written straight from a description, by code that shares nothing with the codec's.

use chronik::wire::schema::{Field, Struct, Type};

/// A generator of numbers that gives the same ones for the same seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Whether a range as written in a description holds a version.
pub fn in_range(range: &str, version: i16) -> bool {
    let (first, last) = range.split_once("..").expect("a range has dots");
    let first: i16 = first.parse().expect("a range begins with a number");
    let last: i16 = match last.strip_prefix('=') {
        Some(last) => last.parse().expect("a range ends with a number"),
        None => i16::MAX,
    };
    (first..=last).contains(&version)
}

/// Whether a field of this version can be null.
pub fn nullable(field: &Field, version: i16) -> bool {
    match field.kind {
        Type::Nullable(_) => field.nullable.is_none_or(|range| in_range(range, version)),
        Type::Records => true,
        _ => false,
    }
}

/// Writes a message with values from `random`.
pub struct Maker<'a> {
    pub random: &'a mut Random,
    pub version: i16,
    pub flexible: bool,
    /// An unknown tagged field is put after those of every struct.
    pub unknown_tags: bool,
}

impl Maker<'_> {
    pub fn message(&mut self, body: &Struct) -> Vec<u8> {
        let mut out = Vec::new();
        self.fields(body, false, &mut out);
        out
    }

    /// Writes a struct's fields; `full` asks for values that no default equals, as tagged fields are left out otherwise.
    fn fields(&mut self, body: &Struct, full: bool, out: &mut Vec<u8>) {
        let version = self.version;
        let present = || body.fields.iter().filter(move |f| in_range(f.versions, version));
        for field in present().filter(|f| f.tag.is_none()) {
            self.value(field.kind, nullable(field, version) && !full, full, out);
        }
        if !self.flexible {
            return;
        }
        let mut tagged = Vec::new();
        for field in present() {
            let Some(tag) = field.tag else { continue };
            if full || self.random.below(2) == 0 {
                let mut content = Vec::new();
                self.value(field.kind, false, true, &mut content);
                tagged.push((tag, content));
            }
        }
        if self.unknown_tags {
            tagged.push((900, vec![0xee; 3]));
        }
        uvarint(tagged.len(), out);
        for (tag, content) in tagged {
            uvarint(tag as usize, out);
            uvarint(content.len(), out);
            out.extend(content);
        }
    }

    fn value(&mut self, kind: Type, nullable: bool, full: bool, out: &mut Vec<u8>) {
        let null = nullable && self.random.below(4) == 0;
        match kind {
            Type::Bool => out.push(u8::from(full || self.random.below(2) == 0)),
            Type::Int8 => self.number(1, full, out),
            Type::Int16 | Type::Uint16 => self.number(2, full, out),
            Type::Int32 => self.number(4, full, out),
            Type::Int64 => self.number(8, full, out),
            Type::Float64 => {
                let value = self.random.below(1 << 40) as f64 / 1024.0 + 0.5;
                out.extend(value.to_be_bytes());
            }
            Type::Uuid => {
                let id = u128::from(self.random.next()) << 64 | u128::from(self.random.next() | 1);
                out.extend(id.to_be_bytes());
            }
            Type::String if null && self.flexible => out.push(0),
            Type::String if null => out.extend([0xff, 0xff]),
            Type::String => {
                let text = self.text(full);
                if self.flexible {
                    uvarint(text.len() + 1, out);
                } else {
                    out.extend((text.len() as u16).to_be_bytes());
                }
                out.extend(text.as_bytes());
            }
            Type::Bytes | Type::Records => {
                let len = self.random.below(40) + usize::from(full);
                self.len((!null).then_some(len), out);
                if !null {
                    out.extend((0..len).map(|i| i as u8));
                }
            }
            Type::Array { of, .. } => {
                let count = self.random.below(3) + usize::from(full);
                self.len((!null).then_some(count), out);
                if !null {
                    for _ in 0..count {
                        self.value(*of, false, full, out);
                    }
                }
            }
            // A nullable struct is told by a byte in front.
            Type::Nullable(Type::Struct(body)) => {
                out.push(if null { 0xff } else { 1 });
                if !null {
                    self.fields(body, full, out);
                }
            }
            Type::Nullable(kind) => self.value(*kind, nullable, full, out),
            Type::Struct(body) => self.fields(body, full, out),
        }
    }

    /// A number of `size` bytes, often one at the edge; `full` ones lie between 1 and 100.
    fn number(&mut self, size: usize, full: bool, out: &mut Vec<u8>) {
        let value = match self.random.below(6) {
            _ if full => self.random.next() % 100 + 1,
            0 => 0,
            1 => u64::MAX,
            2 => (1 << (8 * size - 1)) - 1,
            3 => 1 << (8 * size - 1),
            _ => self.random.next(),
        };
        out.extend(&value.to_be_bytes()[8 - size..]);
    }

    fn text(&mut self, full: bool) -> String {
        let len = match self.random.below(20) {
            0 => 127,
            1 => 300,
            n => n - 2 + usize::from(full),
        };
        (0..len).map(|_| ['a', 'Z', '.', '-', '0', 'é', '漢'][self.random.below(7)]).collect()
    }

    fn len(&mut self, len: Option<usize>, out: &mut Vec<u8>) {
        if self.flexible {
            uvarint(len.map_or(0, |len| len + 1), out);
        } else {
            out.extend(len.map_or(-1, |len| len as i32).to_be_bytes());
        }
    }
}

fn uvarint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
