//! The program's descriptors: each gets its number, and nothing else stays open.

use super::{Failure, Wanted};
use crate::abi::*;
use crate::raw::Errno;
use crate::sys::{self, Outcome};
use crate::wire::{Call, DESCRIPTORS_MAX, Fault, Reader};

/// Pairs of a descriptor of init's and its number in the program.
pub(crate) fn descriptors<'a>(wanted: &Wanted<'a>) -> impl Iterator<Item = (i32, i32)> + use<'a> {
    let mut pairs = Reader::new(wanted.descriptors.bytes());
    core::iter::from_fn(move || Some((pairs.next()?, pairs.next()?)))
}

/// Gives each descriptor its number. First all get numbers that nobody wants, so that none is
/// overwritten before it was placed.
pub(super) fn place_descriptors(wanted: &Wanted<'_>, errors: &mut i32) -> Result<(), Failure> {
    let lift = |fd: i32| -> Outcome<i32> {
        let mut copy = sys::fcntl(fd, F_DUPFD_CLOEXEC, 3)? as i32;
        while descriptors(wanted).any(|(_, target)| target == copy) {
            let next = sys::fcntl(fd, F_DUPFD_CLOEXEC, copy as usize + 1)? as i32;
            sys::close(copy);
            copy = next;
        }
        Ok(copy)
    };
    *errors = lift(*errors)?;
    let mut lifted = [0; DESCRIPTORS_MAX];
    if descriptors(wanted).count() > lifted.len() {
        return Err(Fault { call: Call::Descriptor, errno: Errno(E2BIG) }.into());
    }
    for (to, (source, target)) in lifted.iter_mut().zip(descriptors(wanted)) {
        *to = lift(source).map_err(|fault| Failure::number(fault, target as usize))?;
    }
    for (from, (_, target)) in lifted.iter().zip(descriptors(wanted)) {
        sys::dup3(*from, target, 0).map_err(|fault| Failure::number(fault, target as usize))?;
    }
    close_all_but(descriptors(wanted).map(|(_, target)| target), *errors)?;
    Ok(())
}

/// Closes everything but the program's own descriptors, which come sorted, and `errors`.
fn close_all_but(targets: impl Iterator<Item = i32>, errors: i32) -> Outcome {
    let (mut next, mut pending) = (0, Some(errors));
    let mut close_up_to = |keep: i32| {
        if keep > next {
            sys::close_range(next, keep - 1)?;
        }
        next = keep + 1;
        Ok(())
    };
    for target in targets {
        if let Some(errors) = pending.take_if(|errors| *errors < target) {
            close_up_to(errors)?;
        }
        close_up_to(target)?;
    }
    pending.map_or(Ok(()), close_up_to)?;
    sys::close_range(next, i32::MAX).map(drop)
}
