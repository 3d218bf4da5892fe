//! The migrations that are to be looked at.
//!
//! Whoever goes on with a step appends two facts within a moment, and they are read together. What the
//! first leads to is of no meaning then, and what the second leads to is to be ordered once: a migration is
//! looked at only for the last of its facts.

use std::collections::VecDeque;

use crate::board::Key;

/// The migrations that are to be looked at, each for a revision.
#[derive(Debug, Default)]
pub(super) struct Touched(VecDeque<(Key, u64)>);

impl Touched {
    /// It is to be looked at, where it stands at this revision.
    pub(super) fn push(&mut self, key: Key, revision: u64) {
        self.0.push_back((key, revision));
    }

    /// The same, before all others.
    pub(super) fn push_first(&mut self, key: Key, revision: u64) {
        self.0.push_front((key, revision));
    }

    /// The next one that still stands where it is to be looked at.
    pub(super) fn next(&mut self, standing: impl Fn(&Key) -> Option<u64>) -> Option<Key> {
        while let Some((key, revision)) = self.0.pop_front() {
            if standing(&key) == Some(revision) {
                return Some(key);
            }
        }
        None
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use drover_schemas::{CampaignName, MigrationId};

    use super::*;

    #[test]
    fn for_facts_that_came_together_it_is_looked_once() {
        let campaign: CampaignName = "night".parse().unwrap();
        let key = |database: &str| {
            let id = MigrationId::new(&campaign, &"a".parse().unwrap(), database);
            (campaign.clone(), id)
        };
        let (shop, blog) = (key("shop"), key("blog"));
        let mut touched = Touched::default();
        // Frozen and dumped, read in one go.
        for revision in [7, 8] {
            touched.push(shop.clone(), revision);
        }
        touched.push(blog.clone(), 9);
        touched.push_first(key("gone"), 1);
        let standing = |key: &Key| match key {
            key if *key == shop => Some(8),
            key if *key == blog => Some(9),
            _ => None,
        };
        let looked: Vec<Key> = std::iter::from_fn(|| touched.next(standing)).collect();
        assert_eq!(looked, [shop.clone(), blog.clone()]);
        touched.push(shop.clone(), 8);
        touched.clear();
        assert_eq!(touched.next(standing), None);
    }
}
