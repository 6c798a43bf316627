//! `resources.cpus`: a number of CPUs, or a list of them.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::foreign::quoted;

/// CPU numbers that an affinity mask of the usual size has room for.
const NUMBERS: usize = 1024;

/// The value of `resources.cpus`; results have it as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuChoice {
    /// This many, bootrace chooses which.
    Count(u32),
    /// Exactly these.
    List(CpuList),
}

/// CPUs of the host by number, as the kernel writes them: `2-3`, `0,2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList {
    written: String,
    cpus: BTreeSet<usize>,
}

impl CpuChoice {
    /// Number of CPUs of an instance, and of vCPUs of a VM.
    pub fn count(&self) -> u32 {
        match self {
            CpuChoice::Count(count) => *count,
            CpuChoice::List(list) => list.cpus.len() as u32,
        }
    }
}

impl CpuList {
    /// The CPUs' numbers, ascending, never empty.
    pub fn cpus(&self) -> &BTreeSet<usize> {
        &self.cpus
    }
}

impl fmt::Display for CpuChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuChoice::Count(count) => count.fmt(f),
            CpuChoice::List(list) => f.write_str(&list.written),
        }
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{} is not a list of CPUs: {why}; write CPUs of the host as the kernel does, as in \"2-3\" or \"0,2\"",
                quoted(text)
            )
        };
        let number = |digits: &str| {
            let plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            let number = digits.parse().ok().filter(|cpu| plain && *cpu < NUMBERS);
            number.ok_or_else(|| wrong(&format!("{} is no number from 0 to {}", quoted(digits), NUMBERS - 1)))
        };
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong(&format!("{} runs backwards", quoted(part))));
            }
            for cpu in first..=last {
                if !cpus.insert(cpu) {
                    return Err(wrong(&format!("CPU {cpu} is in it twice")));
                }
            }
        }
        Ok(CpuList { written: text.into(), cpus })
    }
}

impl<'de> Deserialize<'de> for CpuChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = CpuChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of CPUs or a list of them")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<CpuChoice, E> {
                let count = u32::try_from(number);
                let count =
                    count.map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &"a number of CPUs"));
                count.map(CpuChoice::Count)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<CpuChoice, E> {
                let count = u32::try_from(number);
                let count = count
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &"a number of CPUs"));
                count.map(CpuChoice::Count)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CpuChoice, E> {
                text.parse().map(CpuChoice::List).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for CpuChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CpuChoice::Count(count) => serializer.serialize_u32(*count),
            CpuChoice::List(list) => serializer.serialize_str(&list.written),
        }
    }
}
