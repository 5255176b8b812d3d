//! Owns compression of record data: the five codecs of Kafka, their framings, and a hard bound on what comes out.
//!
//! Everything here is fed by strangers. Decompression therefore takes the number of bytes that it may produce, grows its
//! output as bytes really come out, and answers a typed error for anything else. Nothing here panics on input.

use std::fmt;
use std::io::{Read, Write};

use byteorder::{BigEndian, ByteOrder, LittleEndian};
use twox_hash::XxHash32;

/// The most bytes that one batch or wrapper message may decompress to where the caller has no better bound.
///
/// Clients bound their batches before compression (`batch.size`, 16 KiB to a few MiB), so this refuses bombs and nothing else.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// The bytes that a decoder hands over at a time.
const CHUNK_BYTES: usize = 32 << 10;

/// A compression codec, with the numbers of the attributes field (KIP-98; zstd is KIP-110).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    /// Every codec, in the order of its number.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The codec with this number (the low three bits of the attributes), or `None` for the numbers 5 to 7 that nobody uses.
    pub fn from_id(id: u8) -> Option<Compression> {
        Compression::ALL.get(usize::from(id)).copied()
    }

    /// The number in the attributes field.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Kafka's name for it in `compression.type`; no compression is called `uncompressed` there.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub codec: Compression,
    /// Kafka's number: 1 to 9 for gzip, -131072 to 22 for zstd; `None` is the codec's default. The LZ4 here has one level
    /// only, and snappy has none anywhere.
    pub level: Option<i32>,
}

impl From<Compression> for Target {
    fn from(codec: Compression) -> Target {
        Target { codec, level: None }
    }
}

/// Above this level zstd takes memory for its windows in multiples of the input; they are kept to `ZSTD_WINDOW_LOG` then.
const ZSTD_LEVEL_LARGE: i32 = 19;
/// 8 MiB, which is what level 19 takes.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why data could not be decompressed or compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressError {
    /// More bytes would come out than the caller allows.
    TooLarge { limit_bytes: usize },
    /// The data are not what the codec writes.
    Corrupt { codec: Compression, why: &'static str },
    /// The codec itself failed, as when it gets no memory.
    Failed { codec: Compression },
}

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressError::TooLarge { limit_bytes } => {
                write!(f, "the data decompress to more than {limit_bytes} bytes")
            }
            CompressError::Corrupt { codec, why } => {
                write!(f, "the {} data are corrupt: {why}", codec.name())
            }
            CompressError::Failed { codec } => write!(f, "the codec {} failed", codec.name()),
        }
    }
}

impl std::error::Error for CompressError {}

/// Decompresses `input` into `out`, which is cleared first and never holds more than `limit_bytes`.
///
/// `magic` is the format of the records around the data: in magic 0 LZ4 frames carry Kafka's old, wrong header checksum
/// (KIP-57), and readers accept any. Snappy is read with and without the framing of the Java library.
///
/// # Errors
/// [`CompressError`]; `out` then holds what came out before the error.
pub fn decompress(
    codec: Compression,
    magic: i8,
    input: &[u8],
    limit_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressError> {
    out.clear();
    match codec {
        Compression::None => {
            check_room(input.len(), 0, limit_bytes)?;
            out.extend_from_slice(input);
            Ok(())
        }
        Compression::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(input);
            drain(codec, decoder, limit_bytes, out)
        }
        Compression::Snappy => snappy_decompress(input, limit_bytes, out),
        Compression::Lz4 => lz4_decompress(input, magic > 0, limit_bytes, out),
        Compression::Zstd => {
            // The window of a frame may be up to 2^27 bytes (level 22 of a client writes such frames). zstd reserves
            // that address space, and touches of it only what really comes out, which the limit bounds.
            let decoder =
                zstd::stream::read::Decoder::with_buffer(input).map_err(|_| CompressError::Failed { codec })?;
            drain(codec, decoder, limit_bytes, out)
        }
    }
}

