//! How to thaw one thing when the process that froze it is dead: one line of text for the guard.
//!
//! Must not know: how an action is carried out. Invariants: what is displayed parses to the same action; parsing allocates
//! nothing, so that it may be done in a child forked from a process with threads.
//!
//! ```text
//! thaw-write PATH VALUE          write VALUE into a control group's file
//! thaw-cont PID STARTTIME        SIGCONT, if the process still has that start time (field 22 of /proc/PID/stat)
//! thaw-http SOCKET REQUEST       send a prepared HTTP request to a Unix socket
//! thaw-qmp SOCKET                negotiate with QEMU and say `cont`
//! put-back PATH VALUE            write VALUE into a kernel setting below /proc/sys
//! ```
//! Fields are separated by one space; bytes in them that are not printable, spaces and `%` stand as `%XX`.

use std::ffi::{CStr, CString};
use std::fmt;
use std::str::FromStr;

use rustix::process::Pid;
use thiserror::Error;

/// An action that owns its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UndoAction {
    /// Write a value into a control group's file.
    Write {
        /// The file, absolute.
        path: CString,
        /// What is written, without a newline.
        value: CString,
    },
    /// SIGCONT to one process.
    Cont {
        /// Its id.
        pid: Pid,
        /// Its start time in clock ticks since boot: a reused id has another one.
        start: u64,
    },
    /// A prepared HTTP request.
    Http {
        /// The Unix socket.
        socket: CString,
        /// The whole request, with its blank line.
        request: CString,
    },
    /// QEMU's `cont`.
    Qmp {
        /// The monitor's Unix socket.
        socket: CString,
    },
    /// Nothing to thaw, but to be undone all the same: a kernel setting as it was.
    PutBack {
        /// The file, absolute, below `/proc/sys`.
        path: CString,
        /// What is written, without a newline.
        value: CString,
    },
}

/// An action that borrows its text: see [`UndoAction`] for the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are UndoAction's")]
pub enum RawUndoAction<'a> {
    Write { path: &'a CStr, value: &'a CStr },
    Cont { pid: Pid, start: u64 },
    Http { socket: &'a CStr, request: &'a CStr },
    Qmp { socket: &'a CStr },
    PutBack { path: &'a CStr, value: &'a CStr },
}

/// Why a line is not an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UndoActionError {
    /// The first word.
    #[error("not a thaw action: it starts with thaw-write, thaw-cont, thaw-http, thaw-qmp or put-back")]
    Kind,
    /// Too few or too many fields.
    #[error("not a thaw action: wrong number of fields")]
    Fields,
    /// A field that does not decode.
    #[error("not a thaw action: a field is not a number, is empty, has a zero byte or a bad %XX")]
    Field,
    /// The end.
    #[error("not a thaw action: a line ends with one newline")]
    Newline,
}

impl<'a> RawUndoAction<'a> {
    /// Parses a line that ends with its newline. The line is decoded in place, nothing is allocated.
    pub fn parse(line: &'a mut [u8]) -> Result<Self, UndoActionError> {
        if line.last() != Some(&b'\n') {
            return Err(UndoActionError::Newline);
        }
        let mut fields = line.split_inclusive_mut(|byte| *byte == b' ' || *byte == b'\n');
        let kind = fields.next().ok_or(UndoActionError::Kind)?;
        let (one, two) = (fields.next(), fields.next());
        if fields.next().is_some() {
            return Err(UndoActionError::Fields);
        }
        match (&*kind, one, two) {
            (b"thaw-write ", Some(path), Some(value)) => Ok(Self::Write { path: decode(path)?, value: decode(value)? }),
            (b"thaw-cont ", Some(pid), Some(start)) => Ok(Self::Cont { pid: process(pid)?, start: number(start)? }),
            (b"thaw-http ", Some(socket), Some(request)) => {
                Ok(Self::Http { socket: decode(socket)?, request: decode(request)? })
            }
            (b"thaw-qmp ", Some(socket), None) => Ok(Self::Qmp { socket: decode(socket)? }),
            (b"put-back ", Some(path), Some(value)) => Ok(Self::PutBack { path: decode(path)?, value: decode(value)? }),
            (b"thaw-write " | b"thaw-cont " | b"thaw-http " | b"thaw-qmp " | b"put-back ", ..) => {
                Err(UndoActionError::Fields)
            }
            _ => Err(UndoActionError::Kind),
        }
    }

