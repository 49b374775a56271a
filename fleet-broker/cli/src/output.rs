//! What a command prints: data on standard output, messages on standard error.

use std::{
    error::Error,
    io::{self, Write},
};

use comfy_table::Table;

/// Where a command prints to.
pub struct Output<'a> {
    /// Data: what a script reads.
    pub data: &'a mut dyn Write,
    /// Messages: what a person reads.
    pub messages: &'a mut dyn Write,
    /// Whether messages may be coloured.
    pub color: bool,
    /// Whether data may be coloured.
    pub data_color: bool,
}

impl Output<'_> {
    /// One line of data.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.data, "{text}")
    }

    /// A unified diff. What is added is green, what is removed is red, where colours may be.
    pub fn diff(&mut self, text: &str) -> io::Result<()> {
        if !self.data_color {
            return self.data.write_all(text.as_bytes());
        }
        text.lines().try_for_each(|line| match line.as_bytes().first() {
            _ if line.starts_with("+++ ") || line.starts_with("--- ") => {
                writeln!(self.data, "\x1b[1m{line}\x1b[0m")
            }
            Some(b'+') => writeln!(self.data, "\x1b[32m{line}\x1b[0m"),
            Some(b'-') => writeln!(self.data, "\x1b[31m{line}\x1b[0m"),
            Some(b'@') => writeln!(self.data, "\x1b[36m{line}\x1b[0m"),
            Some(_) | None => writeln!(self.data, "{line}"),
        })
    }

    /// Rows under a header, in columns as wide as they need to be.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec()).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        table.lines().try_for_each(|line| writeln!(self.data, "{}", line.trim_end()))
    }

    /// JSON over several lines.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(self.data, "{value:#}")
    }

    /// A message.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.messages, "{text}")
    }

    /// A message about something that may not be as it was meant.
    pub fn warning(&mut self, text: &str) -> io::Result<()> {
        let title = self.colored("33", "warning:");
        writeln!(self.messages, "{title} {text}")
    }

    /// An error with what led to it.
    pub fn error(&mut self, error: &dyn Error) -> io::Result<()> {
        let title = self.colored("31", "error:");
        writeln!(self.messages, "{title} {error}")?;
        let mut cause = error.source();
        while let Some(error) = cause {
            writeln!(self.messages, "  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }

    fn colored(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number of bytes as people read it: three digits and a unit.
pub fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / size as f64),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes() {
        let cause = io::Error::other("no more pens");
        let error = crate::source::SourceError::Read { path: "a".to_owned(), source: cause };
        for (color, expected) in [
            (false, "error: cannot read a\n  because: no more pens\n"),
            (true, "\x1b[1;31merror:\x1b[0m cannot read a\n  because: no more pens\n"),
        ] {
            let (mut data, mut messages) = (Vec::new(), Vec::new());
            let mut output = Output { data: &mut data, messages: &mut messages, color, data_color: false };
            output.error(&error).unwrap();
            assert_eq!(String::from_utf8(messages).unwrap(), expected);
            assert!(data.is_empty());
        }
    }

    #[test]
    fn a_diff_is_coloured_where_colours_may_be() {
        let text = "--- a\n+++ b\n@@ -1 +1 @@\n same\n-one\n+two\n";
        let colored = "\x1b[1m--- a\x1b[0m\n\x1b[1m+++ b\x1b[0m\n\x1b[36m@@ -1 +1 @@\x1b[0m\n same\n\
                       \x1b[31m-one\x1b[0m\n\x1b[32m+two\x1b[0m\n";
        for (data_color, expected) in [(false, text), (true, colored)] {
            let (mut data, mut messages) = (Vec::new(), Vec::new());
            let mut output =
                Output { data: &mut data, messages: &mut messages, color: !data_color, data_color };
            output.diff(text).unwrap();
            assert_eq!(String::from_utf8(data).unwrap(), expected);
        }
    }

    #[test]
    fn sizes_are_told_with_their_unit() {
        let cases = [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB")];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let (mut data, mut messages) = (Vec::new(), Vec::new());
        let mut output = Output { data: &mut data, messages: &mut messages, color: false, data_color: false };
        let rows = vec![vec!["ConfigMap".to_owned(), "a".to_owned()], vec!["Pod".to_owned(), "b".to_owned()]];
        output.table(&["KIND", "NAME"], rows).unwrap();
        assert_eq!(String::from_utf8(data).unwrap(), "KIND        NAME\nConfigMap   a\nPod         b\n");
    }
}