/// Compresses `input` to the end of `out`, as Kafka's Java client writes it for records of this `magic`.
///
/// # Errors
/// [`CompressError::Failed`] if the codec itself fails, which no input causes.
pub fn compress(to: impl Into<Target>, magic: i8, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    let Target { codec, level } = to.into();
    let failed = CompressError::Failed { codec };
    match codec {
        Compression::None => out.extend_from_slice(input),
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level <= 9);
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(&mut *out, level);
            encoder.write_all(input).map_err(|_| failed)?;
            encoder.finish().map_err(|_| failed)?;
        }
        Compression::Snappy => snappy_compress(input, out).map_err(|()| failed)?,
        Compression::Lz4 => lz4_compress(input, magic > 0, out).map_err(|()| failed)?,
        Compression::Zstd => zstd_compress(level, input, out).map_err(|_| failed)?,
    }
    Ok(())
}

fn zstd_compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    // Who knows the length needs no larger tables than that.
    encoder.set_pledged_src_size(Some(input.len() as u64))?;
    if level > ZSTD_LEVEL_LARGE {
        encoder.window_log(ZSTD_WINDOW_LOG)?;
    }
    encoder.write_all(input)?;
    encoder.finish().map(drop)
}

/// Fails if `more` bytes on top of `have` pass the limit.
fn check_room(more: usize, have: usize, limit_bytes: usize) -> Result<(), CompressError> {
    if more > limit_bytes.saturating_sub(have) {
        return Err(CompressError::TooLarge { limit_bytes });
    }
    Ok(())
}

/// Reads a decoder to its end, in pieces, so that memory follows the bytes that come out and not what a header claims.
fn drain(
    codec: Compression,
    mut decoder: impl Read,
    limit_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressError> {
    let mut chunk = vec![0u8; CHUNK_BYTES];
    loop {
        let got = match decoder.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(CompressError::Corrupt { codec, why: "the stream does not decode" }),
        };
        check_room(got, out.len(), limit_bytes)?;
        let more_bytes = out.len().min(limit_bytes - out.len()).max(got);
        if out.capacity() - out.len() < got {
            out.reserve_exact(more_bytes);
        }
        out.extend_from_slice(&chunk[..got]);
    }
}

// ---- Snappy ----------------------------------------------------------------------------------------------------

/// The first eight bytes of a stream of the Java library (xerial snappy-java, `SnappyOutputStream`).
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, a version and the oldest compatible version, both 1.
const XERIAL_HEADER_BYTES: usize = 16;
/// The uncompressed bytes per block that the Java library writes by default.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// No element of Snappy's format yields more than 64 bytes from 3, so no block can expand by more than this factor.
const SNAPPY_RATIO_MAX: usize = 22;

fn snappy_corrupt(why: &'static str) -> CompressError {
    CompressError::Corrupt { codec: Compression::Snappy, why }
}

fn snappy_compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), ()> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut out[at + 4..]).map_err(|_| ())?;
        BigEndian::write_u32(&mut out[at..], written as u32);
        out.truncate(at + 4 + written);
    }
    Ok(())
}

fn snappy_decompress(input: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    if !input.starts_with(&XERIAL_MAGIC) {
        return snappy_block(input, limit_bytes, out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // A stream may be several streams one after the other, each with its header.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_BYTES..).ok_or(snappy_corrupt("the header is cut off"))?;
            continue;
        }
        if rest.len() < 4 {
            return Err(snappy_corrupt("a block's length is cut off"));
        }
        let block_bytes = BigEndian::read_u32(rest) as usize;
        let block = rest[4..].get(..block_bytes).ok_or(snappy_corrupt("a block is cut off"))?;
        snappy_block(block, limit_bytes, out)?;
        rest = &rest[4 + block_bytes..];
    }
    Ok(())
}

/// Appends one raw Snappy block to `out`. The block claims its length; the claim is believed only as far as it is possible.
fn snappy_block(block: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| snappy_corrupt("a block's header does not decode"))?;
    check_room(claimed, out.len(), limit_bytes)?;
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(snappy_corrupt("a block claims an impossible length"));
    }
    let at = out.len();
    out.resize(at + claimed, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[at..])
        .map_err(|_| snappy_corrupt("a block does not decode"))?;
    out.truncate(at + written);
    Ok(())
}

