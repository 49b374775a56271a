//! From the parser's events to JSON values: anchors, merges, and the place of every mistake.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{
    Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag as Written,
};

use super::{
    DEPTH, Document, NODES, YamlError,
    scalar::{self, Scalar, Tag},
};

/// Reads every document of a stream of YAML that is not empty.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    let mut composer = Composer { parser, anchors: BTreeMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    let mut number = 0;
    while let Some((event, span)) = composer.next()? {
        if matches!(event, Event::DocumentStart(..)) {
            number += 1;
            composer.anchors.clear();
        } else if event.is_node() {
            let value = composer.value(event, span, 0)?;
            if !value.is_null() {
                documents.push(Document { value, number, line: span.start.line() });
            }
        }
    }
    Ok(documents)
}

/// Text counts against [`NODES`] by its length: about what a value without text takes in memory.
const TEXT_BYTES_PER_NODE: usize = 32;

struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
}

struct Anchored {
    value: Value,
    nodes: usize,
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, YamlError> {
        self.parser.next_event().transpose().map_err(|error| syntax(&error))
    }

    /// The value that starts with `event`.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the parser may know more events some day")]
    fn value(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Value, YamlError> {
        if depth > DEPTH {
            return Err(at(span, format!("nested deeper than {DEPTH} levels")));
        }
        let before = self.nodes;
        self.count(1 + event.scalar().map_or(0, |(text, _)| text.len() / TEXT_BYTES_PER_NODE), span)?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = resolve(&text, style, tag.as_deref(), span)?;
                (anchor, scalar.into_json().map_err(|problem| at(span, problem))?)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(span, depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(span, depth)?),
            Event::Alias(id) => return self.alias(id, span),
            other => return Err(at(span, format!("a value is missing here ({other:?})"))),
        };
        if anchor != 0 {
            let nodes = self.nodes - before;
            self.anchors.insert(anchor, Anchored { value: value.clone(), nodes });
        }
        Ok(value)
    }

    fn sequence(&mut self, start: Span, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.inside(start)? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(items)),
                (event, span) => items.push(self.value(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, start: Span, depth: usize) -> Result<Value, YamlError> {
        let (mut map, mut written) = (Map::new(), BTreeSet::new());
        loop {
            let (event, span) = self.inside(start)?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(map));
            }
            let key = if is_merge(&event) { None } else { Some(self.key(event, span)?) };
            let (event, value_span) = self.inside(start)?;
            let value = self.value(event, value_span, depth + 1)?;
            match key {
                None => merge(&mut map, value).map_err(|problem| at(value_span, problem))?,
                Some(key) if written.insert(key.clone()) => {
                    map.insert(key, value);
                }
                Some(key) => return Err(at(span, format!("the key {key:?} stands twice in one mapping"))),
            }
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the parser may know more events some day")]
    fn key(&mut self, event: Event<'a>, span: Span) -> Result<String, YamlError> {
        let key = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = resolve(&text, style, tag.as_deref(), span)?;
                if anchor != 0 {
                    let value = scalar.clone().into_json().map_err(|problem| at(span, problem))?;
                    self.anchors.insert(anchor, Anchored { value, nodes: 1 });
                }
                scalar.into_key()
            }
            Event::Alias(id) => match self.alias(id, span)? {
                Value::String(text) => Ok(text),
                Value::Bool(value) => Ok(value.to_string()),
                Value::Number(number) => Ok(number.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => Err("a key must be text".to_owned()),
            },
            _ => Err("a key must be text, not a list or a mapping".to_owned()),
        };
        key.map_err(|problem| at(span, problem))
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Value, YamlError> {
        let Some(Anchored { value, nodes }) = self.anchors.get(&id) else {
            return Err(at(span, "an alias stands inside what it stands for"));
        };
        let (value, nodes) = (value.clone(), *nodes);
        self.count(nodes, span)?;
        Ok(value)
    }

    fn inside(&mut self, start: Span) -> Result<(Event<'a>, Span), YamlError> {
        self.next()?.ok_or_else(|| at(start, "what starts here does not end"))
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes <= NODES { Ok(()) } else { Err(at(span, format!("more than {NODES} values"))) }
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<")
}

/// go-yaml v2 merges where `<<` stands: over the keys before it, under those after it. Of several mappings
/// the first wins.
fn merge(map: &mut Map<String, Value>, from: Value) -> Result<(), String> {
    let sources = if let Value::Array(items) = from { items } else { vec![from] };
    for source in sources.into_iter().rev() {
        let Value::Object(source) = source else {
            return Err("only a mapping, or a list of them, can be merged with <<".to_owned());
        };
        map.extend(source);
    }
    Ok(())
}

fn resolve(text: &str, style: ScalarStyle, tag: Option<&Written>, span: Span) -> Result<Scalar, YamlError> {
    let plain = matches!(style, ScalarStyle::Plain);
    scalar::resolve(text, plain, tag.map(meaning)).map_err(|problem| at(span, problem))
}

fn meaning(tag: &Written) -> Tag {
    match tag.suffix_in_namespace("tag:yaml.org,2002:").as_deref() {
        Some("null") => Tag::Null,
        Some("bool") => Tag::Bool,
        Some("int") => Tag::Integer,
        Some("float") => Tag::Float,
        Some("binary") => Tag::Binary,
        _ => Tag::Text,
    }
}

fn syntax(error: &ScanError) -> YamlError {
    let place = error.marker();
    YamlError { line: place.line(), column: place.col() + 1, problem: error.info() }
}

fn at(span: Span, problem: impl Into<String>) -> YamlError {
    YamlError { line: span.start.line(), column: span.start.col() + 1, problem: problem.into() }
}
