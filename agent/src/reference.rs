//! Workloads of known cost for `bootrace calibrate`: the difference between its figures and that cost is bootrace's
//! error. The agent's own executable runs them, since it is in every image.

/// First argument of the agent's executable that makes it run a reference workload.
pub const FLAG: &str = "--reference";

/// A workload, and its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReferenceWorkload {
    /// Prints `ready` this long after its start, then does nothing.
    Delay { ns: u64 },
    /// Writes to every page of this many bytes of anonymous memory, prints `ready`, keeps them.
    Anonymous { bytes: u64 },
    /// Reads this many bytes of a file that no other process has read, prints `ready`, keeps the file open.
    File { bytes: u64 },
    /// Exits with code 0 once the process has used this much CPU time.
    Burn { ns: u64 },
}

/// The line that a workload prints when it is ready; `Burn` exits instead.
pub const READY: &str = "ready";

impl ReferenceWorkload {
    /// The arguments after the executable's name.
    pub fn arguments(self) -> [String; 3] {
        let (word, amount) = match self {
            ReferenceWorkload::Delay { ns } => ("delay", ns),
            ReferenceWorkload::Anonymous { bytes } => ("anonymous", bytes),
            ReferenceWorkload::File { bytes } => ("file", bytes),
            ReferenceWorkload::Burn { ns } => ("burn", ns),
        };
        [FLAG.into(), word.into(), amount.to_string()]
    }

    /// The workload of these arguments; `None` for words that [`ReferenceWorkload::arguments`] does not write.
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
    fn a_written_message_reads_back_the_same() {
        for workload in [
            ReferenceWorkload::Delay { ns: 5 },
            ReferenceWorkload::Anonymous { bytes: 0 },
            ReferenceWorkload::File { bytes: 1 << 40 },
            ReferenceWorkload::Burn { ns: 7 },
        ] {
            let [flag, word, amount] = workload.arguments();
            assert_eq!((flag.as_str(), ReferenceWorkload::parse(&word, &amount)), (FLAG, Some(workload)));
        }
        assert_eq!(ReferenceWorkload::parse("burn", "-1"), None);
        assert_eq!(ReferenceWorkload::parse("sleep", "1"), None);
    }
}