// ---- LZ4 -------------------------------------------------------------------------------------------------------

/// The magic number of an LZ4 frame (lz4_Frame_format.md), little-endian on the wire.
const LZ4_MAGIC: u32 = 0x184D_2204;
/// The uncompressed bytes per block that Kafka writes, and their code in the BD byte.
const LZ4_BLOCK_BYTES: usize = 64 << 10;
const LZ4_BD_64_KIB: u8 = 4 << 4;
/// Version 01, independent blocks, no checksums but the header's.
const LZ4_FLG: u8 = 0b0110_0000;
/// How far back linked blocks refer.
const LZ4_WINDOW_BYTES: usize = 64 << 10;
/// One byte of LZ4 yields 255 at the most.
const LZ4_RATIO_MAX: usize = 255;
/// The top bit of a block's length marks a block that is stored as it is.
const LZ4_STORED: u32 = 1 << 31;

fn lz4_corrupt(why: &'static str) -> CompressError {
    CompressError::Corrupt { codec: Compression::Lz4, why }
}

/// The header checksum: one byte of the hash of the descriptor. Kafka before message format 1 hashed the magic number as
/// well, which no other LZ4 library accepts; such clients need it so (KIP-57).
fn lz4_header_checksum(frame: &[u8], descriptor_end: usize, right: bool) -> u8 {
    let from = if right { 4 } else { 0 };
    (XxHash32::oneshot(0, &frame[from..descriptor_end]) >> 8) as u8
}

fn lz4_compress(input: &[u8], right_checksum: bool, out: &mut Vec<u8>) -> Result<(), ()> {
    let frame_at = out.len();
    out.extend_from_slice(&LZ4_MAGIC.to_le_bytes());
    out.extend_from_slice(&[LZ4_FLG, LZ4_BD_64_KIB]);
    let checksum = lz4_header_checksum(&out[frame_at..], 6, right_checksum);
    out.push(checksum);
    for block in input.chunks(LZ4_BLOCK_BYTES) {
        let at = out.len();
        let room = lz4_flex::block::get_maximum_output_size(block.len());
        out.resize(at + 4 + room, 0);
        let written = lz4_flex::block::compress_into(block, &mut out[at + 4..]).map_err(|_| ())?;
        if written < block.len() {
            LittleEndian::write_u32(&mut out[at..], written as u32);
            out.truncate(at + 4 + written);
        } else {
            out.truncate(at);
            out.extend_from_slice(&(block.len() as u32 | LZ4_STORED).to_le_bytes());
            out.extend_from_slice(block);
        }
    }
    out.extend_from_slice(&[0; 4]);
    Ok(())
}

/// What the descriptor of an LZ4 frame says.
struct Lz4Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_bytes: Option<u64>,
    block_bytes_max: usize,
    header_bytes: usize,
}

impl Lz4Frame {
    fn parse(input: &[u8], strict_checksum: bool) -> Result<Lz4Frame, CompressError> {
        if input.len() < 7 {
            return Err(lz4_corrupt("the header is cut off"));
        }
        if LittleEndian::read_u32(input) != LZ4_MAGIC {
            return Err(lz4_corrupt("this is not an LZ4 frame"));
        }
        let (flg, bd) = (input[4], input[5]);
        if flg >> 6 != 1 || flg & 0b10 != 0 || bd & 0b1000_1111 != 0 {
            return Err(lz4_corrupt("the header has an unknown version or reserved bits"));
        }
        if flg & 1 != 0 {
            return Err(lz4_corrupt("the frame needs a dictionary"));
        }
        let block_bytes_max = match bd >> 4 {
            code @ 4..=7 => 1 << (8 + 2 * code),
            _ => return Err(lz4_corrupt("the header has an unknown block size")),
        };
        let sized = flg & 0b1000 != 0;
        let descriptor_end = if sized { 14 } else { 6 };
        let Some(&checksum) = input.get(descriptor_end) else {
            return Err(lz4_corrupt("the header is cut off"));
        };
        if strict_checksum && checksum != lz4_header_checksum(input, descriptor_end, true) {
            return Err(lz4_corrupt("the header's checksum is wrong"));
        }
        Ok(Lz4Frame {
            linked: flg & 0b10_0000 == 0,
            block_checksums: flg & 0b1_0000 != 0,
            content_checksum: flg & 0b100 != 0,
            content_bytes: sized.then(|| LittleEndian::read_u64(&input[6..])),
            block_bytes_max,
            header_bytes: descriptor_end + 1,
        })
    }
}

