//! Text to tokens.

use serde_json::Number;

use super::refuse;
use crate::error::Result;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword or a name; keywords are told apart by the parser.
    Word(String),
    /// A name in backticks: never a keyword.
    Quoted(String),
    Text(String),
    Number(Number),
    Bind(String),
    CollectionBind(String),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Lexed {
    pub(super) token: Token,
    /// Where it begins, in bytes.
    pub(super) start: usize,
}

/// Longer ones first.
const SYMBOLS: [&str; 32] = [
    "...", "==", "!=", "<=", ">=", "=~", "!~", "&&", "||", "..", "::", "+", "-", "*", "/", "%", "<", ">", "=", "!",
    "?", ":", ",", ".", "(", ")", "[", "]", "{", "}", "|", "&",
];

pub(super) fn lex(text: &str) -> Result<Vec<Lexed>> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank()?;
        let start = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push(Lexed { token, start });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take_while(&mut self, mut is_part: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_blank(&mut self) -> Result<()> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.take_while(|character| character != '\n');
            } else if self.rest().starts_with("/*") {
                let end = self.rest().find("*/").ok_or_else(|| syntax(self.text, self.at, "unterminated comment"))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token> {
        let Some(first) = self.peek() else {
            return Ok(Token::End);
        };
        match first {
            '"' | '\'' => self.quoted(first).map(Token::Text),
            '`' | '´' => self.quoted(first).map(Token::Quoted),
            '@' => self.bind(),
            '0'..='9' => self.number(),
            _ if is_word(first) => Ok(Token::Word(self.take_while(is_word).to_owned())),
            _ => self.symbol(),
        }
    }

    fn bind(&mut self) -> Result<Token> {
        let signs = self.take_while(|character| character == '@').len();
        let name = self.take_while(is_word).to_owned();
        match signs {
            _ if name.is_empty() => Err(syntax(self.text, self.at, "a bind parameter without a name")),
            1 => Ok(Token::Bind(name)),
            2 => Ok(Token::CollectionBind(name)),
            _ => Err(syntax(self.text, self.at, "more than two '@'")),
        }
    }

    fn number(&mut self) -> Result<Token> {
        let start = self.at;
        self.take_while(|character| character.is_ascii_digit());
        // "1..5" is a range, "1.5" a number.
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(|next: char| next.is_ascii_digit()) {
            self.at += 1;
            self.take_while(|character| character.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            self.take_while(|character| matches!(character, '+' | '-'));
            self.take_while(|character| character.is_ascii_digit());
        }
        let text = &self.text[start..self.at];
        let number = serde_json::from_str(text).map_err(|_| syntax(self.text, start, "an invalid number"))?;
        Ok(Token::Number(number))
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let start = self.at;
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let next = self.peek().ok_or_else(|| syntax(self.text, start, "an unterminated string"))?;
            self.at += next.len_utf8();
            match next {
                _ if next == quote => return Ok(text),
                '\\' => text.push(self.escaped(start)?),
                _ => text.push(next),
            }
        }
    }

    fn escaped(&mut self, start: usize) -> Result<char> {
        let next = self.peek().ok_or_else(|| syntax(self.text, start, "an unterminated string"))?;
        self.at += next.len_utf8();
        Ok(match next {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let digits = self.rest().get(..4).unwrap_or_default();
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                self.at += 4;
                code.ok_or_else(|| syntax(self.text, start, "an invalid escape in a string"))?
            }
            other => other,
        })
    }

    fn symbol(&mut self) -> Result<Token> {
        let symbol = SYMBOLS.into_iter().find(|symbol| self.rest().starts_with(symbol));
        let symbol = symbol.ok_or_else(|| syntax(self.text, self.at, "an unknown character"))?;
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '$'
}

/// In the server's words: what was not expected, what follows, where.
pub(super) fn syntax(text: &str, start: usize, unexpected: &str) -> crate::error::Error {
    let before = &text[..start.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    let near: String = text.get(start..).unwrap_or_default().chars().take(64).collect();
    refuse(1501, format!("syntax error, unexpected {unexpected} near '{near}' at position {line}:{column}"))
}
