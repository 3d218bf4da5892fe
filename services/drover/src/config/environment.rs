//! Keys of the configuration that variables of the environment set.

use toml::{Table, Value};

/// What a variable of the environment begins with.
const PREFIX: &str = "DROVER_";
/// What stands between the parts of a key's path in a variable's name.
const SEPARATOR: &str = "__";

/// Sets every key that a variable names; other variables are not looked at.
///
/// # Errors
/// The variable, and why it can set nothing.
pub(super) fn apply(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), String> {
    for (name, value) in environment {
        if let Some(path) = name.strip_prefix(PREFIX)
            && path.contains(SEPARATOR)
        {
            let parts: Vec<&str> = path.split(SEPARATOR).collect();
            set(table, &parts, &value).map_err(|reason| format!("{name}: {reason}"))?;
        }
    }
    Ok(())
}

/// Sets a key by a variable of the environment. The value is read as TOML where it is such, and
/// as text otherwise.
fn set(table: &mut Table, parts: &[&str], value: &str) -> Result<(), String> {
    let Some((first, rest)) = parts.split_first() else { return Ok(()) };
    let known = table.keys().find(|key| as_variable(key) == *first).cloned();
    let key = known.unwrap_or_else(|| first.to_lowercase());
    if rest.is_empty() {
        table.insert(key, value_of(value));
        return Ok(());
    }
    match table.entry(key).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => set(inner, rest, value),
        Value::Array(array) => set_in_array(array, rest, value),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => Err(format!("{first} is a value, it has no keys")),
    }
}

/// An array's tables are numbered from 0: `DROVER_DNS__ZONES__0__TTL_SECONDS`.
fn set_in_array(array: &mut [Value], parts: &[&str], value: &str) -> Result<(), String> {
    let Some((index, rest)) = parts.split_first() else { return Ok(()) };
    let at: usize = index.parse().map_err(|_| format!("{index} is no number"))?;
    match array.get_mut(at) {
        Some(Value::Table(inner)) => set(inner, rest, value),
        Some(_) | None => Err(format!("there is no table number {at}")),
    }
}

fn as_variable(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    parsed.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}
