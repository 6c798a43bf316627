//! Workloads whose cost is known beforehand, which `bootrace calibrate` measures: what the harness says of
//! them is its error. The agent's own executable performs them, since it is in every image.

/// First argument of the agent's executable that makes it perform a known workload.
pub const FLAG: &str = "--known";

/// What is known of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known {
    /// Prints `ready` this long after its start, then does nothing.
    Delay { ns: u64 },
    /// Writes to every page of so many bytes of anonymous memory, prints `ready`, keeps them.
    Anonymous { bytes: u64 },
    /// Reads so many bytes of a file that nobody else has read, prints `ready`, keeps the file open.
    File { bytes: u64 },
    /// Ends with code 0 when the process has used so much CPU time since it was made.
    Burn { ns: u64 },
}

/// The line that says that a workload which goes on is ready.
pub const READY: &str = "ready";

impl Known {
    /// What follows the executable's name.
    pub fn arguments(self) -> [String; 3] {
        let (word, amount) = match self {
            Known::Delay { ns } => ("delay", ns),
            Known::Anonymous { bytes } => ("anonymous", bytes),
            Known::File { bytes } => ("file", bytes),
            Known::Burn { ns } => ("burn", ns),
        };
        [FLAG.into(), word.into(), amount.to_string()]
    }

    /// `None` for words that [`Known::arguments`] does not write.
    pub fn parse(word: &str, amount: &str) -> Option<Self> {
        let amount = amount.parse().ok()?;
        match word {
            "delay" => Some(Known::Delay { ns: amount }),
            "anonymous" => Some(Known::Anonymous { bytes: amount }),
            "file" => Some(Known::File { bytes: amount }),
            "burn" => Some(Known::Burn { ns: amount }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for known in [
            Known::Delay { ns: 5 },
            Known::Anonymous { bytes: 0 },
            Known::File { bytes: 1 << 40 },
            Known::Burn { ns: 7 },
        ] {
            let [flag, word, amount] = known.arguments();
            assert_eq!((flag.as_str(), Known::parse(&word, &amount)), (FLAG, Some(known)));
        }
        assert_eq!(Known::parse("burn", "-1"), None);
        assert_eq!(Known::parse("sleep", "1"), None);
    }
}
