//! Owns CRC-32C: of bytes, and of bytes whose own checksum is known already.
//!
//! A CRC is the remainder of a polynomial over GF(2). Appending `n` bytes to a text multiplies its remainder by x^8n and adds the
//! remainder of what was appended, so the sum of both need not look at the appended bytes again.

/// Castagnoli's polynomial, lowest coefficient in the highest bit; x^32 is left out.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// x^(2^n) for each n.
const POWERS: [u32; 32] = powers();

const fn powers() -> [u32; 32] {
    let mut powers = [ONE >> 1; 32];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = multiply(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
}

/// The product of two polynomials, modulo Castagnoli's.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { (b >> 1) ^ POLYNOMIAL };
        bit >>= 1;
    }
    product
}

/// x^(8 * bytes), modulo the polynomial. The order of x divides 2^32 - 1, so the powers begin again after 32.
fn shift(mut bytes: usize) -> u32 {
    let (mut product, mut n) = (ONE, 3);
    while bytes != 0 {
        if bytes & 1 != 0 {
            product = multiply(POWERS[n % POWERS.len()], product);
        }
        bytes >>= 1;
        n += 1;
    }
    product
}

/// CRC-32C of `bytes` continued from `seed`.
pub fn crc_from(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}

/// The same for `len` bytes whose own CRC is `crc`: some hundred nanoseconds, whatever their number.
pub fn crc_over(seed: u32, crc: u32, len: usize) -> u32 {
    multiply(shift(len), seed) ^ crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_checksum_need_not_be_calculated_again() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        for len in [0, 1, 2, 3, 7, 8, 61, 4096, 65_535, 65_536, 131_071, 200_000] {
            for seed in [0, 1, 0xffff_ffff, 0x1234_5678] {
                let tail = &bytes[..len];
                assert_eq!(crc_over(seed, crc_from(0, tail), len), crc_from(seed, tail), "{len} bytes from {seed:x}");
            }
        }
    }
}
