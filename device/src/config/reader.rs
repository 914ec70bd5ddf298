//! Reads a configuration file key by key, collects every mistake, and describes each key in the
//! same breath, so that the documented example and the checks cannot drift apart.

use std::fmt::Write;
use std::ops::RangeInclusive;

use toml::{Table, Value};

use super::setting::Setting;

/// One thing wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `section.key`.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Collects mistakes and descriptions over all sections of a file.
#[derive(Debug, Default)]
pub(super) struct Reader {
    file: Table,
    pub mistakes: Vec<Mistake>,
    headings: Vec<Heading>,
}

/// A section as the documented example shows it.
#[derive(Debug)]
struct Heading {
    name: &'static str,
    about: &'static str,
    is_list: bool,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: &'static str,
    about: &'static str,
    value: String,
    is_off: bool,
}

/// One table of the file. Keys are taken out as they are read; what is left is unknown.
pub(super) struct Section<'a> {
    reader: &'a mut Reader,
    heading: usize,
    name: String,
    table: Table,
}

impl Reader {
    pub fn new(file: Table) -> Self {
        Self { file, ..Self::default() }
    }

    /// Opens `[name]`; an absent section has its defaults.
    pub fn section(&mut self, name: &'static str, about: &'static str) -> Section<'_> {
        let table = match self.file.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.mistake(name, format!("is a section: write it as [{name}]"));
                Table::new()
            }
        };
        self.opened(name, about, false, name.to_owned(), table)
    }

    /// Reads each `[[name]]`.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        about: &'static str,
        read: impl Fn(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let tables = match self.file.remove(name) {
            None => Some(Vec::new()),
            Some(Value::Array(items)) => {
                items.into_iter().map(|item| item.try_into().ok()).collect()
            }
            Some(_) => None,
        };
        let tables: Vec<Table> = tables.unwrap_or_else(|| {
            self.mistake(name, format!("is a list of sections: write each as [[{name}]]"));
            Vec::new()
        });
        if tables.is_empty() {
            self.describe(name, about, read);
            return Vec::new();
        }
        let numbered = tables.into_iter().enumerate();
        let read = |(place, table)| {
            read(&mut self.opened(name, about, true, format!("{name}[{}]", place + 1), table))
        };
        numbered.map(read).collect()
    }

    /// Reads an absent list section for its description alone.
    fn describe<T>(
        &mut self,
        name: &'static str,
        about: &'static str,
        read: impl Fn(&mut Section<'_>) -> T,
    ) {
        let before = self.mistakes.len();
        read(&mut self.opened(name, about, true, name.to_owned(), Table::new()));
        self.mistakes.truncate(before);
    }

    fn opened(
        &mut self,
        name: &'static str,
        about: &'static str,
        is_list: bool,
        shown: String,
        table: Table,
    ) -> Section<'_> {
        self.headings.push(Heading { name, about, is_list, keys: Vec::new() });
        Section { heading: self.headings.len() - 1, reader: self, name: shown, table }
    }

    /// Everything left in the file is unknown.
    pub fn finish(&mut self) {
        let mut known: Vec<&str> = self.headings.iter().map(|heading| heading.name).collect();
        known.dedup();
        let known = known.join(", ");
        for name in std::mem::take(&mut self.file).keys() {
            self.mistake(name, format!("is not known; sections are {known}"));
        }
    }

    fn mistake(&mut self, key: &str, problem: String) {
        self.mistakes.push(Mistake { key: key.to_owned(), problem });
    }

    /// Every section and key with its meaning and its default; what has no default is a comment.
    pub fn example(&self) -> String {
        let mut text = String::new();
        for Heading { name, about, is_list, keys } in &self.headings {
            let header = if *is_list { format!("#[[{name}]]") } else { format!("[{name}]") };
            let _ = writeln!(text, "\n# {about}\n{header}");
            for Key { name, about, value, is_off } in keys {
                let off = if *is_off || *is_list { "#" } else { "" };
                let _ = writeln!(text, "# {about}\n{off}{name} = {value}");
            }
        }
        text
    }
}

impl Section<'_> {
    /// Reads a key; `default` stands in for an absent or wrong one.
    pub fn take<T: Setting>(&mut self, key: &'static str, about: &'static str, default: T) -> T {
        self.describe(key, about, &default, false);
        self.parsed(key).unwrap_or(default)
    }

    /// Reads a value within limits.
    pub fn within<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        about: &'static str,
        default: T,
        limits: RangeInclusive<T>,
    ) -> T {
        let value = self.take(key, about, default);
        if !limits.contains(&value) {
            let (least, most) = (limits.start().written(), limits.end().written());
            self.mistake(key, format!("is {}, but must be {least} to {most}", value.written()));
        }
        value
    }

    /// Reads a key that may be absent.
    pub fn maybe<T: Setting>(
        &mut self,
        key: &'static str,
        about: &'static str,
        example: T,
    ) -> Option<T> {
        self.describe(key, about, &example, true);
        self.parsed(key)
    }

    /// Reads a key that must be there; `example` stands in, so that later mistakes are found too.
    pub fn require<T: Setting>(&mut self, key: &'static str, about: &'static str, example: T) -> T {
        self.describe(key, about, &example, true);
        if !self.table.contains_key(key) {
            self.mistake(key, format!("is missing; for example {key} = {}", example.written()));
        }
        self.parsed(key).unwrap_or(example)
    }

    /// Notes a mistake at a key.
    pub fn mistake(&mut self, key: &str, problem: String) {
        let key = format!("{}.{key}", self.name);
        self.reader.mistake(&key, problem);
    }

    fn parsed<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        match T::parsed(self.table.remove(key)?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.mistake(key, problem);
                None
            }
        }
    }

    fn describe(
        &mut self,
        name: &'static str,
        about: &'static str,
        value: &impl Setting,
        off: bool,
    ) {
        let keys = &mut self.reader.headings[self.heading].keys;
        keys.push(Key { name, about, value: value.written(), is_off: off });
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let keys = &self.reader.headings[self.heading].keys;
        let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
        let known = known.join(", ");
        for key in std::mem::take(&mut self.table).keys() {
            self.mistake(key, format!("is not known; keys here are {known}"));
        }
    }
}
