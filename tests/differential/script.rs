//! Owns the language of the sequence files: what README.md in this folder describes, read into steps.

use std::collections::BTreeMap;
use std::path::Path;

use super::codec::{check_names, Described};
use super::expr::Expr;
use super::lexer::{lex, Lexed, Token};
use super::value::Value;

/// One sequence of steps, before it is multiplied by versions and parameters.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub title: String,
    /// File and line of its title.
    pub place: String,
    /// The API over whose versions it is repeated.
    pub each: Option<String>,
    /// The first and the last of these versions, where not all of them are meant.
    pub versions: (Option<i16>, Option<i16>),
    /// Parameters and the values over which it is repeated.
    pub with: Vec<(String, Vec<Expr>)>,
    /// Whether it changes what other sequences would notice, and so runs by itself.
    pub alone: bool,
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    Let(String, Expr),
    Call(Box<Call>),
    /// Sends a frame as it is, after its length, and reads one answer as bytes.
    Raw {
        conn: String,
        bytes: Expr,
        length: Option<Expr>,
        mine: bool,
        /// The API and version as which the answer is read, otherwise it is compared as bytes.
        read_as: Option<(String, i16)>,
        allow: Vec<String>,
        line: u32,
    },
    Receive {
        conn: String,
        captures: Vec<(String, String)>,
        allow: Vec<String>,
        line: u32,
    },
    Close {
        conn: String,
    },
    Pause {
        ms: u64,
    },
    Use {
        name: String,
        args: Vec<Expr>,
        line: u32,
    },
    For {
        name: String,
        values: Vec<Expr>,
        steps: Vec<Step>,
    },
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    pub conn: String,
    pub api: String,
    pub version: Option<i16>,
    pub fields: Expr,
    /// Names for values of the answer, and where they are.
    pub captures: Vec<(String, String)>,
    /// Repeat the request until this path has this value.
    pub until: Option<(String, Expr)>,
    /// Compare only what bears a name of this run: others change it at the same time.
    pub mine: bool,
    /// Send, and leave the answer to a later `receive`, or to nobody.
    pub send_only: bool,
    /// How many bytes to leave off at the end of the frame.
    pub cut: Option<Expr>,
    /// Bytes to add at the end of the frame.
    pub extra: Option<Expr>,
    /// Allowed differences that are expected here.
    pub allow: Vec<String>,
    pub line: u32,
}

/// Steps under a name, with parameters.
#[derive(Clone, Debug)]
pub struct Def {
    pub params: Vec<String>,
    pub steps: Vec<Step>,
}

/// All sequences and definitions of a folder.
#[derive(Debug, Default)]
pub struct Scripts {
    pub sequences: Vec<Sequence>,
    pub defs: BTreeMap<String, Def>,
}

/// What is captured from an answer (name and path), and which differences are allowed in it.
type AfterCall = (Vec<(String, String)>, Vec<String>);

impl Scripts {
    /// Reads every `.seq` file, in the order of their names.
    pub fn load(folder: &Path, apis: &BTreeMap<&'static str, Described>) -> Result<Scripts, String> {
        let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "seq"));
        files.sort();
        let mut scripts = Scripts::default();
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
            scripts.read(&name, &text, apis)?;
        }
        Ok(scripts)
    }

    /// Adds what one file holds.
    pub fn read(&mut self, file: &str, text: &str, apis: &BTreeMap<&'static str, Described>) -> Result<(), String> {
        let tokens = lex(text).map_err(|error| format!("{file}:{error}"))?;
        let mut parser = Parser { tokens: &tokens, at: 0, apis };
        while !parser.done() {
            let line = parser.line();
            let parsed = match parser.next_token() {
                Some(Token::Title(title)) => {
                    let place = format!("{file}:{line}");
                    parser.sequence(title.clone(), place).map(|sequence| self.sequences.push(sequence))
                }
                Some(Token::Word(word)) if word == "def" => parser.def().map(|(name, def)| {
                    self.defs.insert(name, def);
                }),
                other => Err(format!("a title or def expected, not {other:?}")),
            };
            parsed.map_err(|error| format!("{file}:{}: {error}", parser.line()))?;
        }
        Ok(())
    }
}

struct Parser<'a> {
    tokens: &'a [Lexed],
    at: usize,
    apis: &'a BTreeMap<&'static str, Described>,
}

