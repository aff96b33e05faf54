//! The account of what happens in a demonstration: lines with the time, and tables.

use std::io::Write;

use anyhow::Result;
use kit::{Duration, Instant};
use netio::clock::Clock;

/// Writes an account. Everything goes out at once, so that it can be followed.
pub(crate) struct Account<'a> {
    out: &'a mut dyn Write,
    clock: Clock,
}

impl<'a> Account<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Account<'a> {
        Account { out, clock: Clock::start() }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// A line with the time since the beginning.
    pub(crate) fn say(&mut self, text: &str) -> Result<()> {
        let tenths = self.clock.now().since(Instant::ZERO).as_millis() / 100;
        writeln!(self.out, "{:>3}.{} s  {text}", tenths / 10, tenths % 10)?;
        Ok(self.out.flush()?)
    }

    /// A line that belongs to the one before.
    pub(crate) fn detail(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "         {text}")?;
        Ok(self.out.flush()?)
    }

    /// Text as it is, after an empty line.
    pub(crate) fn paragraph(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "\n{text}")?;
        Ok(self.out.flush()?)
    }
}

/// A table as text: columns as wide as their widest cell, two blanks between them.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<String>| {
        let padded = |(column, cell): (usize, &String)| format!("{cell:<width$}", width = width(column));
        let cells: Vec<String> = row.iter().enumerate().map(padded).collect();
        cells.join("  ").trim_end().to_owned()
    };
    std::iter::once(&head).chain(rows).map(line).collect::<Vec<_>>().join("\n")
}

/// A span of time as people read it in a table: whole milliseconds.
pub(crate) fn millis(span: Duration) -> String {
    format!("{} ms", span.as_millis())
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "bbb".to_owned()], vec!["cccc".to_owned(), String::new()]];
        assert_eq!(table(&["x", "y"], &rows), "x     y\na     bbb\ncccc");
    }
}
