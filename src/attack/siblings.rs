//! Another sandbox of the same configuration, in which a sentinel is.

use std::fs::File;

use crate::facts::Facts;
use crate::verdict::{Verdict, worked};
use crate::{others, reach, signals};

pub(crate) fn sibling_tcp(facts: &Facts) -> Verdict {
    reach::tcp_of_host(facts)
}

pub(crate) fn sibling_abstract(facts: &Facts) -> Verdict {
    reach::abstract_socket(facts)
}

pub(crate) fn sibling_shared_memory(facts: &Facts) -> Verdict {
    reach::shared_memory(facts)
}

pub(crate) fn sibling_queue(facts: &Facts) -> Verdict {
    reach::message_queue(facts)
}

pub(crate) fn sibling_kill(facts: &Facts) -> Verdict {
    signals::kill(facts)
}

pub(crate) fn sibling_memory(facts: &Facts) -> Verdict {
    others::read_memory(facts)
}

/// What it has written to /tmp.
pub(crate) fn sibling_files(facts: &Facts) -> Verdict {
    worked("the other one's file", File::open(facts.text("file")))
}
