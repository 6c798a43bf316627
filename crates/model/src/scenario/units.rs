//! Values with a unit: a string in TOML and in the results.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::foreign::quoted;

/// A bound with the unit of its metric, or of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Bound {
    /// `"2s"`, for a metric of time.
    Time(Span),
    /// `"512MiB"`, for a metric of size.
    Size(Bytes),
    /// `"0.5%"`, for a metric that is a share of one core.
    Share(Share),
    /// A ratio to another target's value: `"100x"`, or the number alone.
    Times(f64),
}

impl Bound {
    /// Whether both have one unit and this one is larger.
    pub(super) fn is_above(self, other: Bound) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other) && self > other
    }
}

/// A size: `"512MiB"` in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A time: `"2s"`, `"500ms"`, `"2m"` in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A share of something, as a number: `"5%"` in TOML is 0.05.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// Most digits of a percentage or ratio, before and after the point: such a number prints as it was written, and
/// parses back to the same number.
const DIGITS: usize = 6;

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{} is not a size: write a whole number and B, KiB, MiB or GiB, as in \"512MiB\"",
                quoted(text)
            )
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim_start() {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Bytes).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{} is not a time: write a whole number and ms, s or m, as in \"2s\"", quoted(text));
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim_start() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = number.checked_mul(factor).ok_or_else(wrong)?;
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_millis() {
            ms if ms > 0 && ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{} is not a percentage: write a number of up to {DIGITS} digits before and after the point, \
                 and %, as in \"5%\" or \"0.5%\"",
                quoted(text)
            )
        };
        let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
        decimal(number).map(|percent| Share(percent / 100.0)).ok_or_else(wrong)
    }
}

/// A plain number of at most [`DIGITS`] before the point and after it: no sign, exponent or name.
fn decimal(text: &str) -> Option<f64> {
    let plain = |part: &str| (1..=DIGITS).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let good = match text.split_once('.') {
        Some((whole, part)) => plain(whole) && plain(part),
        None => plain(text),
    };
    text.parse().ok().filter(|_| good)
}

/// Without zeros at its end.
fn write_decimal(f: &mut std::fmt::Formatter<'_>, number: f64) -> std::fmt::Result {
    let text = format!("{number:.DIGITS$}");
    f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_decimal(f, self.0 * 100.0)?;
        f.write_str("%")
    }
}

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let times = || text.strip_suffix('x').and_then(|number| decimal(number.trim_end())).map(Bound::Times);
        let time = text.parse().map(Bound::Time).ok();
        let bound = time.or_else(|| text.parse().map(Bound::Size).ok());
        bound.or_else(|| text.parse().map(Bound::Share).ok()).or_else(times).ok_or_else(|| {
            format!(
                "{} is not a bound: write a time, as in \"2s\", a size, as in \"512MiB\", a percentage, as in \"0.5%\", \
                 or, with relative_to, a number of times, as in \"1.5x\"",
                quoted(text)
            )
        })
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::Time(span) => span.fmt(f),
            Bound::Size(bytes) => bytes.fmt(f),
            Bound::Share(share) => share.fmt(f),
            Bound::Times(times) => {
                write_decimal(f, *times)?;
                f.write_str("x")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        /// A number without a unit is a ratio.
        fn times<E: de::Error>(number: impl std::fmt::Display) -> Result<Bound, E> {
            let text = number.to_string();
            decimal(&text).map(Bound::Times).ok_or_else(|| {
                E::custom(format!(
                    "{} is not a number of times: write one above 0 of up to {DIGITS} digits before and after the point",
                    quoted(&text)
                ))
            })
        }
        impl de::Visitor<'_> for Visitor {
            type Value = Bound;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a bound")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bound, E> {
                times(number)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bound, E> {
                times(number)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Bound, E> {
                times(number)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bound, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Types that are a string with a unit in TOML and in the results.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    )*};
}
as_text!(Bytes, Span, Share);