    fn owned(self) -> UndoAction {
        match self {
            Self::Write { path, value } => UndoAction::Write { path: path.to_owned(), value: value.to_owned() },
            Self::Cont { pid, start } => UndoAction::Cont { pid, start },
            Self::Http { socket, request } => {
                UndoAction::Http { socket: socket.to_owned(), request: request.to_owned() }
            }
            Self::Qmp { socket } => UndoAction::Qmp { socket: socket.to_owned() },
            Self::PutBack { path, value } => UndoAction::PutBack { path: path.to_owned(), value: value.to_owned() },
        }
    }
}

/// Decodes a field together with the separator behind it, whose place the closing zero takes at the latest.
fn decode(field: &mut [u8]) -> Result<&CStr, UndoActionError> {
    let (mut read, mut write) = (0, 0);
    let end = field.len() - 1;
    while read < end {
        let escaped = field[read] == b'%';
        let byte = if escaped { hex(field.get(read + 1..read + 3))? } else { field[read] };
        if byte == 0 || !(escaped || byte.is_ascii_graphic()) {
            return Err(UndoActionError::Field);
        }
        field[write] = byte;
        write += 1;
        read += if escaped { 3 } else { 1 };
    }
    if read != end || write == 0 {
        return Err(UndoActionError::Field);
    }
    field[write] = 0;
    CStr::from_bytes_with_nul(&field[..=write]).map_err(|_| UndoActionError::Field)
}

fn hex(digits: Option<&[u8]>) -> Result<u8, UndoActionError> {
    let value =
        |digit: u8| (digit as char).to_digit(16).and_then(|v| u8::try_from(v).ok()).ok_or(UndoActionError::Field);
    match digits {
        Some(&[high, low]) => Ok(value(high)? << 4 | value(low)?),
        _ => Err(UndoActionError::Field),
    }
}

fn number(field: &mut [u8]) -> Result<u64, UndoActionError> {
    let digits = &field[..field.len() - 1];
    let text = str::from_utf8(digits).map_err(|_| UndoActionError::Field)?;
    // `parse` alone would take "+1", which is not what is displayed.
    if text.starts_with('+') {
        return Err(UndoActionError::Field);
    }
    text.parse().map_err(|_| UndoActionError::Field)
}

fn process(field: &mut [u8]) -> Result<Pid, UndoActionError> {
    let number = i32::try_from(number(field)?).ok().filter(|n| *n > 0);
    number.and_then(Pid::from_raw).ok_or(UndoActionError::Field)
}

impl UndoAction {
    /// The same, borrowed: what [`execute_raw`](super::execute_raw) takes.
    pub fn as_raw(&self) -> RawUndoAction<'_> {
        match self {
            Self::Write { path, value } => RawUndoAction::Write { path, value },
            Self::Cont { pid, start } => RawUndoAction::Cont { pid: *pid, start: *start },
            Self::Http { socket, request } => RawUndoAction::Http { socket, request },
            Self::Qmp { socket } => RawUndoAction::Qmp { socket },
            Self::PutBack { path, value } => RawUndoAction::PutBack { path, value },
        }
    }
}

