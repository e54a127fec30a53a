//! Numbers and short paths as text, and back.

use crate::wire::Text;

/// A decimal number, if the text is one.
pub(crate) fn number(digits: &[u8]) -> Option<i32> {
    let add = |sum: i32, digit: &u8| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(i32::from(digit - b'0')),
        _ => None,
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

/// `number` in decimal, with a NUL.
pub(crate) fn decimal(number: u64, digits: &mut [u8; 24]) -> Text<'_> {
    let (mut rest, mut first) = (number, digits.len() - 1);
    digits[first] = 0;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return Text::new(&digits[first..]);
        }
    }
}

/// `self/fd/N`, for a look-up below a /proc directory.
pub(crate) fn own_descriptor(fd: i32, path: &mut [u8; 40]) -> Text<'_> {
    numbered(b"self/fd/", fd, b"", path)
}

/// `/proc/self/fd/N`.
pub(crate) fn host_descriptor(fd: i32, path: &mut [u8; 40]) -> Text<'_> {
    numbered(b"/proc/self/fd/", fd, b"", path)
}

/// A short path with a number in it.
pub(crate) fn numbered<'a>(
    prefix: &[u8],
    number: i32,
    suffix: &[u8],
    path: &'a mut [u8; 40],
) -> Text<'a> {
    let mut digits = [0; 24];
    let number = decimal(number as u64, &mut digits).bytes();
    Text::new(join(path, &[prefix, number, suffix, b"\0"]))
}

/// Texts one after the other; what does not fit is left out.
#[inline(never)]
pub(crate) fn join<'a>(to: &'a mut [u8; 40], parts: &[&[u8]]) -> &'a [u8] {
    let mut end = 0;
    for part in parts {
        for byte in *part {
            if let Some(to) = to.get_mut(end) {
                *to = *byte;
                end += 1;
            }
        }
    }
    to.get(..end).unwrap_or(&[])
}
