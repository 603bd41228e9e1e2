//! What a guard keeps of the thaw lines that it was told, and carries out when stunfs is dead.
//!
//! Must not know: where the lines come from. Invariant: it allocates when it is made and never again, so that it may be
//! made before a fork and used after it.

use super::undo_action::RawUndoAction;
use super::undo_exec::execute_raw;

/// Lines of [`UndoAction`](super::UndoAction), the last one told being the first to be carried out.
#[derive(Debug)]
pub struct UndoLog {
    lines: Box<[u8]>,
    length: usize,
}

impl UndoLog {
    /// Room for `bytes` of lines. A process takes at most 42 bytes, anything else as much as its path and three times.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { lines: vec![0; bytes].into_boxed_slice(), length: 0 }
    }

    /// Writes a line down, given without its newline; whether there was room for it.
    pub fn note(&mut self, line: &[u8]) -> bool {
        let end = self.length + line.len();
        let Some([place @ .., newline]) = self.lines.get_mut(self.length..=end) else { return false };
        place.copy_from_slice(line);
        *newline = b'\n';
        self.length = end + 1;
        true
    }

    /// Forgets all: it was thawed.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Carries out all lines, the last first, and forgets them; how many failed. At most 5 s each.
    pub fn execute(&mut self) -> usize {
        let mut failed = 0;
        while let Some(line) = self.last() {
            let thawed = RawUndoAction::parse(line).is_ok_and(|action| execute_raw(action).is_ok());
            failed += usize::from(!thawed);
        }
        failed
    }

    /// Takes the last line out, with its newline.
    fn last(&mut self) -> Option<&mut [u8]> {
        let before = self.lines.get(..self.length.checked_sub(1)?)?;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let end = std::mem::replace(&mut self.length, start);
        self.lines.get_mut(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_comes_first_and_a_full_log_says_so() {
        let mut log = UndoLog::with_capacity(12);
        assert!(log.note(b"one") && log.note(b"three"));
        assert!(!log.note(b"xx"));
        assert!(log.note(b"x"));
        assert_eq!(log.last().unwrap(), b"x\n");
        assert_eq!(log.last().unwrap(), b"three\n");
        assert_eq!(log.last().unwrap(), b"one\n");
        assert_eq!(log.last(), None);
    }

    #[test]
    fn what_cannot_be_done_is_counted_and_the_rest_is_done() {
        let mut log = UndoLog::with_capacity(1000);
        // Gone is thawed; what is no control group is not written to.
        for line in [
            "thaw-write /does/not/exist 0",
            "thaw-cont 2147483647 1",
            "thaw-write /dev/null 0",
            "put-back /proc/sys/../../dev/null 0",
            "nonsense",
            "",
        ] {
            assert!(log.note(line.as_bytes()));
        }
        assert_eq!(log.execute(), 4);
        assert_eq!(log.execute(), 0);
        assert!(log.note(b"nonsense"));
        log.clear();
        assert_eq!(log.execute(), 0);
    }
}
