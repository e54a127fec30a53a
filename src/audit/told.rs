//! What the probe tells, taken apart: every length in it is checked.

use std::io::{ErrorKind, Read};

use super::format::{self, *};

/// Everything about one path or system call.
#[derive(Debug, Default)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) device: Option<u64>,
    /// The number of the file system that begins there.
    pub(crate) file_system: Option<u64>,
    pub(crate) descriptor: Option<i32>,
}

impl Item {
    pub(crate) fn place(&self) -> String {
        match self.descriptor {
            Some(number) => format!("descriptor {number}"),
            None => String::from_utf8_lossy(&self.name).escape_debug().to_string(),
        }
    }
}

/// Hands over one after the other; fails with what is missing.
pub(crate) fn each(from: &mut impl Read, mut visit: impl FnMut(Item)) -> Result<(), &'static str> {
    let (mut item, mut total) = (Item::default(), 0usize);
    loop {
        let mut header = [0; 5];
        match from.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err("the probe ended in the middle");
            }
            other => other.map_err(|_| "what the probe tells cannot be read")?,
        }
        let [kind, a, b, c, d] = header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        total = total.saturating_add(length.saturating_add(header.len()));
        if length > RECORD_MAX || total > 2 * TOTAL_MAX {
            return Err("the probe tells more than it can");
        }
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes).map_err(|_| "the probe ended in the middle")?;
        match kind {
            NAME => {
                visit(std::mem::take(&mut item));
                item.name = bytes;
            }
            DATA if item.data.len() <= FILE_MAX + RECORD_MAX => item.data.extend(bytes),
            DEVICE => item.device = number(&bytes, 0),
            // struct statfs: the eighth word.
            FILE_SYSTEM => item.file_system = number(&bytes, 56),
            DESCRIPTOR => {
                item.descriptor = word(&bytes, 0).map(|word| i32::from_ne_bytes(word.to_ne_bytes()))
            }
            CUT | END | BLIND => {
                visit(item);
                if kind == BLIND {
                    return Err(
                        "the root directory cannot be listed: only system calls were asked",
                    );
                }
                let cut = "there is more than 256 MiB, 500000 entries or 64 levels: the rest was not read";
                return if kind == END { Ok(()) } else { Err(cut) };
            }
            _ => return Err("the probe tells nonsense"),
        }
    }
}

/// Eight bytes at `at`.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Four bytes at `at`.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Whether a name is that of a path, and not of a system call.
pub(crate) fn is_path(name: &[u8]) -> bool {
    name.starts_with(b"/") && name != format::PLACE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_ne_bytes();
        [&[kind], &length[..], bytes].concat()
    }

    #[test]
    fn records_of_one_thing_come_together() {
        let told = [
            record(NAME, b"/file"),
            record(DATA, b"on"),
            record(DATA, b"e"),
            record(NAME, b"/device"),
            record(DEVICE, &7u64.to_ne_bytes()),
            record(END, b""),
        ];
        let mut items = Vec::new();
        each(&mut &told.concat()[..], |item| items.push(item)).unwrap();
        assert_eq!((&*items[1].name, &*items[1].data), (&b"/file"[..], &b"one"[..]));
        assert_eq!((&*items[2].name, items[2].device), (&b"/device"[..], Some(7)));
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        let mut told = record(NAME, b"/file");
        told.extend([DATA, 255, 255, 255, 255]);
        assert!(each(&mut &told[..], |_| ()).is_err());
        // And an end in the middle.
        assert!(each(&mut &record(NAME, b"/file")[..3], |_| ()).is_err());
        assert!(each(&mut &record(CUT, b"")[..], |_| ()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_apart(records in proptest::collection::vec(
            (prop_oneof![Just(NAME), Just(DATA), Just(DEVICE), Just(FILE_SYSTEM), Just(DESCRIPTOR),
                any::<u8>()], proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
            tail in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut told: Vec<u8> =
                records.iter().flat_map(|(kind, bytes)| record(*kind, bytes)).collect();
            told.extend(tail);
            let _ended = each(&mut &told[..], |item| drop(item.place()));
        }
    }
}
