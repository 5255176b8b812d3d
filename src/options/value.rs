//! Owns the reading of one option's value, and the words for what is allowed.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use log::LevelFilter;

use super::table::{Draft, Kind, Opt};
use crate::config::{Fsync, Port};

/// Why a value was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What is allowed, to follow the word "give".
    Expected(String),
    /// What the option needs that this version does not have.
    NotAvailable(&'static str),
    /// What may be given in place of a value that this version does not have.
    ValueNotAvailable(String),
}

type Read<T> = Result<T, Refusal>;

/// Longest part of a wrong value that an error quotes, in characters.
const QUOTED_CHARS_MAX: usize = 80;
/// Longest host name, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 255;
/// Longest `--fsync interval=MS`.
const FSYNC_INTERVAL_MS_MAX: u32 = 60_000;

/// Reads `raw` as `opt`'s kind of value and stores it in `draft`.
pub(super) fn apply(opt: &Opt, raw: &str, draft: &mut Draft) -> Read<()> {
    match &opt.kind {
        Kind::Act(set) => set(draft),
        Kind::Flag(set) | Kind::Bool(set) => set(draft, read_bool(raw)?),
        Kind::Int { min, max, minus_one, set } => set(draft, read_number(raw, &NONE, *min, *max, *minus_one)?),
        Kind::Bytes { min, max, minus_one, set } => set(draft, read_number(raw, &BYTES, *min, *max, *minus_one)?),
        Kind::Millis { min, max, minus_one, set } => set(draft, read_number(raw, &MILLIS, *min, *max, *minus_one)?),
        Kind::Port { off, set } => set(draft, read_port(raw, *off)?),
        Kind::RemotePort(set) => set(draft, read_remote_port(raw)?),
        Kind::HostPort { wildcard, set } => set(draft, read_host_port(raw, *wildcard)?),
        Kind::Host(set) => set(draft, read_host(raw)?),
        Kind::Choice { names, refused, set } => set(draft, read_choice(raw, names, refused)?),
        Kind::Level(set) => set(draft, read_level(raw)?),
        Kind::Fsync(set) => set(draft, read_fsync(raw)?),
        Kind::Path(set) => set(draft, PathBuf::from(raw)),
        Kind::Text(set) => set(draft, read_text(raw)?),
        Kind::StoreUrl(set) => set(draft, read_store_url(raw)?),
        Kind::ClusterId(set) => set(draft, read_cluster_id(raw)?),
        Kind::Refused { takes_value } => {
            // Saying no to what is not there is not asking for it.
            if *takes_value || read_bool(raw)? {
                return Err(Refusal::NotAvailable(opt.missing.unwrap_or(opt.long)));
            }
        }
    }
    Ok(())
}

/// Units that a number may end in, with what they multiply by.
struct Units {
    of: &'static str,
    list: &'static [(&'static str, i64)],
}

const NONE: Units = Units { of: "", list: &[] };
const BYTES: Units = Units {
    of: " of bytes (KiB, MiB and GiB may follow it)",
    list: &[("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30)],
};
/// "ms" stands before "m" and "s", whose endings it shares.
const MILLIS: Units = Units {
    of: " of milliseconds (ms, s, m, h and d may follow it)",
    list: &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
};

fn read_number(raw: &str, units: &Units, min: i64, max: i64, minus_one: bool) -> Read<i64> {
    let lower = raw.to_ascii_lowercase();
    let (digits, factor) = units
        .list
        .iter()
        .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|digits| (digits, *factor)))
        .unwrap_or((&lower, 1));
    let number = digits.parse::<i64>().ok().and_then(|n| n.checked_mul(factor));
    match number {
        Some(n) if (min..=max).contains(&n) => Ok(n),
        Some(-1) if minus_one && factor == 1 => Ok(-1),
        _ => Err(Refusal::Expected(format!(
            "a number{} from {min} to {max}{}",
            units.of,
            if minus_one { ", or -1 for no limit" } else { "" }
        ))),
    }
}

fn read_store_url(raw: &str) -> Read<String> {
    let known = ["s3://", "gs://", "azure://", "az://", "file:///"];
    match known.iter().any(|scheme| raw.len() > scheme.len() && raw.starts_with(scheme)) && !raw.contains('@') {
        true => Ok(raw.to_owned()),
        false => Err(Refusal::Expected(
            "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, azure://CONTAINER/PREFIX or file:///PATH, without keys in it"
                .into(),
        )),
    }
}

fn read_bool(raw: &str) -> Read<bool> {
    match raw.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Refusal::Expected("true or false".into())),
    }
}

fn read_port(raw: &str, off: bool) -> Read<Port> {
    if off && raw.eq_ignore_ascii_case("off") {
        return Ok(Port::Off);
    }
    match raw.parse::<u16>() {
        Ok(0) => Ok(Port::Any),
        Ok(port) => Ok(Port::Fixed(port)),
        Err(_) => Err(Refusal::Expected(format!(
            "a port from 1 to 65535, or 0 for any free one{}",
            if off { ", or off for none" } else { "" }
        ))),
    }
}

