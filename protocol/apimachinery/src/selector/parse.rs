//! The grammar of label selector text, as `k8s.io/apimachinery/pkg/labels` reads it.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::{Requirement, Selector, SelectorError, TEXT_MAX_LEN, Test};

/// Reads selector text: `a=b`, `a==b`, `a!=b`, `a in (x,y)`, `a notin (x)`, `a`, `!a`, joined by commas.
///
/// # Errors
/// With the column of the first token that does not fit, or the rule that a key or value breaks.
pub fn parse(text: &str) -> Result<Selector, SelectorError> {
    if text.len() > TEXT_MAX_LEN {
        return Err(SelectorError::TooLong { len: text.len() });
    }
    let mut parser = Parser { text, tokens: tokens(text), next: 0 };
    Selector::new(parser.selector()?)
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        parse(text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Equal,
    NotEqual,
    Not,
    Comma,
    Open,
    Close,
    End,
}

/// A token and its column, where the first character of the text has column 1.
type Placed<'a> = (usize, Token<'a>);

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Placed<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(requirements);
        }
        loop {
            requirements.push(self.requirement()?);
            let next = self.take();
            if next.1 == Token::End {
                return Ok(requirements);
            }
            if next.1 != Token::Comma {
                return Err(self.unexpected(next, "',' or the end"));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.peek() == Token::Not {
            self.take();
            return Ok(Requirement { key: self.key()?, test: Test::DoesNotExist });
        }
        let key = self.key()?;
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(Requirement { key, test: Test::Exists });
        }
        let operator = self.take();
        let test = if operator.1 == Token::Equal {
            Test::In(BTreeSet::from([self.value()]))
        } else if operator.1 == Token::NotEqual {
            Test::NotIn(BTreeSet::from([self.value()]))
        } else if operator.1 == Token::Word("in") {
            Test::In(self.values()?)
        } else if operator.1 == Token::Word("notin") {
            Test::NotIn(self.values()?)
        } else {
            return Err(self.unexpected(operator, "'=', '==', '!=', 'in', 'notin', ',' or the end"));
        };
        Ok(Requirement { key, test })
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let token = self.take();
        if let Token::Word(key) = token.1 {
            return Ok(key.to_owned());
        }
        Err(self.unexpected(token, "a label key"))
    }

    /// A word, or nothing, which is the empty value.
    fn value(&mut self) -> String {
        if let Token::Word(word) = self.peek() {
            self.take();
            return word.to_owned();
        }
        String::new()
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let open = self.take();
        if open.1 != Token::Open {
            return Err(self.unexpected(open, "'('"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value());
            let next = self.take();
            if next.1 == Token::Close {
                return Ok(values);
            }
            if next.1 != Token::Comma {
                return Err(self.unexpected(next, "',' or ')'"));
            }
        }
    }

    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).map_or(Token::End, |(_, token)| *token)
    }

    fn take(&mut self) -> Placed<'a> {
        let end = (self.text.chars().count() + 1, Token::End);
        let token = self.tokens.get(self.next).copied().unwrap_or(end);
        self.next += 1;
        token
    }

    fn unexpected(&self, (column, token): Placed<'a>, expected: &str) -> SelectorError {
        let why = format!("found {}, expected {expected}", token.describe());
        SelectorError::Syntax { text: self.text.to_owned(), column, why }
    }
}

impl Token<'_> {
    fn describe(self) -> String {
        match self {
            Token::Word(word) => format!("{word:?}"),
            Token::Equal => "'='".to_owned(),
            Token::NotEqual => "'!='".to_owned(),
            Token::Not => "'!'".to_owned(),
            Token::Comma => "','".to_owned(),
            Token::Open => "'('".to_owned(),
            Token::Close => "')'".to_owned(),
            Token::End => "the end".to_owned(),
        }
    }
}

fn tokens(text: &str) -> Vec<Placed<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut column) = (text, 1);
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            column += 1;
            continue;
        }
        let (token, len) = first_token(rest);
        tokens.push((column, token));
        column += rest[..len].chars().count();
        rest = &rest[len..];
    }
    tokens
}

/// The token that `rest` begins with, and its length in bytes.
fn first_token(rest: &str) -> (Token<'_>, usize) {
    const MARKS: [(&str, Token<'static>); 7] = [
        ("!=", Token::NotEqual),
        ("==", Token::Equal),
        ("=", Token::Equal),
        ("!", Token::Not),
        (",", Token::Comma),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    if let Some((mark, token)) = MARKS.iter().find(|(mark, _)| rest.starts_with(mark)) {
        return (*token, mark.len());
    }
    let len = rest.find(|c: char| c.is_whitespace() || "=!,()".contains(c)).unwrap_or(rest.len());
    (Token::Word(&rest[..len]), len)
}
