//! Owns the fuzzing of compression: what comes out is bounded, and what goes in comes back.
//!
//! The first byte names the codec and the format, the second how much may come out.

use chronik::wire::compress::{compress, decompress, CompressError, Compression, Target};

pub fn run(input: &[u8]) {
    let [how, limit, data @ ..] = input else { return };
    let Some(codec) = Compression::from_id(how % 5) else { return };
    let magic = [0, 1, 2][usize::from(how / 5) % 3];
    let limit_bytes = (usize::from(*limit) + 1) << 10;
    let mut out = Vec::new();
    match decompress(codec, magic, data, limit_bytes, &mut out) {
        Ok(()) => {
            assert!(out.len() <= limit_bytes);
            comes_back(codec, magic, &out);
        }
        Err(CompressError::TooLarge { limit_bytes: told }) => assert_eq!(told, limit_bytes),
        Err(_) => assert!(out.len() <= limit_bytes),
    }
    comes_back(codec, magic, &data[..data.len().min(4096)]);
}

fn comes_back(codec: Compression, magic: i8, plain: &[u8]) {
    let mut packed = Vec::new();
    compress(codec, magic, plain, &mut packed).unwrap();
    let mut out = Vec::new();
    decompress(codec, magic, &packed, plain.len(), &mut out).unwrap();
    assert!(out == plain, "{codec:?} does not give back what went in");
    if !plain.is_empty() {
        let told = decompress(codec, magic, &packed, plain.len() - 1, &mut out);
        assert_eq!(told, Err(CompressError::TooLarge { limit_bytes: plain.len() - 1 }), "{codec:?}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [Vec::new(), b"some text, some text, some more text".to_vec(), vec![0; 70_000]];
    let mut seeds = Vec::new();
    for how in 0..15u8 {
        let codec = Compression::from_id(how % 5).unwrap();
        for text in &texts {
            let mut seed = vec![how, 90];
            compress(codec, [0, 1, 2][usize::from(how / 5)], text, &mut seed).unwrap();
            seeds.push(seed);
        }
    }
    // A frame of zstd that wants a large window.
    let mut seed = vec![4, 3];
    compress(Target { codec: Compression::Zstd, level: Some(22) }, 2, &[1; 3000], &mut seed).unwrap();
    seeds.push(seed);
    // Snappy without the Java library's framing.
    seeds.push([&[2, 3][..], &[5, 16], b"hello"].concat());
    seeds
}
