//! The order in which views are made: each behind those that it reads.
//!
//! A view's definition, as the server prints it, names what it reads in backticks. Every name in
//! backticks that is a view's counts as read: a column of the same name only makes the order
//! stricter than it must be. Where that gives a circle, the views in it are made twice: first with
//! their columns only.

use std::collections::{BTreeMap, BTreeSet};

/// A step of making the views.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Make the view with its columns only.
    Placeholder(&'a str),
    /// Make the view.
    View(&'a str),
}

/// The steps for these views: name and definition.
pub(crate) fn order<'a>(views: &BTreeMap<&'a str, &str>) -> Vec<Step<'a>> {
    let mut waiting: BTreeMap<&'a str, BTreeSet<&'a str>> = BTreeMap::new();
    for (name, definition) in views {
        let named = names(definition);
        let reads = views.keys().copied().filter(|view| view != name && named.contains(*view));
        waiting.insert(name, reads.collect());
    }
    let mut steps = Vec::new();
    while !waiting.is_empty() {
        let ready: Vec<&str> = waiting
            .iter()
            .filter(|(_, reads)| !reads.iter().any(|view| waiting.contains_key(view)))
            .map(|(name, _)| *name)
            .collect();
        if ready.is_empty() {
            // A circle: all that is left is made with its columns, then as it is.
            steps.extend(waiting.keys().map(|name| Step::Placeholder(name)));
            steps.extend(waiting.keys().map(|name| Step::View(name)));
            break;
        }
        for name in ready {
            waiting.remove(name);
            steps.push(Step::View(name));
        }
    }
    steps
}

/// What stands between backticks in a definition, outside its texts.
fn names(definition: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut chars = definition.chars().peekable();
    while let Some(open) = chars.next() {
        if !matches!(open, '`' | '\'') {
            continue;
        }
        let mut name = String::new();
        while let Some(c) = chars.next() {
            if c == '\\' && open == '\'' {
                chars.next();
            } else if c == open {
                if chars.peek() != Some(&open) {
                    break;
                }
                chars.next();
                name.push(c);
            } else {
                name.push(c);
            }
        }
        if open == '`' {
            found.insert(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_outside_texts() {
        let text = "select `a``b`.`c` AS `d` from `e` where 'it''s `f` \\' `g`' = `h`";
        let expected = ["a`b", "c", "d", "e", "h"].map(str::to_owned);
        assert_eq!(names(text), BTreeSet::from(expected));
    }

    #[test]
    fn each_view_comes_behind_those_that_it_reads() {
        let views = [("a", "from `b` join `t`"), ("b", "from `c`"), ("c", "`t`.`x` AS `c`")];
        assert_eq!(order(&views.into()), ["c", "b", "a"].map(Step::View));
        let circle = [("a", "`b`"), ("b", "`a`"), ("z", "1")];
        assert_eq!(
            order(&circle.into()),
            [
                Step::View("z"),
                Step::Placeholder("a"),
                Step::Placeholder("b"),
                Step::View("a"),
                Step::View("b")
            ]
        );
    }
}
