//! `meta.k8s.io/v1` Tables: what `kubectl get` prints, with the columns of a custom resource definition.

use std::borrow::{Borrow, Cow};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

mod path;
#[cfg(test)]
mod tests;

pub use path::{Path, PathError};

/// One column, as `additionalPrinterColumns` of a custom resource definition states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnDefinition {
    /// The heading.
    pub name: String,
    /// How the cell is rendered.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// An OpenAPI format, only passed on.
    #[serde(default)]
    pub format: String,
    /// What it means; without it, the path is said.
    #[serde(default)]
    pub description: String,
    /// Above 0, it is shown by `-o wide` only.
    #[serde(default)]
    pub priority: i32,
    /// Where in the object the value is.
    pub json_path: String,
}

/// The types of a column, which are OpenAPI's and `date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// Text; other values are printed as JSON.
    String,
    /// `true` or `false`.
    Boolean,
    /// A time in the past, shown as the time since then.
    Date,
}

/// The columns of one kind, ready to render.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Whether the first column is the object's name.
    named: bool,
    defined: Vec<(ColumnDefinition, Source)>,
}

/// Where a cell's value comes from.
#[derive(Clone, Debug)]
enum Source {
    Path(Path),
    Made(MakeCell),
}

/// Makes the value of a cell of an object.
pub type MakeCell = fn(&Value) -> Value;

/// How much of its object each row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as PartialObjectMetadata.
    Metadata,
    /// All of it.
    Object,
}

impl Columns {
    /// The columns of a custom resource: its name first, then what stands at these columns' paths.
    ///
    /// # Errors
    /// When one has a path that this module does not know.
    pub fn new(definitions: Vec<ColumnDefinition>) -> Result<Columns, PathError> {
        definitions
            .into_iter()
            .map(|definition| Path::parse(&definition.json_path).map(|path| (definition, Source::Path(path))))
            .collect::<Result<_, _>>()
            .map(|defined| Columns { named: true, defined })
    }

    /// The columns of a kind that an API server prints in its own way: no more than these, with cells as they are
    /// made of an object.
    pub fn made(columns: Vec<(ColumnDefinition, MakeCell)>) -> Columns {
        let defined = columns.into_iter().map(|(definition, make)| (definition, Source::Made(make)));
        Columns { named: false, defined: defined.collect() }
    }

    /// A Table with a row for each of `objects`, whose list has this `metadata`.
    /// Ages are those at `now`; the headings can be left out, as in all but the first event of a watch.
    pub fn table<T: Borrow<Value>>(
        &self,
        objects: impl IntoIterator<Item = T>,
        metadata: Value,
        include: IncludeObject,
        headings: bool,
        now: Timestamp,
    ) -> Value {
        let rows: Vec<Value> =
            objects.into_iter().map(|object| self.row(object.borrow(), include, now)).collect();
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": if headings { self.headings() } else { Value::Array(Vec::new()) },
            "rows": rows,
        })
    }

    fn headings(&self) -> Value {
        let name = json!({
            "name": "Name",
            "type": "string",
            "format": "name",
            "description": "Name must be unique within a namespace.",
            "priority": 0,
        });
        let defined = self.defined.iter().map(|(definition, _)| {
            let description = if definition.description.is_empty() {
                format!("Custom resource definition column (in JSONPath format): {}", definition.json_path)
            } else {
                definition.description.clone()
            };
            json!({
                "name": definition.name,
                "type": definition.column_type,
                "format": definition.format,
                "description": description,
                "priority": definition.priority,
            })
        });
        self.named.then_some(name).into_iter().chain(defined).collect()
    }

    fn row(&self, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
        let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
        let defined = self.defined.iter().map(|(definition, source)| match source.value(object).as_deref() {
            None | Some(Value::Null) => Value::Null,
            Some(value) => cell(definition.column_type, value, now),
        });
        let mut row = Map::new();
        row.insert("cells".to_owned(), self.named.then_some(name).into_iter().chain(defined).collect());
        match include {
            IncludeObject::None => {}
            IncludeObject::Metadata => {
                row.insert("object".to_owned(), partial_metadata(object));
            }
            IncludeObject::Object => {
                row.insert("object".to_owned(), object.clone());
            }
        }
        Value::Object(row)
    }
}

impl Source {
    fn value<'a>(&self, object: &'a Value) -> Option<Cow<'a, Value>> {
        match self {
            Source::Path(path) => path.first(object).map(Cow::Borrowed),
            Source::Made(make) => Some(Cow::Owned(make(object))),
        }
    }
}

/// The PartialObjectMetadata of an object.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

/// A length of time as kubectl says it: `7s`, `2m30s`, `5d3h`. `<invalid>` more than a second into the future.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |high: i64, high_unit: &str, low: i64, low_unit: &str| {
        if low == 0 { format!("{high}{high_unit}") } else { format!("{high}{high_unit}{low}{low_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(years, "y", days % 365, "d"),
        252_288_000.. => format!("{years}y"),
    }
}

/// A cell as the API server renders custom resource columns: a value of another type is left out.
fn cell(column_type: ColumnType, value: &Value, now: Timestamp) -> Value {
    match column_type {
        ColumnType::String => Value::String(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        ColumnType::Integer if value.is_i64() || value.is_u64() => value.clone(),
        ColumnType::Number if value.is_number() => value.clone(),
        ColumnType::Boolean if value.is_boolean() => value.clone(),
        ColumnType::Date => value.as_str().map_or(Value::Null, |time| Value::String(age(time, now))),
        ColumnType::Integer | ColumnType::Number | ColumnType::Boolean => Value::Null,
    }
}

fn age(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human_duration(now.as_second() - time.as_second()),
        Err(_) => "<invalid>".to_owned(),
    }
}
