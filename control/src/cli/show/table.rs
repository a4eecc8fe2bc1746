//! Aligned columns.

/// A column's side on which its cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table in the making.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table, or `empty` when it has no row.
    pub(super) fn text_or(&self, empty: &str) -> String {
        if self.rows.is_empty() {
            return format!("{empty}\n");
        }
        let header = self
            .columns
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(&self.rows).collect();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in lines {
            let mut written = String::new();
            for (place, cell) in line.iter().enumerate() {
                let width = widths[place];
                let gap = if place == 0 { "" } else { "  " };
                written += &match self.columns[place].1 {
                    Align::Left => format!("{gap}{cell:<width$}"),
                    Align::Right => format!("{gap}{cell:>width$}"),
                };
            }
            text += written.trim_end();
            text.push('\n');
        }
        text
    }
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Octets in the largest unit that leaves a number above 1.
pub(super) fn octets(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[
            ("name", Align::Left),
            ("count", Align::Right),
            ("what", Align::Left),
        ]);
        assert_eq!(table.text_or("nothing"), "nothing\n");
        table.row(["a".into(), count(1_234_567), "x".into()]);
        table.row(["longer".into(), count(7), String::new()]);
        assert_eq!(
            table.text_or("nothing"),
            "name        count  what\na       1,234,567  x\nlonger          7\n"
        );
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 999, 1000, 1_000_000].map(count),
            ["0", "999", "1,000", "1,000,000"]
        );
        assert_eq!(
            [0, 1023, 1024, 3 << 30].map(octets),
            ["0 B", "1023 B", "1.0 KiB", "3.0 GiB"]
        );
    }
}
