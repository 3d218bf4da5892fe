//! Where a routine's, trigger's or scheduled event's text ends.
//!
//! A customer wrote it, and it is loaded with Drover's rights. MariaDB takes it as exactly one
//! statement, or refuses it (`EXECUTE IMMEDIATE`). Where there is no such word, a server runs what
//! it finds behind the first statement too, and it may find another end than the source did: code
//! for certain versions (`/*!110400 … */`) is a comment to the one and code to the other. There a
//! text with such code is refused.

use crate::frames::FrameKind;

/// Whether a definition that goes to a server as it is may be more than one statement there.
pub(crate) fn may_go_on(kind: FrameKind, sql: &[u8]) -> bool {
    is_body(kind) && sql.windows(3).any(|three| matches!(three, b"/*!" | b"/*M"))
}

/// Whether a definition is a body whose text ends in a semicolon.
pub(crate) fn ends_in_semicolon(kind: FrameKind, sql: &[u8]) -> bool {
    is_body(kind) && sql.trim_ascii_end().ends_with(b";")
}

fn is_body(kind: FrameKind) -> bool {
    match kind {
        FrameKind::Routine | FrameKind::Trigger | FrameKind::Event => true,
        FrameKind::Prologue
        | FrameKind::RowsBegin
        | FrameKind::Sequence
        | FrameKind::Table
        | FrameKind::Rows
        | FrameKind::Keys
        | FrameKind::RowsEnd
        | FrameKind::View
        | FrameKind::Trailer => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_for_certain_versions_is_seen_in_bodies() {
        for (kind, text, yes) in [
            (FrameKind::Routine, "CREATE PROCEDURE p() SELECT 1 /* a */ -- b", false),
            (FrameKind::Routine, "CREATE PROCEDURE p() SELECT 1 /*!99999 ; DROP */", true),
            (FrameKind::Trigger, "SET @a = 1 /*M!999999 ; DROP */", true),
            (FrameKind::Event, "DO 1 /*!DROP */", true),
            // The server's own print of a table.
            (FrameKind::Table, "CREATE TABLE `t` (`a` int /*!80023 INVISIBLE */)", false),
        ] {
            assert_eq!(may_go_on(kind, text.as_bytes()), yes, "{text}");
        }
    }
}
