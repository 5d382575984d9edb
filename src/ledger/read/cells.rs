//! A cell of a row as the type that it stands for, or an error that names its column. Asks the ledger nothing.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSqlError, Type, ValueRef};
use serde::de::DeserializeOwned;

use super::Result;

pub(super) fn instant(row: &Row<'_>, index: usize) -> Result<Timestamp> {
    Timestamp::from_microsecond(row.get(index)?).map_err(|error| unreadable(index, Type::Integer, error))
}

pub(super) fn maybe_instant(row: &Row<'_>, index: usize) -> Result<Option<Timestamp>> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        _ => instant(row, index).map(Some),
    }
}

pub(super) fn word<T>(row: &Row<'_>, index: usize, from_word: fn(&str) -> Option<T>) -> Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    from_word(text).ok_or_else(|| unreadable(index, Type::Text, FromSqlError::Other(text.into())))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(index, Type::Text, error))
}

pub(super) fn json_or_empty<T: DeserializeOwned + Default>(row: &Row<'_>, index: usize) -> Result<T> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(T::default()),
        _ => json(row, index),
    }
}

pub(super) fn unreadable(
    index: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error))
}
