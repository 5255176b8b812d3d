//! Owns times as people write them: RFC 3339 in UTC, and the compact form in the names of backups.

const DAY_S: i64 = 86_400;

/// `2026-11-28T16:12:44Z`. Milliseconds are left out.
pub fn shown(ms: i64) -> String {
    let ((year, month, day), (hour, minute, second)) = civil(ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `20261128T161244Z`.
pub fn compact(ms: i64) -> String {
    shown(ms).replace(['-', ':'], "")
}

/// Reads `2026-11-28T16:12:44Z`, with a fraction or an offset such as `+01:00` if need be, a day alone (its beginning), or
/// milliseconds since 1970. A time without an offset is UTC.
pub fn parse(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return (ms >= 0 && text.bytes().all(|b| b.is_ascii_digit())).then_some(ms);
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mark = |at: usize, marks: &[u8]| text.as_bytes().get(at).is_some_and(|b| marks.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !mark(4, b"-") || !mark(7, b"-") || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY_S * 1000;
    if text.len() == 10 {
        return Some(midnight);
    }
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !mark(10, b"Tt ") || !mark(13, b":") || !mark(16, b":") || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = text.get(19..)?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let thousandths = format!("{:0<3}", rest.get(..digits.min(3))?);
            (thousandths.parse::<i64>().ok().filter(|_| digits > 0)?, rest.get(digits..)?)
        }
    };
    Some(midnight + (hour * 3600 + minute * 60 + second) * 1000 + fraction - offset_ms(offset)?)
}

fn offset_ms(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first() {
        None => return Some(0),
        Some(b'Z' | b'z') if text.len() == 1 => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let two = |digits: &str| (digits.len() == 2).then(|| digits.parse::<u8>().ok())?;
    let (hours, minutes) = (two(hours).filter(|h| *h < 24)?, two(minutes).filter(|m| *m < 60)?);
    Some(sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60_000)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar. Years begin in March, so that the day that some have comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

type Parts = (i64, i64, i64);

fn civil(ms: i64) -> (Parts, Parts) {
    // Years beyond 9999 have no form in RFC 3339.
    let seconds = ms.div_euclid(1000).clamp(0, 253_402_300_799);
    let (days, rest) = (seconds / DAY_S, seconds % DAY_S);
    let mut year = 1970 + days / 366;
    while days_from_civil(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_from_civil(year, month + 1, 1) <= days {
        month += 1;
    }
    ((year, month, days - days_from_civil(year, month, 1) + 1), (rest / 3600, rest / 60 % 60, rest % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_and_read_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_799_000, "2000-02-29T23:59:59Z"),
            (1_796_000_000_000, "2026-11-30T00:53:20Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(shown(ms), text);
            assert_eq!(parse(text), Some(ms));
        }
        assert_eq!(compact(951_868_799_999), "20000229T235959Z");
    }

    #[test]
    fn other_spellings_are_understood_and_nonsense_is_not() {
        assert_eq!(parse("1970-01-02"), Some(86_400_000));
        assert_eq!(parse("1970-01-01 01:00:00"), Some(3_600_000));
        assert_eq!(parse("1970-01-01T01:00:00.5+01:00"), Some(500));
        assert_eq!(parse("1970-01-01T00:00:00-00:30"), Some(1_800_000));
        assert_eq!(parse("1234"), Some(1234));
        for bad in ["", "-5", "+5", "2026", "2026-13-01", "2026-02-29", "2026-01-01T24:00:00Z", "2026-01-01T00:00Z"] {
            assert_eq!(parse(bad), if bad == "2026" { Some(2026) } else { None }, "{bad:?}");
        }
        for bad in
            ["2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zx", "2026-01-01T00:00:00é"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
