//! Durations, sizes and percentages as users write them: `90s`, `2h30m`, `10MiB`, `80%`.
//!
//! A bare number where a unit is needed is an error: nobody remembers whether 30 meant seconds or minutes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A span of time in jobs.yaml and on the command line: whole numbers with `d h m s ms`, largest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

/// A number of bytes: `10MiB`, `500MB`, `1GiB`, `900B`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A share in percent, 0 to 100: `80%`, `0.5%`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

const TIME_UNITS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration: write it like 90s, 5m, 2h30m or 30d");
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return Err(format!("`{text}` has no unit: write {text}s, {text}m, {text}h or {text}d"));
        }
        let mut rest = text;
        let mut total: u64 = 0;
        let mut units = TIME_UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            // Units only go down, so that `5m2h` and `1h1h` are seen as the slips they are.
            let (_, scale) = units.find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(wrong)?;
            rest = &rest[letters..];
            total = number.checked_mul(*scale).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(Duration::from_millis(total))) }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in TIME_UNITS {
            if rest >= *scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let wrong = || format!("`{text}` is not a size: write it like 10MiB, 500MB or 1GiB");
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = text[digits..].trim_start();
        if unit.is_empty() {
            return Err(format!("`{text}` has no unit: write {text}B, {text}kB or {text}MiB"));
        }
        let (_, scale) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number.checked_mul(*scale).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    /// Binary units with one decimal, as people read them: `412.3 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((unit, scale)) = SIZE_UNITS[..4].iter().find(|(_, scale)| self.0 >= *scale) else {
            return write!(f, "{} B", self.0);
        };
        let tenths = (u128::from(self.0) * 10 + u128::from(*scale) / 2) / u128::from(*scale);
        if tenths >= 1000 {
            return write!(f, "{} {unit}", (tenths + 5) / 10);
        }
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a percentage: write it like 80%");
        let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let value: f64 = number.parse().map_err(|_| wrong())?;
        if plain && (0.0..=100.0).contains(&value) { Ok(Self(value)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Debug for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! from_text {
    ($type:ident, $what:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    // A bare number reaches us as a number: say the same as for its text.
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $what, "pattern": $pattern })
            }
        }
    };
}

from_text!(
    HumanDuration,
    "a duration such as 90s, 5m, 2h30m or 30d",
    r"^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"
);
from_text!(Size, "a size such as 10MiB or 500MB", r"^\d+ ?([TGMK]iB|[TGM]B|kB|B)$");
from_text!(Percent, "a percentage such as 80%", r"^\d+(\.\d+)?%$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Result<u64, &str>| {
            let got = text.parse::<HumanDuration>().map(|d| u64::try_from(d.0.as_millis()).unwrap());
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        };
        check("90s", Ok(90_000));
        check("2h30m", Ok(9_000_000));
        check("30d", Ok(2_592_000_000));
        check("500ms", Ok(500));
        check("30", Err("`30` has no unit: write 30s, 30m, 30h or 30d"));
        check("5m2h", Err("`5m2h` is not a duration: write it like 90s, 5m, 2h30m or 30d"));
        check("", Err("`` is not a duration: write it like 90s, 5m, 2h30m or 30d"));
        check("1.5h", Err("`1.5h` is not a duration: write it like 90s, 5m, 2h30m or 30d"));
        check(
            "99999999999999999999d",
            Err("`99999999999999999999d` is not a duration: write it like 90s, 5m, 2h30m or 30d"),
        );
        assert_eq!(HumanDuration(Duration::from_secs(9000)).to_string(), "2h30m");
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Result<u64, &str>| {
            assert_eq!(text.parse::<Size>().map(|s| s.0), expected.map_err(str::to_owned), "{text}");
        };
        check("10MiB", Ok(10_485_760));
        check("500MB", Ok(500_000_000));
        check("10", Err("`10` has no unit: write 10B, 10kB or 10MiB"));
        check("MiB", Err("`MiB` is not a size: write it like 10MiB, 500MB or 1GiB"));
        check("10mb", Err("`10mb` is not a size: write it like 10MiB, 500MB or 1GiB"));
        assert_eq!(Size(432_013_312).to_string(), "412 MiB");
        assert_eq!(Size(1536).to_string(), "1.5 KiB");
        assert_eq!(Size(999).to_string(), "999 B");
    }

    #[test]
    fn percentages() {
        assert_eq!("80%".parse(), Ok(Percent(80.0)));
        assert_eq!("0.5%".parse(), Ok(Percent(0.5)));
        for wrong in ["80", "101%", "-1%", "nan%", "%", "1e1%"] {
            assert_eq!(
                wrong.parse::<Percent>(),
                Err(format!("`{wrong}` is not a percentage: write it like 80%"))
            );
        }
    }
}
