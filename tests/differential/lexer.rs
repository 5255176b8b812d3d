//! Owns the tokens of the sequence files.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// `== title`, to the end of its line.
    Title(String),
    Word(String),
    Number(i64),
    Text(String),
    /// `$name`
    Variable(String),
    /// `@name`
    Own(String),
    Sign(&'static str),
}

/// A token and its line, from 1.
#[derive(Clone, Debug)]
pub struct Lexed {
    pub token: Token,
    pub line: u32,
}

const SIGNS: [&str; 14] = ["->", "{", "}", "[", "]", "(", ")", ":", ",", "=", "+", "~", "/", "."];

/// Splits a file into tokens. Comments run from `#` to the end of the line.
pub fn lex(text: &str) -> Result<Vec<Lexed>, String> {
    let mut tokens = Vec::new();
    for (number, whole) in text.lines().enumerate() {
        let line = number as u32 + 1;
        if let Some(title) = whole.strip_prefix("== ") {
            tokens.push(Lexed { token: Token::Title(title.trim().to_string()), line });
            continue;
        }
        let mut rest = whole.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (token, after) = one(rest).map_err(|error| format!("{line}: {error}"))?;
            tokens.push(Lexed { token, line });
            rest = after.trim_start();
        }
    }
    Ok(tokens)
}

fn one(text: &str) -> Result<(Token, &str), String> {
    if let Some(sign) = SIGNS.into_iter().find(|sign| text.starts_with(sign)) {
        return Ok((Token::Sign(sign), &text[sign.len()..]));
    }
    let name = |from: usize| {
        let end = text[from..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        let end = end.map_or(text.len(), |end| from + end);
        (text[from..end].to_string(), &text[end..])
    };
    match text.as_bytes()[0] {
        b'$' => Ok((Token::Variable(name(1).0), name(1).1)),
        b'@' => Ok((Token::Own(name(1).0), name(1).1)),
        b'"' => quoted(text),
        b'-' | b'0'..=b'9' => {
            let end = text[1..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| end + 1);
            let number = text[..end].parse().map_err(|_| format!("{} is no number", &text[..end]))?;
            Ok((Token::Number(number), &text[end..]))
        }
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => Ok((Token::Word(name(0).0), name(0).1)),
        _ => Err(format!("what is {text:.20}?")),
    }
}

/// Text in quotes; a backslash takes the next character as it is, `\n` and `\0` are newline and nul.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(content), &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => content.push('\n'),
                Some((_, '0')) => content.push('\0'),
                Some((_, other)) => content.push(other),
                None => break,
            },
            c => content.push(c),
        }
    }
    Err("text without an end".into())
}

#[test]
fn tokens_are_told_apart() {
    let tokens: Vec<Token> =
        lex("== a b\n$x + -5 @t \"q\\\"\" # c\nwait-all").unwrap().into_iter().map(|l| l.token).collect();
    let wanted = [
        Token::Title("a b".into()),
        Token::Variable("x".into()),
        Token::Sign("+"),
        Token::Number(-5),
        Token::Own("t".into()),
        Token::Text("q\"".into()),
        Token::Word("wait-all".into()),
    ];
    assert_eq!(tokens, wanted);
    assert!(lex("\"open").is_err());
}
