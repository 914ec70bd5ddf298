//! The kinds of values in a configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

/// A value of the file: how it is read and how the documented example writes it.
pub(super) trait Setting: Sized {
    /// Reads a value; the error says what would be right.
    fn parsed(value: Value) -> Result<Self, String>;

    /// The value as TOML.
    fn written(&self) -> String;
}

impl Setting for bool {
    fn parsed(value: Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "must be true or false".into())
    }

    fn written(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    fn parsed(value: Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| "must be a whole number, 0 or more".into())
    }

    fn written(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn parsed(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) if text.chars().any(char::is_control) => {
                Err("must not hold control characters".into())
            }
            Value::String(text) => Ok(text),
            _ => Err("must be a text in quotes".into()),
        }
    }

    fn written(&self) -> String {
        Value::String(self.clone()).to_string()
    }
}

impl Setting for PathBuf {
    fn parsed(value: Value) -> Result<Self, String> {
        let text = String::parsed(value)?;
        if text.is_empty() {
            return Err("must be a path".into());
        }
        Ok(PathBuf::from(text))
    }

    fn written(&self) -> String {
        self.to_string_lossy().into_owned().written()
    }
}

impl Setting for SocketAddr {
    fn parsed(value: Value) -> Result<Self, String> {
        let text = String::parsed(value)?;
        text.parse().map_err(|_| "must be an address with a port, as in \"0.0.0.0:11112\"".into())
    }

    fn written(&self) -> String {
        self.to_string().written()
    }
}

/// Durations are texts with a unit: `"30s"`, `"10m"`, `"8h"`, `"7d"`, `"500ms"`.
impl Setting for Duration {
    fn parsed(value: Value) -> Result<Self, String> {
        let text = String::parsed(value)?;
        duration(&text).ok_or_else(|| "must be a time such as \"500ms\", \"30s\", \"8h\"".into())
    }

    fn written(&self) -> String {
        let millis = self.as_millis();
        let units = UNITS.iter().rev();
        let fits = units.clone().find(|(_, size)| millis.is_multiple_of(u128::from(*size)));
        let (unit, size) = fits.copied().unwrap_or(UNITS[0]);
        format!("{}{unit}", millis / u128::from(size)).written()
    }
}

/// Units with their milliseconds, smallest first.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*size).map(Duration::from_millis)
}

impl<T: Setting> Setting for Vec<T> {
    fn parsed(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => items
                .into_iter()
                .map(|item| T::parsed(item).map_err(|problem| format!("each item {problem}")))
                .collect(),
            _ => Err("must be a list in brackets".into()),
        }
    }

    fn written(&self) -> String {
        let items: Vec<_> = self.iter().map(Setting::written).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A DICOM application entity title: 1 to 16 printable ASCII characters without backslash, not
/// only spaces (PS3.5, table 6.2-1, value representation AE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AeTitle(pub String);

impl Setting for AeTitle {
    fn parsed(value: Value) -> Result<Self, String> {
        let text = String::parsed(value)?.trim().to_owned();
        let legal = |c: char| (c == ' ' || c.is_ascii_graphic()) && c != '\\';
        if text.is_empty() || text.len() > 16 || !text.chars().all(legal) {
            return Err("must be an AE title: 1 to 16 ASCII characters, no backslash".into());
        }
        Ok(Self(text))
    }

    fn written(&self) -> String {
        self.0.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_back() {
        for text in ["500ms", "30s", "10m", "8h", "7d", "90s"] {
            let read = Duration::parsed(Value::String(text.into())).expect(text);
            assert_eq!(read.written(), format!("\"{text}\""));
        }
        for text in ["", "s", "30", "1.5s", "-1s", "1w", "99999999999999999999s"] {
            assert!(Duration::parsed(Value::String(text.into())).is_err(), "{text}");
        }
    }

    #[test]
    fn ae_titles_follow_the_standard() {
        let check = |text: &str| AeTitle::parsed(Value::String(text.into())).is_ok();
        assert!(check("XRAY 1") && check("SIXTEEN_CHARS_16"));
        assert!(!check("") && !check("   ") && !check("SEVENTEEN_CHARS_1"));
        assert!(!check("A\\B") && !check("ÄE") && !check("A\nB"));
    }
}