impl<'a> Parser<'a> {
    fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at.min(self.tokens.len().saturating_sub(1))).map_or(0, |lexed| lexed.line)
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|lexed| &lexed.token)
    }

    fn next_token(&mut self) -> Option<&'a Token> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.accept(sign) {
            return Ok(());
        }
        Err(format!("{sign} expected, not {:?}", self.peek()))
    }

    fn word_is(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == word)
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.word_is(word);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> Result<String, String> {
        match self.next_token() {
            Some(Token::Word(word)) => Ok(word.clone()),
            other => Err(format!("a word expected, not {other:?}")),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        match self.next_token() {
            Some(Token::Number(number)) => Ok(*number),
            other => Err(format!("a number expected, not {other:?}")),
        }
    }

    fn sequence(&mut self, title: String, place: String) -> Result<Sequence, String> {
        let (versions, with, steps) = Default::default();
        let mut sequence = Sequence { title, place, each: None, versions, with, alone: false, steps };
        loop {
            if self.accept_word("each") {
                sequence.each = Some(self.api()?);
                if self.accept_word("from") {
                    sequence.versions.0 = Some(self.number()? as i16);
                }
                if self.accept_word("to") {
                    sequence.versions.1 = Some(self.number()? as i16);
                }
            } else if self.accept_word("with") {
                let name = self.word()?;
                if !self.accept_word("in") {
                    return Err("with NAME in [VALUES]".into());
                }
                sequence.with.push((name, self.list()?));
            } else if self.accept_word("alone") {
                sequence.alone = true;
            } else {
                break;
            }
        }
        while !matches!(self.peek(), None | Some(Token::Title(_))) && !self.word_is("def") {
            sequence.steps.push(self.step()?);
        }
        Ok(sequence)
    }

    fn def(&mut self) -> Result<(String, Def), String> {
        let name = self.word()?;
        self.expect("(")?;
        let mut params = Vec::new();
        while !self.accept(")") {
            params.push(self.word()?);
            self.accept(",");
        }
        Ok((name, Def { params, steps: self.steps_in_braces()? }))
    }

    fn steps_in_braces(&mut self) -> Result<Vec<Step>, String> {
        self.expect("{")?;
        let mut steps = Vec::new();
        while !self.accept("}") {
            steps.push(self.step()?);
        }
        Ok(steps)
    }

    fn api(&mut self) -> Result<String, String> {
        let name = self.word()?;
        match self.apis.contains_key(name.as_str()) {
            true => Ok(name),
            false => Err(format!("there is no API {name}")),
        }
    }

    fn version(&mut self) -> Result<i16, String> {
        self.expect("/")?;
        Ok(self.number()? as i16)
    }

    fn step(&mut self) -> Result<Step, String> {
        let line = self.line();
        if self.accept_word("let") {
            let name = self.word()?;
            self.expect("=")?;
            return Ok(Step::Let(name, self.expr()?));
        }
        if self.accept_word("pause") {
            return Ok(Step::Pause { ms: self.number()?.unsigned_abs() });
        }
        if self.accept_word("for") {
            let name = self.word()?;
            if !self.accept_word("in") {
                return Err("for NAME in [VALUES] { STEPS }".into());
            }
            return Ok(Step::For { name, values: self.list()?, steps: self.steps_in_braces()? });
        }
        let conn = if self.accept_word("on") { self.word()? } else { "a".to_string() };
        if self.accept_word("close") {
            return Ok(Step::Close { conn });
        }
        if self.accept_word("receive") {
            let (captures, allow) = self.after_call()?;
            return Ok(Step::Receive { conn, captures, allow, line });
        }
        if self.accept_word("raw") {
            let length = if self.accept_word("length") { Some(self.operand()?) } else { None };
            let mine = self.accept_word("mine");
            let read_as = match self.accept_word("as") {
                true => Some((self.api()?, self.version()?)),
                false => None,
            };
            let bytes = self.expr()?;
            let (_, allow) = self.after_call()?;
            return Ok(Step::Raw { conn, bytes, length, mine, read_as, allow, line });
        }
        let next_is_open = matches!(self.tokens.get(self.at + 1).map(|t| &t.token), Some(Token::Sign("(")));
        if next_is_open {
            let name = self.word()?;
            return Ok(Step::Use { name, args: self.args()?, line });
        }
        self.call(conn, line).map(|call| Step::Call(Box::new(call)))
    }

    fn call(&mut self, conn: String, line: u32) -> Result<Call, String> {
        let mut call = Call {
            conn,
            api: String::new(),
            version: None,
            fields: Expr::Struct(Vec::new()),
            captures: Vec::new(),
            until: None,
            mine: false,
            send_only: false,
            cut: None,
            extra: None,
            allow: Vec::new(),
            line,
        };
        loop {
            if self.accept_word("send") {
                call.send_only = true;
            } else if self.accept_word("mine") {
                call.mine = true;
            } else if self.accept_word("cut") {
                call.cut = Some(self.operand()?);
            } else if self.accept_word("extra") {
                call.extra = Some(self.expr()?);
            } else if self.accept_word("until") {
                let path = self.path()?;
                self.expect("=")?;
                call.until = Some((path, self.expr()?));
            } else {
                break;
            }
        }
        call.api = self.api()?;
        if matches!(self.peek(), Some(Token::Sign("/"))) {
            call.version = Some(self.version()?);
        }
        if matches!(self.peek(), Some(Token::Sign("{"))) {
            call.fields = self.expr()?;
        }
        if let Expr::Struct(fields) = &call.fields {
            check_names(self.apis[call.api.as_str()].request, fields)?;
        }
        (call.captures, call.allow) = self.after_call()?;
        Ok(call)
    }

    /// `-> name = path, ... ~ allowed, ...`
    fn after_call(&mut self) -> Result<AfterCall, String> {
        let (mut captures, mut allow) = (Vec::new(), Vec::new());
        if self.accept("->") {
            loop {
                let name = self.word()?;
                self.expect("=")?;
                captures.push((name, self.path()?));
                if !self.accept(",") {
                    break;
                }
            }
        }
        while self.accept("~") {
            allow.push(self.word()?);
        }
        Ok((captures, allow))
    }

    fn path(&mut self) -> Result<String, String> {
        let mut path = self.word()?;
        loop {
            if self.accept(".") {
                path = format!("{path}.{}", self.word()?);
            } else if self.accept("[") {
                path = format!("{path}[{}]", self.number()?);
                self.expect("]")?;
            } else {
                return Ok(path);
            }
        }
    }

    fn list(&mut self) -> Result<Vec<Expr>, String> {
        match self.expr()? {
            Expr::List(items) => Ok(items),
            other => Err(format!("a list expected, not {other:?}")),
        }
    }

    fn args(&mut self) -> Result<Vec<Expr>, String> {
        self.expect("(")?;
        let mut args = Vec::new();
        while !self.accept(")") {
            args.push(self.expr()?);
            self.accept(",");
        }
        Ok(args)
    }

    fn expr(&mut self) -> Result<Expr, String> {
        let mut left = self.operand()?;
        while self.accept("+") {
            left = Expr::Add(Box::new(left), Box::new(self.operand()?));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr, String> {
        if self.accept("[") {
            let mut items = Vec::new();
            while !self.accept("]") {
                items.push(self.expr()?);
                self.accept(",");
            }
            return Ok(Expr::List(items));
        }
        if self.accept("{") {
            let mut fields = Vec::new();
            while !self.accept("}") {
                let name = self.word()?;
                self.expect(":")?;
                fields.push((name, self.expr()?));
                self.accept(",");
            }
            return Ok(Expr::Struct(fields));
        }
        match self.next_token() {
            Some(Token::Number(number)) => Ok(Expr::Literal(Value::Int(*number))),
            Some(Token::Text(text)) => Ok(Expr::Literal(Value::Text(text.clone()))),
            Some(Token::Variable(name)) => Ok(Expr::Variable(name.clone())),
            Some(Token::Own(name)) => Ok(Expr::Own(name.clone())),
            Some(Token::Word(word)) => match word.as_str() {
                "null" => Ok(Expr::Literal(Value::Null)),
                "true" => Ok(Expr::Literal(Value::Bool(true))),
                "false" => Ok(Expr::Literal(Value::Bool(false))),
                _ => Ok(Expr::Call(word.clone(), self.args()?)),
            },
            other => Err(format!("a value expected, not {other:?}")),
        }
    }
}

/// The allowed differences that steps name.
pub fn marks(steps: &[Step], into: &mut Vec<String>) {
    for step in steps {
        match step {
            Step::Call(call) => into.extend(call.allow.iter().cloned()),
            Step::Receive { allow, .. } | Step::Raw { allow, .. } => into.extend(allow.iter().cloned()),
            Step::For { steps, .. } => marks(steps, into),
            _ => {}
        }
    }
}
