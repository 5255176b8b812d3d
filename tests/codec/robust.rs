//! Owns what the codec does with bytes that are no message: an error, never a panic, and no more memory than the bytes
//! that are there justify.

use chronik::wire::msg::{MetadataRequest, ProduceRequest};
use chronik::wire::schema::{Struct, Type};
use chronik::wire::{decode, frame, Message, Reader, RequestHeader};

use super::every_version;
use super::random::{in_range, Maker, Random};

fn made_up(entry: &super::Entry, version: i16, seed: u64, unknown_tags: bool) -> Vec<u8> {
    let flexible = entry.api.is_flexible(version);
    Maker { random: &mut Random(seed), version, flexible, unknown_tags }.message(entry.body)
}

#[test]
fn every_message_of_every_version_survives_the_round_trip() {
    for (entry, version) in every_version() {
        for seed in 0..20 {
            let bytes = made_up(&entry, version, seed, false);
            let again = (entry.recode)(&bytes, version);
            assert_eq!(again.as_deref(), Ok(&bytes[..]), "{} v{version} {seed}", entry.name);
        }
        let bytes = (entry.default)(version);
        assert_eq!((entry.recode)(&bytes, version), Ok(bytes), "{} v{version}", entry.name);
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    for (entry, version) in every_version().filter(|(e, version)| e.api.is_flexible(*version)) {
        let with = made_up(&entry, version, 5, true);
        let without = made_up(&entry, version, 5, false);
        assert!(with.len() > without.len());
        assert_eq!((entry.recode)(&with, version), Ok(without), "{} v{version}", entry.name);
    }
}

#[test]
fn a_message_cut_short_or_too_long_is_an_error() {
    for (entry, version) in every_version() {
        let mut bytes = made_up(&entry, version, 7, false);
        for len in 0..bytes.len() {
            assert!((entry.recode)(&bytes[..len], version).is_err(), "{} v{version}", entry.name);
        }
        bytes.push(0);
        assert!((entry.recode)(&bytes, version).is_err(), "{} v{version}", entry.name);
    }
}

#[test]
fn damaged_and_random_bytes_never_panic() {
    let random = &mut Random(1);
    for (entry, version) in every_version() {
        let good = made_up(&entry, version, 11, false);
        for _ in 0..60 {
            let mut bytes = good.clone();
            for _ in 0..random.below(3) + 1 {
                if !bytes.is_empty() {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
            }
            let _ = (entry.recode)(&bytes, version);
        }
        for at in 0..good.len() {
            // Lengths and counts at their extremes, wherever they may stand.
            for extreme in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff; 5], &[0x80, 0, 0, 0], &[0xff, 0xff, 0xff, 0xff, 7]] {
                let mut bytes = good.clone();
                let end = bytes.len().min(at + extreme.len());
                bytes.splice(at..end, extreme.iter().copied());
                let _ = (entry.recode)(&bytes, version);
            }
        }
        for len in [1, 2, 5, 16, 64, 300] {
            let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            let _ = (entry.recode)(&bytes, version);
            let _ = (entry.recode)(&vec![0; len], version);
        }
        let _ = decode::<ProduceRequest>(&good, 9);
    }
}

/// The fewest bytes that a value takes on the wire.
fn smallest(kind: Type, version: i16, flexible: bool) -> usize {
    let len = if flexible { 1 } else { 4 };
    match kind {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Uuid => 16,
        Type::String => len.min(2),
        Type::Bytes | Type::Records | Type::Array { .. } => len,
        Type::Nullable(Type::Struct(_)) => 1,
        Type::Nullable(kind) => smallest(*kind, version, flexible),
        Type::Struct(body) => {
            let present = body.fields.iter().filter(|f| in_range(f.versions, version) && f.tag.is_none());
            present.map(|f| smallest(f.kind, version, flexible)).sum::<usize>() + usize::from(flexible)
        }
    }
}

/// The most memory that one byte on the wire can claim as part of an array's element.
fn worst(body: &Struct, version: i16, flexible: bool) -> usize {
    fn of(kind: Type, version: i16, flexible: bool) -> usize {
        match kind {
            Type::Array { of: element, size } => {
                let own = size.div_ceil(smallest(*element, version, flexible).max(1));
                own.max(of(*element, version, flexible))
            }
            Type::Nullable(kind) => of(*kind, version, flexible),
            Type::Struct(body) => worst(body, version, flexible),
            _ => 0,
        }
    }
    let present = body.fields.iter().filter(|f| in_range(f.versions, version));
    present.map(|f| of(f.kind, version, flexible)).max().unwrap_or(0)
}

#[test]
fn a_byte_received_claims_at_most_a_few_dozen_bytes_of_memory() {
    for (entry, version) in every_version() {
        let bound = worst(entry.body, version, entry.api.is_flexible(version));
        let limit = if entry.name.ends_with("Request") { 32 } else { 64 };
        assert!(bound <= limit, "{} v{version}: {bound} bytes for each", entry.name);
    }
}

#[test]
fn a_count_above_what_is_there_is_refused_before_memory_is_claimed() {
    // Three bytes are left after the count, and an empty classic string takes two.
    let bytes = [0, 0, 0, 2, 0, 1, b'x'];
    let error = Reader::new(&bytes, 0, false).array::<&str>().unwrap_err();
    assert_eq!((error.what, error.position), ("an array has more elements than the message has room for", 4));
    let topics = |count: i32| [&count.to_be_bytes()[..], &[0; 8]].concat();
    let version = *MetadataRequest::VERSIONS.start();
    assert_eq!(decode::<MetadataRequest>(&topics(4), version).map(|m| m.topics.map(|t| t.len())), Ok(Some(4)));
    assert!(decode::<MetadataRequest>(&topics(5), version).is_err());
    assert!(decode::<MetadataRequest>(&topics(i32::MAX), version).is_err());
    assert!(decode::<MetadataRequest>(&topics(-2), version).is_err());
}

#[test]
fn header_bytes_of_any_kind_never_panic() {
    let good = frame::request(9, 1, Some("client"), &ProduceRequest::default()).bytes;
    let good = &good[4..];
    for len in 0..good.len() {
        let _ = RequestHeader::parse(&good[..len]);
    }
    let random = &mut Random(3);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(30)).map(|_| random.next() as u8 >> random.below(9).min(7)).collect();
        let _ = RequestHeader::parse(&bytes);
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
        assert!(RequestHeader::parse(bytes).is_err());
    }
}
