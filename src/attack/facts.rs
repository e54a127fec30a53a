//! What the program outside tells of what it has planted.

use std::collections::HashMap;

/// What the program outside tells.
#[derive(Debug)]
pub(crate) struct Facts(HashMap<String, String>);

impl Facts {
    pub(crate) fn new(args: impl Iterator<Item = String>) -> Self {
        let pair = |arg: String| {
            arg.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        Facts(args.filter_map(pair).collect())
    }

    /// A fact, or nothing.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A number, or zero.
    pub(crate) fn number(&self, name: &str) -> usize {
        self.text(name).parse().unwrap_or(0)
    }

    /// Something that tells of what is open only where it is asked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
