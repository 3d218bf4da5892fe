//! `Range: bytes=…`, one range, so that an interrupted download can go on (RFC 9110, 14).

use std::ops::Range;

/// What a request's header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: no range, one that is none, or several, which a server may ignore.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that there are not.
    Unsatisfiable,
}

/// Reads the header for an object of `bytes`.
pub(crate) fn parse(header: Option<&str>, bytes: u64) -> Wanted {
    let set = header.and_then(|header| header.trim().strip_prefix("bytes="));
    let Some((first, last)) = set.and_then(|set| set.split_once('-')) else { return Wanted::Whole };
    let number = |text: &str| {
        // A sign is a number to the standard library, not to HTTP.
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last, number(first), number(last)) {
        ("", _, _, Some(0)) => Wanted::Unsatisfiable,
        ("", _, _, Some(suffix)) => part(bytes.saturating_sub(suffix), bytes, bytes),
        (_, "", Some(first), _) => part(first, bytes, bytes),
        (_, _, Some(first), Some(last)) if first <= last => {
            part(first, last.saturating_add(1).min(bytes), bytes)
        }
        (_, _, _, _) => Wanted::Whole,
    }
}

fn part(first: u64, end: u64, bytes: u64) -> Wanted {
    if first >= bytes { Wanted::Unsatisfiable } else { Wanted::Part(first..end) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read() {
        for (header, wanted) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=5-", Wanted::Part(5..10)),
            ("bytes=5-99", Wanted::Part(5..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-99", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(parse(Some(header), 10), wanted, "{header}");
        }
        assert_eq!(parse(None, 10), Wanted::Whole);
        assert_eq!(parse(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn a_part_lies_within(header in "bytes=[0-9-]{0,22}", bytes: u64) {
            if let Wanted::Part(range) = parse(Some(&header), bytes) {
                prop_assert!(range.start < range.end && range.end <= bytes);
            }
        }
    }
}
