//! Messages whose fields stand on several lines: `journalctl -o export`, `-o verbose`, `-o json-pretty`, `dmesg --json`.
//!
//! Must not know: what messages mean. Invariant: a record gives at most one message, and lines that are no fields are
//! handed back.

use serde_json::{Map, Value};

use super::dates::take_date;
use super::envelope::{Envelope, from_fields};

/// More fields than any record has.
const MAX_FIELDS: usize = 256;

/// The record that is being read.
#[derive(Debug, Default)]
pub(super) struct Records {
    open: Option<Record>,
}

#[derive(Debug)]
struct Record {
    form: Form,
    fields: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `NAME=value`.
    Named,
    /// `"name" : value,`.
    Json,
}

/// What a line was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecordOutcome {
    /// A part of a record, which may be complete now.
    Mine(Option<Envelope>),
    /// No part of a record; the one before it, if it is complete now.
    Other(Option<Envelope>),
}

impl Records {
    /// Offers a line.
    pub(super) fn take(&mut self, line: &str) -> RecordOutcome {
        if let Some(form) = begins(line) {
            let before = self.finish();
            let mut record = Record { form, fields: Map::new() };
            record.add(line);
            self.open = Some(record);
            return RecordOutcome::Mine(before);
        }
        let Some(record) = &mut self.open else { return RecordOutcome::Other(None) };
        let text = line.trim();
        let form = record.form;
        let is_end = match form {
            Form::Named => text.is_empty(),
            Form::Json => ["}", "},", "]", "],"].contains(&text),
        };
        if is_end {
            return RecordOutcome::Mine(self.finish());
        }
        if record.add(text) {
            return RecordOutcome::Mine(None);
        }
        match form {
            // Something else is on the console, too: the record may go on.
            Form::Json => RecordOutcome::Other(None),
            Form::Named => RecordOutcome::Other(self.finish()),
        }
    }

    /// The record ends here.
    pub(super) fn finish(&mut self) -> Option<Envelope> {
        from_fields(&self.open.take()?.fields)
    }

    /// Whether a record is being read that has something in it.
    pub(super) fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|record| !record.fields.is_empty())
    }
}

/// Whether a record begins with this line, and in which form.
fn begins(line: &str) -> Option<Form> {
    let text = line.trim();
    let is_json = ["{", "},{", "}, {", "[{", "[ {"].contains(&text);
    let is_verbose = take_date(text).is_some_and(|(_, rest)| rest.starts_with(" [s=") && rest.ends_with(']'));
    match () {
        () if is_json => Some(Form::Json),
        () if is_verbose || text.starts_with("__CURSOR=") => Some(Form::Named),
        () => None,
    }
}

impl Record {
    /// Takes a line that is a field.
    fn add(&mut self, text: &str) -> bool {
        let field = match self.form {
            Form::Named => named_field(text),
            Form::Json => json_field(text),
        };
        let Some((name, value)) = field.filter(|_| self.fields.len() < MAX_FIELDS) else { return false };
        self.fields.insert(name, value);
        true
    }
}

fn named_field(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once('=')?;
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| (name.to_owned(), Value::String(value.to_owned())))
}

fn json_field(text: &str) -> Option<(String, Value)> {
    let text = text.strip_suffix(',').unwrap_or(text);
    let object: Map<String, Value> = serde_json::from_str(&format!("{{{text}}}")).ok()?;
    object.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<(String, bool)> {
        let mut records = Records::default();
        let mut found = Vec::new();
        for line in text.lines() {
            match records.take(line) {
                RecordOutcome::Mine(envelope) | RecordOutcome::Other(envelope) => found.extend(envelope),
            }
        }
        found.extend(records.finish());
        found.into_iter().map(|envelope| (envelope.message, envelope.by_program)).collect()
    }

    #[test]
    fn all_forms() {
        let expected = [("a".to_owned(), false), ("b".to_owned(), true)];
        for text in [
            "__CURSOR=s\n_TRANSPORT=kernel\nMESSAGE=a\n\n__CURSOR=t\nMESSAGE=b\n_TRANSPORT=stdout\n",
            "Mon 2025-11-24 03:02:01.000001 UTC [s=1;i=2]\n    MESSAGE=a\n    _TRANSPORT=kernel\n\
             Mon 2025-11-24 03:02:01.000002 UTC [s=1;i=3]\n    MESSAGE=b\n    SYSLOG_IDENTIFIER=app",
            "{\n\t\"MESSAGE\" : \"a\",\n\t\"_TRANSPORT\" : \"kernel\"\n}\n{\n\t\"MESSAGE\" : \"b\",\n\t\"ident\" : \"x\"\n}",
            "{\n   \"dmesg\": [\n      {\n         \"fac\": \"kern\",\n         \"time\": 1.000001,\n         \"msg\": \"a\"\n      },{\n\
             \"fac\": \"user\",\n\"msg\": \"b\"\n      }\n   ]\n}",
        ] {
            assert_eq!(messages(text), expected, "{text}");
        }
    }

    #[test]
    fn other_lines_are_handed_back() {
        let mut records = Records::default();
        assert_eq!(records.take("A=b"), RecordOutcome::Other(None));
        assert_eq!(records.take("{"), RecordOutcome::Mine(None));
        assert!(!records.is_open());
        assert_eq!(records.take("[  1.000000] x"), RecordOutcome::Other(None));
        assert_eq!(records.take("\"message\": \"a\""), RecordOutcome::Mine(None));
        assert!(records.is_open());
        assert!(matches!(records.take("}"), RecordOutcome::Mine(Some(found)) if found.message == "a"));
    }
}
