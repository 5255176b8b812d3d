//! Owns how bytes, addresses and times are written for the clouds: hexadecimal, Base64, percent signs, dates.

use std::fmt::Write;

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let group = three.iter().fold(0u32, |group, b| group << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = STANDARD[(group >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { digit as char } else { '=' });
        }
    }
    out
}

/// Base64 for addresses, without padding (RFC 4648, section 5).
pub(super) fn base64_url(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Reads Base64, with or without padding; `None` if it is none.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().trim_end_matches('=').as_bytes();
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for four in digits.chunks(4) {
        let mut group = 0u32;
        for digit in four {
            group = group << 6 | u32::try_from(STANDARD.iter().position(|d| d == digit)?).ok()?;
        }
        group <<= 6 * (4 - four.len());
        out.extend_from_slice(&group.to_be_bytes()[1..four.len()]);
    }
    Some(out)
}

/// Percent-encodes all but unreserved characters (RFC 3986) and those in `keep`.
pub(super) fn percent(text: &str, keep: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(b as char),
            _ if keep.as_bytes().contains(&b) => out.push(b as char),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
        out
    })
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// A moment of the Gregorian calendar, UTC.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
    day_of_week: &'static str,
}

/// Counts years from the first of March, so that the leap day is a year's last.
fn civil(ms: i64) -> Civil {
    let seconds = ms.div_euclid(1000);
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        second_of_day,
        day_of_week: DAYS[days.rem_euclid(7) as usize],
    }
}

/// Milliseconds since 1970 of a date; `None` if it is none.
fn ms_of(year: i64, month: i64, day: i64, clock: &str) -> Option<i64> {
    let mut parts = clock.splitn(3, ':').map(|part| part.split('.').next().unwrap_or("").parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let fits = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// `20130524T000000Z`, as AWS signs it.
pub(super) fn amz_date(ms: i64) -> String {
    let c = civil(ms);
    let s = c.second_of_day;
    format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", c.year, c.month, c.day, s / 3600, s / 60 % 60, s % 60)
}

/// `Fri, 24 May 2013 00:00:00 GMT` (RFC 9110, section 5.6.7).
pub(super) fn http_date(ms: i64) -> String {
    let c = civil(ms);
    let (s, month) = (c.second_of_day, MONTHS[(c.month - 1) as usize]);
    let clock = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    format!("{}, {:02} {month} {:04} {clock} GMT", c.day_of_week, c.day, c.year)
}

/// Reads a date as HTTP writes it, in milliseconds since 1970.
pub(super) fn from_http_date(text: &str) -> Option<i64> {
    let mut words = text.split_whitespace().skip(1);
    let (day, month, year, clock) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    ms_of(year.parse().ok()?, month, day.parse().ok()?, clock)
}

/// Reads `2013-05-24T00:00:00.000Z`, in milliseconds since 1970 without the fraction.
pub(super) fn from_iso_date(text: &str) -> Option<i64> {
    let (date, clock) = text.trim_end_matches('Z').split_once('T')?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    ms_of(parts.next()??, parts.next()??, parts.next()??, clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_in_its_rfc() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).unwrap(), plain.as_bytes());
        }
        assert_eq!(base64_url(&[0xfb, 0xff, 0xfe, 0xff]), "-__-_w");
        assert_eq!((from_base64("a"), from_base64("a*bc")), (None, None));
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(amz_date(1_369_353_600_000), "20130524T000000Z");
        for ms in [0, 951_782_400_000, 1_709_164_800_000, 4_102_444_799_000, 1_735_689_599_000] {
            assert_eq!(from_http_date(&http_date(ms)), Some(ms), "{}", http_date(ms));
        }
        assert_eq!(from_iso_date("1994-11-06T08:49:37.000Z"), Some(784_111_777_000));
        for bad in ["", "x", "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(from_http_date(bad), None, "{bad}");
        }
        assert_eq!(from_iso_date("1994-11"), None);
    }

    #[test]
    fn percent_signs_are_capital() {
        assert_eq!(percent("a b/c+é~", "/"), "a%20b/c%2B%C3%A9~");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
