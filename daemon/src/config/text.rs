//! TOML text made into entries with their places. It knows no key.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::account::ReadFile;
use super::fields::{Entry, Fault, Placed, Value};
use super::{Config, ConfigError, ConfigFault, Scope, sections};

/// Makes a [`Config`] of TOML text. `file` names the text in faults; `read_file` reads the files that it names.
pub fn parse(text: &str, file: &Path, scope: Scope, read_file: ReadFile<'_>) -> Result<Config, ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Fault> = errors
        .iter()
        .map(|error| Fault {
            key: String::new(),
            // Only the message: the text around it may hold a password.
            message: format!("is not TOML: {}", error.message()),
            at: error.span().map(|span| span.start),
        })
        .collect();
    // What a broken text holds besides its errors is guesswork: no faults are told of it.
    if faults.is_empty()
        && let Some(config) = sections::read(entries(table.get_ref()), scope, read_file, &mut faults)
    {
        return Ok(config);
    }
    faults.sort_by_key(|fault| fault.at);
    let locate = |fault: Fault| {
        let (line, column) = position(text, fault.at.unwrap_or(0));
        ConfigFault { file: file.to_owned(), line, column, key: fault.key, message: fault.message }
    };
    Err(ConfigError::Faulty(faults.into_iter().map(locate).collect()))
}

/// What a text says, as far as it is TOML.
pub(super) fn read(text: &str) -> Vec<Entry> {
    let (table, _) = DeTable::parse_recoverable(text);
    entries(table.get_ref())
}

fn entries(table: &DeTable<'_>) -> Vec<Entry> {
    table
        .iter()
        .map(|(key, value)| Entry {
            key: Placed { value: key.get_ref().to_string(), at: Some(key.span().start) },
            value: placed(value),
        })
        .collect()
}

fn placed(value: &Spanned<DeValue<'_>>) -> Placed<Value> {
    let at = Some(value.span().start);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Number(number),
            Err(_) => Value::Other("a number of that size".to_owned()),
        },
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Array(elements) => Value::List(elements.iter().map(placed).collect()),
        DeValue::Table(table) => Value::Table(entries(table)),
        DeValue::Float(_) => Value::Other("a number with a decimal point".to_owned()),
        DeValue::Datetime(_) => Value::Other("a date or time".to_owned()),
    };
    Placed { value, at }
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}
