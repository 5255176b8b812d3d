//! Owns what a command prints: results on standard output as text or JSON, everything else on standard error.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use super::failure::Failure;
use super::value::Value;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Standard output and standard error of a command.
#[derive(Debug)]
pub struct Out {
    stdout: BufWriter<Stdout>,
    pub format: Format,
    pub quiet: bool,
    pub verbose: bool,
    color: bool,
    color_errors: bool,
}

impl Out {
    /// `when` is auto, always or never; `no_color` is whether NO_COLOR is set (no-color.org).
    pub fn new(format: Format, quiet: bool, verbose: bool, when: &str, no_color: bool) -> Out {
        let wanted = |is_terminal: bool| when == "always" || (when == "auto" && is_terminal && !no_color);
        Out {
            stdout: BufWriter::new(io::stdout()),
            format,
            quiet,
            verbose,
            color: wanted(io::stdout().is_terminal()),
            color_errors: wanted(io::stderr().is_terminal()),
        }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.stdout.write_all(text.as_bytes()).map_err(Failure::stdout)
    }

    /// A line of text.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.text(line)?;
        self.text("\n")
    }

    /// The one JSON document of a command.
    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&value.pretty())
    }

    /// One of many JSON documents, each on a line.
    pub fn json_line(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string())
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) -> Result<(), Failure> {
        let line = self.bold(text);
        self.line(&line)
    }

    fn bold(&self, text: &str) -> String {
        match self.color {
            true => format!("\x1b[1m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Columns under headings, each as wide as its widest cell; the last is not padded.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let mut widths: Vec<usize> = headings.iter().map(|text| text.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            line.trim_end().to_owned()
        };
        let head = line(&mut headings.iter().copied());
        self.heading(&head)?;
        for row in rows {
            let line = line(&mut row.iter().map(String::as_str));
            self.line(&line)?;
        }
        Ok(())
    }

    /// Says on standard error what did not work.
    pub fn complain(&self, sentence: &str) {
        let (on, off) = if self.color_errors { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        // There is nobody left to tell when stderr cannot be written; the exit code still says it.
        let _ = writeln!(io::stderr(), "{on}chronik:{off} {}", safe(sentence));
    }

    /// Says on standard error what a person may want to know, unless --quiet.
    pub fn note(&self, sentence: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "chronik: {}", safe(sentence));
        }
    }

    /// Says on standard error what only --verbose wants.
    pub fn detail(&self, sentence: &str) {
        if self.verbose {
            let _ = writeln!(io::stderr(), "chronik: {}", safe(sentence));
        }
    }

    /// What was printed must have arrived.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(Failure::stdout)
    }
}

/// Text from elsewhere, safe for a terminal: control characters are spelled out.
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Bytes as people read them: text where they are text, hexadecimal otherwise, cut at `max` characters.
pub fn readable(bytes: &[u8], max: usize) -> String {
    let shown = match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control()) => text.chars().take(max).collect(),
        _ => hex(&bytes[..bytes.len().min(max / 2)]),
    };
    let is_cut = std::str::from_utf8(bytes).map_or(bytes.len() > max / 2, |text| text.chars().count() > max);
    if is_cut {
        format!("{shown}...")
    } else {
        shown
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A length as people read it.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A time in ms since 1970 as RFC 3339 in UTC; `-` for none.
pub fn time(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Civil date from days (the algorithm of the proleptic Gregorian calendar with years that begin in March).
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", rest % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(time(-1), "-");
    }

    #[test]
    fn bytes_are_shown_without_harm_to_a_terminal() {
        assert_eq!(readable(b"orders", 40), "orders");
        assert_eq!(readable(b"\x1b[2J", 40), "1b5b324a");
        assert_eq!(readable(&[0xff; 3], 4), "ffff...");
        assert_eq!(safe("a\x1bb"), "a\\u{1b}b");
        assert_eq!((size(10), size(2048), size(5 << 30)), ("10 B".into(), "2.0 KiB".into(), "5.0 GiB".into()));
    }
}
