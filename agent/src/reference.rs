//! Workloads whose cost is known beforehand, which `bootrace calibrate` measures: what the harness says of
//! them is its error. The agent's own executable runs them, since it is in every image.

/// First argument of the agent's executable that makes it run a reference workload.
pub const FLAG: &str = "--reference";

/// A workload, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReferenceWorkload {
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

impl ReferenceWorkload {
    /// What follows the executable's name.
    pub fn arguments(self) -> [String; 3] {
        let (word, amount) = match self {
            ReferenceWorkload::Delay { ns } => ("delay", ns),
            ReferenceWorkload::Anonymous { bytes } => ("anonymous", bytes),
            ReferenceWorkload::File { bytes } => ("file", bytes),
            ReferenceWorkload::Burn { ns } => ("burn", ns),
        };
        [FLAG.into(), word.into(), amount.to_string()]
    }

    /// `None` for words that [`ReferenceWorkload::arguments`] does not write.
    pub fn parse(word: &str, amount: &str) -> Option<Self> {
        let amount = amount.parse().ok()?;
        match word {
            "delay" => Some(ReferenceWorkload::Delay { ns: amount }),
            "anonymous" => Some(ReferenceWorkload::Anonymous { bytes: amount }),
            "file" => Some(ReferenceWorkload::File { bytes: amount }),
            "burn" => Some(ReferenceWorkload::Burn { ns: amount }),
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
            ReferenceWorkload::Delay { ns: 5 },
            ReferenceWorkload::Anonymous { bytes: 0 },
            ReferenceWorkload::File { bytes: 1 << 40 },
            ReferenceWorkload::Burn { ns: 7 },
        ] {
            let [flag, word, amount] = known.arguments();
            assert_eq!((flag.as_str(), ReferenceWorkload::parse(&word, &amount)), (FLAG, Some(known)));
        }
        assert_eq!(ReferenceWorkload::parse("burn", "-1"), None);
        assert_eq!(ReferenceWorkload::parse("sleep", "1"), None);
    }
}
