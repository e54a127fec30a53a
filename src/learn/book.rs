//! What was noted, each thing once.

use std::collections::HashMap;

use super::{Denial, Denials, Denied};

/// How many different things are noted: a hostile program can ask for any number.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Book {
    denials: Vec<Denial>,
    /// By what it is, without the arguments that say nothing.
    known: HashMap<Denied, usize>,
    pub(super) dropped: u64,
    pub(super) unread: u64,
}

impl Book {
    /// Counts what is noted already; says whether it is.
    pub(super) fn count(&mut self, key: &Denied) -> bool {
        let known = self.known.get(key).and_then(|at| self.denials.get_mut(*at));
        known.map(|denial| denial.count += 1).is_some()
    }

    pub(super) fn note(&mut self, key: Denied, denial: Denial) {
        if self.count(&key) {
            return;
        }
        if self.denials.len() >= MOST {
            self.dropped += 1;
            return;
        }
        self.known.insert(key, self.denials.len());
        self.denials.push(denial);
    }

    pub(super) fn denials(&self) -> Denials {
        let (dropped, unread) = (self.dropped, self.unread);
        Denials { entries: self.denials.clone(), dropped, unread, ..Denials::default() }
    }
}