/// The line without its newline.
impl fmt::Display for UndoAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, value } => write!(f, "thaw-write {} {}", Field(path), Field(value)),
            Self::Cont { pid, start } => write!(f, "thaw-cont {} {start}", pid.as_raw_nonzero()),
            Self::Http { socket, request } => write!(f, "thaw-http {} {}", Field(socket), Field(request)),
            Self::Qmp { socket } => write!(f, "thaw-qmp {}", Field(socket)),
            Self::PutBack { path, value } => write!(f, "put-back {} {}", Field(path), Field(value)),
        }
    }
}

struct Field<'a>(&'a CStr);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_bytes().iter().try_for_each(|byte| match byte {
            b'%' => f.write_str("%25"),
            _ if byte.is_ascii_graphic() => write!(f, "{}", *byte as char),
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

/// A line, with or without its newline.
impl FromStr for UndoAction {
    type Err = UndoActionError;

    fn from_str(line: &str) -> Result<Self, UndoActionError> {
        let mut line = format!("{}\n", line.strip_suffix('\n').unwrap_or(line)).into_bytes();
        RawUndoAction::parse(&mut line).map(RawUndoAction::owned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = CString> {
        prop::collection::vec(1u8.., 1..80).prop_map(|bytes| CString::new(bytes).unwrap())
    }

    fn action() -> impl Strategy<Value = UndoAction> {
        prop_oneof![
            (text(), text()).prop_map(|(path, value)| UndoAction::Write { path, value }),
            (1..i32::MAX, any::<u64>())
                .prop_map(|(pid, start)| UndoAction::Cont { pid: Pid::from_raw(pid).unwrap(), start }),
            (text(), text()).prop_map(|(socket, request)| UndoAction::Http { socket, request }),
            text().prop_map(|socket| UndoAction::Qmp { socket }),
            (text(), text()).prop_map(|(path, value)| UndoAction::PutBack { path, value }),
        ]
    }

    proptest! {
        #[test]
        fn a_line_parses_to_the_action_it_was_made_from(action in action()) {
            let line = action.to_string();
            prop_assert!(line.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{}", line);
            prop_assert_eq!(line.parse::<UndoAction>().unwrap(), action);
        }

        #[test]
        fn any_bytes_are_an_action_or_an_error(mut line in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = RawUndoAction::parse(&mut line);
        }

        #[test]
        fn any_fields_are_an_action_or_an_error(line in "(thaw-(write|cont|http|qmp)|put-back)( [%0-9a-f/]{0,8}){0,3}") {
            let _ = line.parse::<UndoAction>();
        }
    }

    #[test]
    fn the_text_is_as_documented() {
        let request = c"POST /x HTTP/1.1\r\n\r\n".to_owned();
        let action = UndoAction::Http { socket: c"/run/a b%".to_owned(), request };
        assert_eq!(action.to_string(), "thaw-http /run/a%20b%25 POST%20/x%20HTTP/1.1%0D%0A%0D%0A");
    }

    #[test]
    fn what_is_not_an_action_is_refused() {
        for (line, error) in [
            ("", UndoActionError::Kind),
            ("umount /x", UndoActionError::Kind),
            ("thaw-qmp", UndoActionError::Kind),
            ("thaw-qmp a b", UndoActionError::Fields),
            ("thaw-write a", UndoActionError::Fields),
            ("thaw-write a b c", UndoActionError::Fields),
            ("thaw-cont 0 1", UndoActionError::Field),
            ("thaw-cont 1 +1", UndoActionError::Field),
            ("thaw-cont 99999999999 1", UndoActionError::Field),
            ("thaw-qmp %", UndoActionError::Field),
            ("thaw-qmp %4", UndoActionError::Field),
            ("thaw-qmp %00", UndoActionError::Field),
            ("thaw-qmp a\tb", UndoActionError::Field),
            ("thaw-write  b", UndoActionError::Field),
        ] {
            assert_eq!(line.parse::<UndoAction>(), Err(error), "{line:?}");
        }
        assert_eq!(RawUndoAction::parse(&mut b"thaw-qmp a".to_vec()), Err(UndoActionError::Newline));
    }
}
