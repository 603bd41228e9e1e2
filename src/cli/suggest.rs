//! Values that a shell completes, for arguments that take others, too.
//!
//! Must not know: what a value means. Invariant: an argument takes the same values with suggestions as without.

use std::ffi::OsStr;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// Reads a value with its own parser and suggests `values` to the shell.
#[derive(Debug, Clone)]
pub(crate) struct Suggested {
    values: Vec<&'static str>,
}

impl Suggested {
    pub(crate) fn new(values: impl IntoIterator<Item = &'static str>) -> Self {
        Self { values: values.into_iter().collect() }
    }

    /// The same for values that are no plain texts.
    pub(crate) fn of<T>(self) -> impl TypedValueParser<Value = T>
    where
        T: FromStr + Clone + Send + Sync + 'static,
        T::Err: ToString,
    {
        SuggestedValue { texts: self, value: std::marker::PhantomData }
    }
}

impl TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        clap::builder::StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().map(PossibleValue::new)))
    }
}

#[derive(Debug)]
struct SuggestedValue<T> {
    texts: Suggested,
    value: std::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for SuggestedValue<T> {
    fn clone(&self) -> Self {
        Self { texts: self.texts.clone(), value: self.value }
    }
}

impl<T> TypedValueParser for SuggestedValue<T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: ToString,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let text = self.texts.parse_ref(command, argument, value)?;
        text.parse().map_err(|error: T::Err| {
            let mut refused = Error::raw(ErrorKind::ValueValidation, error.to_string()).with_cmd(command);
            refused.insert(ContextKind::InvalidValue, ContextValue::String(text));
            refused
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.texts.possible_values()
    }
}
