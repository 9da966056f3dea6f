//! A table with an end that forgets what nobody has asked for.
//!
//! A worker lives longer than the sessions that pass through it: a table that takes nothing more
//! once it is full would serve the first ones for ever and those of today not at all.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Two halves: what was used lately, and what was used before that half last filled up. When it
/// fills up again the old half is dropped, so that forgetting costs nothing by the piece.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// A table of at most so many entries, of which it always keeps the half used last.
    pub(super) fn new(max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: max.div_ceil(2),
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Returns an entry, which counts as used now.
    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.young.retain(|key, _| keep(key));
        self.old.retain(|key, _| keep(key));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_table_has_an_end() {
        let mut table = Recent::new(10);
        table.insert(0, "used");
        for number in 1..1000 {
            table.insert(number, "passing");
            assert_eq!(table.get(&0), Some(&"used"), "after {number}");
            assert!(table.young.len() + table.old.len() <= 10);
        }
        for number in 996..1000 {
            assert_eq!(table.get(&number), Some(&"passing"), "{number}");
        }
        assert_eq!(table.get(&1), None);
    }

    #[test]
    fn an_entry_is_there_once() {
        let mut table = Recent::new(2);
        for (key, value) in [(1, "a"), (2, "b"), (1, "c")] {
            table.insert(key, value);
        }
        assert_eq!(table.remove(&1), Some("c"));
        assert_eq!(table.get(&1), None);
        assert_eq!(table.remove(&1), None);
        table.retain(|_| false);
        assert!(table.is_empty());
    }
}