fn read_remote_port(raw: &str) -> Read<u16> {
    match raw.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Refusal::Expected("a port from 1 to 65535".into())),
    }
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn read_host_port(raw: &str, wildcard: bool) -> Read<(String, Option<u16>)> {
    let read = split_host_port(raw).ok_or_else(|| {
        Refusal::Expected(
            "a host name or an address, or one with a port from 1 to 65535 as in \
             host:9092 or [::1]:9092"
                .into(),
        )
    })?;
    if !wildcard && is_wildcard(&read.0) {
        return Err(Refusal::Expected("the host name or address that clients use to connect".into()));
    }
    Ok(read)
}

fn split_host_port(raw: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = raw.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let host = inside.parse::<Ipv6Addr>().ok()?.to_string();
        return match after {
            "" => Some((host, None)),
            _ => Some((host, Some(read_remote_port(after.strip_prefix(':')?).ok()?))),
        };
    }
    match raw.split_once(':') {
        None => Some((host_name(raw)?, None)),
        Some((_, port)) if port.contains(':') => Some((host_name(raw)?, None)),
        Some((host, port)) => Some((host_name(host)?, Some(read_remote_port(port).ok()?))),
    }
}

fn read_host(raw: &str) -> Read<String> {
    match split_host_port(raw) {
        Some((host, None)) => Ok(host),
        _ => Err(Refusal::Expected("a host name or an address; the port has an option of its own".into())),
    }
}

/// Accepts an address, or a name of letters, digits, dots, dashes and underscores.
fn host_name(raw: &str) -> Option<String> {
    if let Ok(address) = raw.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = !raw.is_empty() && raw.len() <= HOST_BYTES_MAX && raw.chars().all(allowed);
    fits.then(|| raw.to_string())
}

/// True for the addresses that mean "every address of this machine".
pub(super) fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|a| a.is_unspecified())
}

fn read_choice(raw: &str, names: &'static [&'static str], refused: &[&str]) -> Read<&'static str> {
    if let Some(name) = names.iter().find(|n| n.eq_ignore_ascii_case(raw)) {
        return Ok(name);
    }
    let allowed = names.join(" or ");
    if refused.iter().any(|n| n.eq_ignore_ascii_case(raw)) {
        return Err(Refusal::ValueNotAvailable(allowed));
    }
    Err(Refusal::Expected(allowed))
}

/// Reads a level, or a list as other Rust programs take it in `RUST_LOG`. Of a list, the bare level
/// and the one for `chronik` count, the latter more; entries for other programs are not ours to judge.
fn read_level(raw: &str) -> Read<LevelFilter> {
    let expected = || Refusal::Expected("off, error, warn, info, debug or trace".into());
    let (mut bare, mut own) = (None, None);
    for entry in raw.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let level = |text: &str| text.trim().parse::<LevelFilter>().map_err(|_| expected());
        match entry.split_once('=') {
            None => bare = Some(level(entry)?),
            Some(("chronik" | "chronik_server", text)) => own = Some(level(text)?),
            Some(_) => (),
        }
    }
    match own.or(bare) {
        Some(level) => Ok(level),
        None if raw.contains('=') => Ok(LevelFilter::Info),
        None => Err(expected()),
    }
}

fn read_fsync(raw: &str) -> Read<Fsync> {
    let interval = |ms: &str| {
        ms.strip_suffix("ms")
            .unwrap_or(ms)
            .parse()
            .ok()
            .filter(|ms| (1..=FSYNC_INTERVAL_MS_MAX).contains(ms))
            .map(Fsync::IntervalMs)
    };
    match raw.split_once('=') {
        None if raw == "always" => Some(Fsync::Always),
        None if raw == "never" => Some(Fsync::Never),
        Some(("interval", ms)) => interval(ms),
        _ => None,
    }
    .ok_or_else(|| {
        Refusal::Expected(format!("always, never, or interval=MS with 1 to {FSYNC_INTERVAL_MS_MAX} milliseconds"))
    })
}

fn read_text(raw: &str) -> Read<String> {
    match !raw.is_empty() && raw.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(raw.to_owned()),
        false => Err(Refusal::Expected("visible ASCII characters without spaces".into())),
    }
}

fn read_cluster_id(raw: &str) -> Read<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if (1..=64).contains(&raw.len()) && raw.chars().all(allowed) {
        return Ok(raw.to_string());
    }
    Err(Refusal::Expected("1 to 64 letters, digits, dots, dashes and underscores".into()))
}

/// Quotes what a person wrote, safely for a terminal and not at any length.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars().take(QUOTED_CHARS_MAX) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        out.push_str("...");
    }
    out.push('\'');
    out
}

/// The name closest to `word`, if it is close enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).collect();
    let close_enough = (word.len() / 3).max(1);
    names
        .map(|name| (distance(&word, name), name))
        .filter(|(distance, name)| *distance <= close_enough && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, y) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, x) in a.iter().enumerate() {
            let substitute = diagonal + usize::from(*x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}
