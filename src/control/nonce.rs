//! An instance's nonce: the secret by which the harness knows the instance's agent.

use std::{fmt, io};

use rand::TryRng;

use crate::digest::hex;

/// 128 random bits in hex. Its debug text does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A new one from the kernel's random numbers.
    ///
    /// # Errors
    /// When the kernel has none.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        Ok(Nonce(hex(bytes)))
    }

    /// The text that the agent gets.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it is this one. Takes the same time for all texts of its length.
    pub fn is(&self, text: &str) -> bool {
        let differences = self.0.bytes().zip(text.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        self.0.len() == text.len() && differences == 0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_equals_its_own_text_alone_and_is_not_shown() {
        let (one, other) = (Nonce::random().unwrap(), Nonce::random().unwrap());
        assert!(one.is(one.text()) && one.text().len() == 32);
        for text in [other.text(), "", &one.text()[1..], &format!("{}0", one.text())] {
            assert!(!one.is(text), "{text}");
        }
        assert!(!format!("{one:?}").contains(one.text()));
    }
}
