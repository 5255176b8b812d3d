//! Owns what is read of the clouds' XML: the text of elements by name. Their documents need no more.

/// Bytes of the longest character reference.
const REFERENCE_BYTES_MAX: usize = 11;

/// The first element of that name: what is between its tags.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    elements(xml, name).next()
}

/// The text of the first element of that name, with character references resolved.
pub(super) fn text(xml: &str, name: &str) -> Option<String> {
    element(xml, name).map(unescaped)
}

/// All elements of that name, which must not contain each other.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || loop {
        rest = &rest[rest.find(&open)? + open.len()..];
        // A longer name that begins so, or the element itself, with or without attributes.
        if !rest.starts_with(['>', ' ', '/', '\t', '\r', '\n']) {
            continue;
        }
        let end = rest.find('>')?;
        let is_empty = rest[..end].ends_with('/');
        rest = &rest[end + 1..];
        if is_empty {
            return Some("");
        }
        let inner = &rest[..rest.find(&close)?];
        rest = &rest[inner.len() + close.len()..];
        return Some(inner);
    })
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // Only as far as a name can reach, or text of many of these would be looked through once for each.
        let Some(end) = rest.bytes().take(REFERENCE_BYTES_MAX).position(|byte| byte == b';') else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        match character(&rest[1..end]) {
            Some(c) => out.push(c),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

/// Writes text so that it can stand in an element.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_name() {
        let xml = "<A><Key>a&amp;b&#34;&#x3c;&nbsp;&</Key><KeyMarker>no</KeyMarker><Key x='1'>2</Key><Key/></A>";
        assert_eq!(elements(xml, "Key").map(unescaped).collect::<Vec<_>>(), ["a&b\"<&nbsp;&", "2", ""]);
        assert_eq!(text(xml, "KeyMarker").as_deref(), Some("no"));
        for broken in ["", "<Key", "<Key>", "<Key>a", "<Key>a</Ke", "<Keys>a</Keys>"] {
            assert_eq!(element(broken, "Key"), None, "{broken}");
        }
        assert_eq!(text(&format!("<a>{}</a>", escaped("<&\">")), "a").as_deref(), Some("<&\">"));
    }

    #[test]
    fn a_text_of_ampersands_is_not_looked_through_once_for_each() {
        let many = "&".repeat(4 << 20);
        assert_eq!(text(&format!("<a>{many};</a>"), "a").map(|text| text.len()), Some(many.len() + 1));
        assert_eq!(text("<a>&#x10ffff;&#x0010ffff;</a>", "a").as_deref(), Some("\u{10ffff}&#x0010ffff;"));
    }
}
