//! Lines that a carrier cut in pieces: parts in a container's log (CRI), fragments of extended netconsole.
//!
//! Must not know: what messages mean. Invariant: a piece is told once, with the others of its line or, if those do not come,
//! alone; what is kept is bounded.

use std::borrow::Cow;

use super::dates::take_date;

/// Bytes that are kept of a line that is not whole yet.
const MAX_KEPT: usize = 16 * 1024;

/// The pieces of lines that are not whole yet.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// Of standard output and of standard error.
    parts: [Option<MessagePiece>; 2],
    datagram: Option<MessagePiece>,
}

#[derive(Debug)]
struct MessagePiece {
    /// What stands before the message.
    head: String,
    body: String,
}

impl MessagePiece {
    fn whole(self) -> String {
        self.head + &self.body
    }
}

impl Fragments {
    /// The line, whole; none if more of it is to come.
    pub(super) fn take<'a>(&mut self, line: &'a str) -> Option<Cow<'a, str>> {
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(part) = FragmentPart::parse(line) {
            return self.take_part(line, &part);
        }
        match Datagram::parse(line) {
            Some(datagram) => self.take_datagram(&datagram).map(Cow::Owned),
            None => Some(Cow::Borrowed(line)),
        }
    }

    /// What is there of lines that did not become whole.
    pub(super) fn finish(&mut self) -> Vec<String> {
        let [out, err] = &mut self.parts;
        [out.take(), err.take(), self.datagram.take()].into_iter().flatten().map(MessagePiece::whole).collect()
    }

    /// Whether a line is not whole yet.
    pub(super) fn is_open(&self) -> bool {
        self.datagram.is_some() || self.parts.iter().any(Option::is_some)
    }

    fn take_part<'a>(&mut self, line: &'a str, part: &FragmentPart<'_>) -> Option<Cow<'a, str>> {
        let [out, err] = &mut self.parts;
        let kept = if part.is_error { err } else { out };
        if kept.is_none() && part.is_last {
            return Some(Cow::Borrowed(line));
        }
        let piece = kept.get_or_insert_with(|| MessagePiece { head: format!("{}F ", part.head), body: String::new() });
        if piece.body.len() < MAX_KEPT {
            piece.body.push_str(part.text);
        }
        kept.take_if(|_| part.is_last).map(|piece| Cow::Owned(piece.whole()))
    }

    fn take_datagram(&mut self, datagram: &Datagram<'_>) -> Option<String> {
        if datagram.offset == 0 {
            self.datagram = Some(MessagePiece { head: format!("{};", datagram.head), body: String::new() });
        }
        let piece = self.datagram.as_mut().filter(|piece| piece.body.len() == datagram.offset)?;
        piece.body.push_str(datagram.text);
        let is_whole = piece.body.len() >= datagram.total.min(MAX_KEPT);
        self.datagram.take_if(|_| is_whole).map(MessagePiece::whole)
    }
}

/// `2025-11-24T03:02:01Z stdout P text`: `P` is followed by more, `F` is the line's end.
struct FragmentPart<'a> {
    /// Date and stream.
    head: &'a str,
    is_error: bool,
    is_last: bool,
    text: &'a str,
}

impl<'a> FragmentPart<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_date, rest) = take_date(line)?;
        let tagged = rest.strip_prefix(" stdout ").or_else(|| rest.strip_prefix(" stderr "))?;
        let (tag, text) = tagged.split_once(' ')?;
        let is_last = match tag.split(':').next()? {
            "F" => true,
            "P" => false,
            _ => return None,
        };
        let head = line.get(..line.len() - tagged.len())?;
        Some(Self { head, is_error: rest.starts_with(" stderr "), is_last, text })
    }
}

/// `4,1234,301000001,-,ncfrag=22/44;text`: these bytes of the message, of so many.
struct Datagram<'a> {
    head: &'a str,
    offset: usize,
    total: usize,
    text: &'a str,
}

impl<'a> Datagram<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, text) = line.split_once(';')?;
        let (head, place) = head.split_once(",ncfrag=")?;
        let (offset, total) = place.split(',').next()?.split_once('/')?;
        Some(Self { head, offset: offset.parse().ok()?, total: total.parse().ok()?, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(lines: &[&str]) -> Vec<String> {
        let mut fragments = Fragments::default();
        let mut found: Vec<_> =
            lines.iter().filter_map(|line| fragments.take(line).map(std::borrow::Cow::into_owned)).collect();
        found.extend(fragments.finish());
        assert!(!fragments.is_open());
        found
    }

    #[test]
    fn parts_of_a_containers_line_are_joined() {
        let lines = [
            "2025-11-24T03:02:01Z stdout P nfs: server a ",
            "2025-11-24T03:02:01Z stderr F other",
            "2025-11-24T03:02:02Z stdout P not respon",
            "2025-11-24T03:02:02Z stdout F ding",
            "2025-11-24T03:02:03Z stdout P alone",
        ];
        let expected = [
            "2025-11-24T03:02:01Z stderr F other",
            "2025-11-24T03:02:01Z stdout F nfs: server a not responding",
            "2025-11-24T03:02:03Z stdout F alone",
        ];
        assert_eq!(whole(&lines), expected);
    }

    #[test]
    fn fragments_of_netconsole_are_joined() {
        let lines = ["6.1.0,4,7,301000001,-,ncfrag=0/9;abcde", "x", "6.1.0,4,7,301000001,-,ncfrag=5/9;fghi"];
        assert_eq!(whole(&lines), ["x", "6.1.0,4,7,301000001,-;abcdefghi"]);
        assert_eq!(whole(&["4,7,3,-,ncfrag=5/9;fghi", "4,7,3,-,ncfrag=0/9;a"]), ["4,7,3,-;a"]);
        assert_eq!(whole(&["4,7,3,-,ncfrag=0/16;abc def"]), ["4,7,3,-;abc def"]);
    }
}
