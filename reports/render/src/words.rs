//! Times, shares and counts as they are written in every report.

/// A time with three figures and its unit, for example `61.0 ms`.
#[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
pub fn time(ns: u64) -> String {
    let ns = ns as f64;
    let (value, unit) = match ns {
        _ if ns < 1e3 => (ns, "ns"),
        _ if ns < 1e6 => (ns / 1e3, "us"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = match value {
        _ if value < 10.0 => 2,
        _ if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A number with its thousands apart, for example `1,080,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (ix, digit) in digits.chars().enumerate() {
        if ix > 0 && (digits.len() - ix).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns of text, each as wide as its widest cell; the last one is not padded.
pub fn columns(rows: &[Vec<String>], indent: &str) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> =
        (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(|c| width(c).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = indent.to_owned();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count() + 2));
            }
        }
        line.truncate(line.trim_end().len());
        line
    };
    rows.iter().map(line).collect()
}

/// Colours of a terminal, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    /// Whether anything is coloured.
    pub on: bool,
}

impl Paint {
    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Held.
    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// Broken.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Not decided.
    pub fn unsure(self, text: &str) -> String {
        self.paint("1;33", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_figures() {
        for (ns, text) in [
            (0, "0.00 ns"),
            (999, "999 ns"),
            (1_500, "1.50 us"),
            (61_000_000, "61.0 ms"),
            (250_000_000, "250 ms"),
            (30_000_000_000, "30.0 s"),
        ] {
            assert_eq!(time(ns), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 12, 999, 1_000, 1_080_000].map(count),
            ["0", "12", "999", "1,000", "1,080,000"]
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["a".into(), "bb".into(), "c".into()],
            vec!["aaa".into(), String::new(), String::new()],
        ];
        assert_eq!(columns(&rows, " "), [" a    bb  c", " aaa"]);
    }
}
