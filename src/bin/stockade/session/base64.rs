//! Base64 as RFC 4648 has it, with padding, for what is not text.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place) & 63) as usize;
            let letter = ALPHABET.get(digit).filter(|_| place <= group.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

/// `None` if it is anything else: spaces, missing padding, bits that say nothing.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let last = text.len().checked_sub(4);
    for (at, group) in text.chunks(4).enumerate() {
        let padding = group.iter().rev().take_while(|letter| **letter == b'=').count();
        if group.len() != 4 || padding > 2 || padding > 0 && Some(at * 4) != last {
            return None;
        }
        let mut word = 0u32;
        for letter in group.get(..4 - padding)? {
            let digit = ALPHABET.iter().position(|known| known == letter)?;
            word = word << 6 | u32::try_from(digit).ok()?;
        }
        let [_, octets @ ..] = (word << (6 * padding)).to_be_bytes();
        let (whole, rest) = octets.split_at(3 - padding);
        if rest.iter().any(|bits| *bits != 0) {
            return None;
        }
        bytes.extend(whole);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_rfc_shows() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text), Some(bytes.into()));
        }
        for text in ["Z", "Zg", "Zg=", "Zg= =", "====", "=g==", "Zh==", "Zm9=", "Zg==Zg==", "Zm-_"]
        {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_comes_back(bytes: Vec<u8>, text: String) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
