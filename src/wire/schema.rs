//! Owns the reflective side of the descriptions: what a message looks like, for tests to compare with Kafka's schemas.
//! These are constants that nothing else refers to, so that they cost the program nothing.

/// A type in the protocol's terms.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit number.
    Int8,
    /// 16-bit number.
    Int16,
    /// Unsigned 16-bit number.
    Uint16,
    /// 32-bit number.
    Int32,
    /// 64-bit number.
    Int64,
    /// IEEE 754 number.
    Float64,
    /// 16 bytes.
    Uuid,
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
    /// Record data, always nullable.
    Records,
    /// A sequence of values.
    Array {
        /// Their type.
        of: &'static Type,
        /// How many bytes of memory one of them takes, without what it points to.
        size: usize,
    },
    /// A struct with fields of its own.
    Struct(&'static Struct),
    /// A value or null.
    Nullable(&'static Type),
}

/// A message, or a struct within one.
#[derive(Debug)]
pub struct Struct {
    /// The name of the Rust type.
    pub name: &'static str,
    /// The fields in the order of the wire, tagged ones among them.
    pub fields: &'static [Field],
}

/// One field as it is described.
#[derive(Debug)]
pub struct Field {
    /// The name in the Rust struct.
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
    /// The range of versions, as written in the description, e.g. `3..` or `0..=12`.
    pub versions: &'static str,
    /// The range of versions in which null is allowed, where it differs from `versions`.
    pub nullable: Option<&'static str>,
    /// The tag, for a tagged field.
    pub tag: Option<u32>,
    /// The default value in Rust's debug format.
    pub default: fn() -> String,
}
