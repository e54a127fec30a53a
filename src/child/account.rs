//! What init has told so far, each word of it bounded: it may have been taken over.

use crate::outcome::Left;
use crate::wire::{Report, report};

/// How many that were left are told by name.
const NAMED: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) last_report: Option<Box<Report>>,
    pub(crate) left: Vec<Left>,
    pub(crate) left_count: u64,
    /// Nothing runs any more but init itself.
    pub(crate) counts: bool,
}

impl Account {
    pub(crate) fn note(&mut self, report: Box<Report>) {
        match report.kind {
            report::LEFT => {
                self.left_count = self.left_count.max(report.numbers[1]);
                if self.left.len() < NAMED {
                    self.left.push(Left {
                        pid: u32::try_from(report.numbers[0]).unwrap_or(0),
                        name: String::from_utf8_lossy(report.text()).into_owned(),
                    });
                }
            }
            report::KILLED => self.counts = true,
            report::ENDED => self.last_report = Some(report),
            _ => {}
        }
    }
}