/// Decompresses LZ4 frames, one after the other, as the frame format allows.
fn lz4_decompress(
    input: &[u8],
    strict_checksum: bool,
    limit_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressError> {
    let mut rest = input;
    let mut block = Vec::new();
    loop {
        let frame = Lz4Frame::parse(rest, strict_checksum)?;
        rest = lz4_frame(&frame, &rest[frame.header_bytes..], limit_bytes, &mut block, out)?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn take_u32<'a>(rest: &mut &'a [u8]) -> Result<u32, CompressError> {
    let bytes: &'a [u8] = rest;
    if bytes.len() < 4 {
        return Err(lz4_corrupt("the frame is cut off"));
    }
    *rest = &bytes[4..];
    Ok(LittleEndian::read_u32(bytes))
}

/// Decompresses the blocks of one frame and returns what follows it. `block` is working memory, kept between the blocks
/// because clearing a new one for each of many tiny blocks would cost more than the blocks.
fn lz4_frame<'a>(
    frame: &Lz4Frame,
    mut rest: &'a [u8],
    limit_bytes: usize,
    block: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<&'a [u8], CompressError> {
    let frame_at = out.len();
    loop {
        let word = take_u32(&mut rest)?;
        if word == 0 {
            break;
        }
        let stored_bytes = (word & !LZ4_STORED) as usize;
        if stored_bytes > frame.block_bytes_max {
            return Err(lz4_corrupt("a block is larger than the header allows"));
        }
        let data = rest.get(..stored_bytes).ok_or(lz4_corrupt("a block is cut off"))?;
        rest = &rest[stored_bytes..];
        if frame.block_checksums && take_u32(&mut rest)? != XxHash32::oneshot(0, data) {
            return Err(lz4_corrupt("a block's checksum is wrong"));
        }
        if word & LZ4_STORED != 0 {
            check_room(data.len(), out.len(), limit_bytes)?;
            out.extend_from_slice(data);
        } else {
            lz4_block(frame, data, frame_at, limit_bytes, block, out)?;
        }
    }
    let content = &out[frame_at..];
    if frame.content_bytes.is_some_and(|n| n != content.len() as u64) {
        return Err(lz4_corrupt("the content has another size than the header says"));
    }
    if frame.content_checksum && take_u32(&mut rest)? != XxHash32::oneshot(0, content) {
        return Err(lz4_corrupt("the content's checksum is wrong"));
    }
    Ok(rest)
}

fn lz4_block(
    frame: &Lz4Frame,
    data: &[u8],
    frame_at: usize,
    limit_bytes: usize,
    block: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), CompressError> {
    let possible = data.len().saturating_mul(LZ4_RATIO_MAX);
    let room = frame.block_bytes_max.min(possible);
    if block.len() < room {
        block.resize(room, 0);
    }
    let target = &mut block[..room];
    let written = if frame.linked {
        let from = out.len().saturating_sub(LZ4_WINDOW_BYTES).max(frame_at);
        lz4_flex::block::decompress_into_with_dict(data, target, &out[from..])
    } else {
        lz4_flex::block::decompress_into(data, target)
    }
    .map_err(|_| lz4_corrupt("a block does not decode"))?;
    check_room(written, out.len(), limit_bytes)?;
    out.extend_from_slice(&block[..written]);
    Ok(())
}

/// The codecs that a test can run: all; under Miri those that are not C code, which comes last.
#[cfg(test)]
pub(super) fn runnable() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().take(if cfg!(miri) { 4 } else { 5 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = scaled(1 << 20);

    /// So many bytes; under Miri, which interprets, a hundredth of them.
    const fn scaled(bytes: usize) -> usize {
        if cfg!(miri) {
            bytes / 100
        } else {
            bytes
        }
    }

    /// Of so many places all; under Miri one in thirty.
    fn places(count: usize) -> impl Iterator<Item = usize> {
        (0..count).step_by(if cfg!(miri) { 30 } else { 1 })
    }

    /// A little of everything: repetitive text, then bytes that do not compress.
    fn sample(bytes: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        (0..bytes)
            .map(|i| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if i % 5000 < 3000 {
                    b"kafka "[i % 6]
                } else {
                    state as u8
                }
            })
            .collect()
    }

    fn packed(codec: Compression, magic: i8, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(codec, magic, input, &mut out).unwrap();
        out
    }

    fn unpacked(codec: Compression, magic: i8, input: &[u8]) -> Result<Vec<u8>, CompressError> {
        let mut out = vec![1, 2, 3];
        decompress(codec, magic, input, LIMIT, &mut out).map(|()| out)
    }

    #[test]
    fn every_codec_round_trips_at_every_size() {
        for codec in runnable() {
            for magic in 0..3 {
                for bytes in [0, 1, 100, 32 << 10, (64 << 10) + 1, 300_000] {
                    let input = sample(scaled(bytes));
                    let packed = packed(codec, magic, &input);
                    assert_eq!(unpacked(codec, magic, &packed).unwrap(), input, "{codec:?}");
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Zstandard is C code")]
    fn levels_are_honoured_where_the_codec_has_them_and_every_reader_understands_them() {
        let input = sample(200_000);
        let length = |codec, level| {
            let mut out = Vec::new();
            compress(Target { codec, level }, 2, &input, &mut out).unwrap();
            let mut back = Vec::new();
            decompress(codec, 2, &out, LIMIT, &mut back).unwrap();
            assert!(back == input, "{codec:?} {level:?}");
            out.len()
        };
        assert!(length(Compression::Gzip, Some(1)) > length(Compression::Gzip, Some(9)));
        assert_eq!(length(Compression::Gzip, None), length(Compression::Gzip, Some(6)));
        assert!(length(Compression::Zstd, Some(-100)) > length(Compression::Zstd, Some(19)));
        assert_eq!(length(Compression::Zstd, None), length(Compression::Zstd, Some(3)));
        for level in [-131_072, 0, 22] {
            length(Compression::Zstd, Some(level));
        }
        for level in [1, 17] {
            assert_eq!(length(Compression::Lz4, Some(level)), length(Compression::Lz4, None));
        }
    }

    #[test]
    fn compress_appends_and_leaves_what_is_there() {
        for codec in runnable() {
            let mut out = b"head".to_vec();
            compress(codec, 2, b"body", &mut out).unwrap();
            assert!(out.starts_with(b"head"));
            assert_eq!(unpacked(codec, 2, &out[4..]).unwrap(), b"body");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri minutes")]
    fn a_bomb_of_any_codec_is_an_error_and_takes_no_more_memory_than_the_limit() {
        let zeros = vec![0u8; 32 << 20];
        for codec in runnable() {
            let bomb = packed(codec, 2, &zeros);
            let mut out = Vec::new();
            let got = decompress(codec, 2, &bomb, LIMIT, &mut out);
            assert_eq!(got, Err(CompressError::TooLarge { limit_bytes: LIMIT }), "{codec:?}");
            assert!(out.capacity() <= LIMIT, "{codec:?}: {}", out.capacity());
        }
    }

    #[test]
    fn exactly_the_limit_passes() {
        let input = sample(LIMIT);
        for codec in runnable() {
            assert_eq!(unpacked(codec, 2, &packed(codec, 2, &input)).unwrap(), input);
        }
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_harmless() {
        let input = sample(400);
        for codec in runnable() {
            let good = packed(codec, 2, &input);
            for cut in places(good.len()) {
                let _ = unpacked(codec, 2, &good[..cut]);
            }
            for at in places(good.len()) {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    let _ = unpacked(codec, 2, &bad);
                }
            }
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let input = sample(4000);
        for codec in runnable().skip(1) {
            let good = packed(codec, 2, &input);
            let got = unpacked(codec, 2, &good[..good.len() - 1]);
            assert!(matches!(got, Err(CompressError::Corrupt { .. })), "{codec:?}");
        }
    }

    #[test]
    fn gzip_of_several_members_is_read_to_the_end() {
        let mut two = packed(Compression::Gzip, 2, b"one ");
        two.extend(packed(Compression::Gzip, 2, b"two"));
        assert_eq!(unpacked(Compression::Gzip, 2, &two).unwrap(), b"one two");
    }

    #[test]
    fn snappy_is_read_raw_and_framed_and_written_framed() {
        let input = sample(scaled(100_000));
        let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
        assert_eq!(unpacked(Compression::Snappy, 2, &raw).unwrap(), input);
        let framed = packed(Compression::Snappy, 2, &input);
        assert!(framed.starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
        let mut twice = framed.clone();
        twice.extend(&framed);
        assert_eq!(unpacked(Compression::Snappy, 2, &twice).unwrap(), [&input[..], &input[..]].concat());
    }

    #[test]
    fn snappy_that_claims_more_than_it_can_hold_allocates_nothing() {
        // A claim of one MiB in front of four bytes; then one of four GiB.
        for claim in [&[0x80, 0x80, 0x40, 0, 0, 0, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]] {
            let mut out = Vec::new();
            assert!(decompress(Compression::Snappy, 2, claim, LIMIT, &mut out).is_err());
            assert_eq!(out.capacity(), 0);
        }
    }

    #[test]
    fn lz4_of_magic_0_has_kafkas_old_header_checksum() {
        let old = packed(Compression::Lz4, 0, b"value");
        let new = packed(Compression::Lz4, 1, b"value");
        assert_eq!(old[6], (XxHash32::oneshot(0, &old[..6]) >> 8) as u8);
        assert_eq!(new[6], (XxHash32::oneshot(0, &new[4..6]) >> 8) as u8);
        assert_ne!(old[6], new[6]);
        assert_eq!(old[7..], new[7..]);
        // Readers of magic 0 take both, later ones only the right one.
        assert!(unpacked(Compression::Lz4, 0, &old).is_ok());
        assert!(unpacked(Compression::Lz4, 0, &new).is_ok());
        assert!(unpacked(Compression::Lz4, 1, &old).is_err());
        assert!(unpacked(Compression::Lz4, 1, &new).is_ok());
    }

    fn foreign_lz4(input: &[u8], linked: bool, checksums: bool, sized: bool) -> Vec<u8> {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        let info = FrameInfo::new()
            .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
            .block_size(BlockSize::Max256KB)
            .block_checksums(checksums)
            .content_checksum(checksums)
            .content_size(sized.then_some(input.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(input).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lz4_frames_of_every_shape_are_read() {
        let input = sample(scaled(700_000));
        for shape in 0..8 {
            let frame = foreign_lz4(&input, shape & 1 != 0, shape & 2 != 0, shape & 4 != 0);
            assert_eq!(unpacked(Compression::Lz4, 2, &frame).unwrap(), input, "{shape}");
            let mut two = frame.clone();
            two.extend(packed(Compression::Lz4, 2, b"more"));
            assert!(unpacked(Compression::Lz4, 2, &two).unwrap().ends_with(b"more"));
        }
    }

    #[test]
    fn lz4_checksums_and_sizes_are_checked() {
        let input = sample(1000);
        let good = foreign_lz4(&input, false, true, true);
        assert!(unpacked(Compression::Lz4, 2, &good).is_ok());
        for at in places(good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(unpacked(Compression::Lz4, 2, &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn our_lz4_is_read_by_another_reader() {
        let input = sample(scaled(200_000));
        let frame = packed(Compression::Lz4, 2, &input);
        let mut out = Vec::new();
        lz4_flex::frame::FrameDecoder::new(&frame[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out, input);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Zstandard is C code")]
    fn zstd_with_a_giant_window_is_refused() {
        // Magic number, then a descriptor without content size, then a window of 2^41 bytes.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
        assert!(unpacked(Compression::Zstd, 2, &frame).is_err());
    }
}
