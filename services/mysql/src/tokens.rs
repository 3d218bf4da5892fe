//! The parts of a view's text as a server prints it: names in backticks, words, and what stands between.

/// What a part of the text is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In backticks.
    Ident(String),
    /// In small letters.
    Word(String),
    Open,
    Close,
    Comma,
    Dot,
    /// Texts, numbers, operators.
    Other,
}

/// A part of the text, and where it begins and ends, in bytes.
#[derive(Debug)]
pub(crate) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    /// Whether it is this word, given in small letters.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }
}

/// The parts of a text, white space aside.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let kind = match c {
            c if c.is_whitespace() => continue,
            '`' | '\'' => {
                let inner = quoted(&mut chars, c);
                if c == '`' { Kind::Ident(inner) } else { Kind::Other }
            }
            '(' => Kind::Open,
            ')' => Kind::Close,
            ',' => Kind::Comma,
            '.' => Kind::Dot,
            c if c.is_alphabetic() || c == '_' => {
                let mut word = c.to_lowercase().to_string();
                while let Some((_, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    word.extend(c.to_lowercase());
                }
                Kind::Word(word)
            }
            _ => Kind::Other,
        };
        let end = chars.peek().map_or(text.len(), |(at, _)| *at);
        tokens.push(Token { kind, start, end });
    }
    tokens
}

/// What stands up to the closing quote.
fn quoted(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>, quote: char) -> String {
    let mut inner = String::new();
    while let Some((_, c)) = chars.next() {
        if c == '\\' && quote == '\'' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            break;
        } else {
            inner.push(c);
        }
    }
    inner
}
