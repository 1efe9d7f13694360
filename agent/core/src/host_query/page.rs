//! Answers as a page of text, the same for root on the host and for an operator far away.

use crate::detect::words;

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Longest cell of a name; a longer one is cut in the middle, where names of units differ least.
const NAME_CHARS_MAX: usize = 48;

/// Writes rows under their headings, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(page: &mut String, headings: [(&str, Side); N], rows: &[[String; N]]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for ((cell, width), (_, side)) in cells.into_iter().zip(widths).zip(headings) {
            text.push_str(&match side {
                Side::Left => format!("{cell:<width$}  "),
                Side::Right => format!("{cell:>width$}  "),
            });
        }
        page.push_str(text.trim_end());
        page.push('\n');
    };
    line(headings.map(|(heading, _)| heading));
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
}

/// Says that there are more than are shown, if so.
pub(super) fn write_more(page: &mut String, more: u32, what: &str) {
    if more > 0 {
        page.push_str(&format!("and {more} more {what}\n"));
    }
}

/// A name within its bound, without what a terminal would obey.
pub(super) fn name(text: &str) -> String {
    let clean: Vec<char> = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if clean.len() <= NAME_CHARS_MAX {
        return clean.into_iter().collect();
    }
    let half = (NAME_CHARS_MAX - 1) / 2;
    let (head, tail) = (&clean[..half], &clean[clean.len() - half..]);
    head.iter().chain(['…'].iter()).chain(tail).collect()
}

/// A value, or a dash where it is not known.
pub(super) fn known<T>(value: Option<T>, say: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), say)
}

/// Bytes a second.
pub(super) fn per_second(bytes: u64) -> String {
    format!("{}/s", words::bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut page = String::new();
        let rows = [["a".to_owned(), "1000".to_owned()], ["longer".to_owned(), "–".to_owned()]];
        table(&mut page, [("NAME", Side::Left), ("N", Side::Right)], &rows);
        assert_eq!(page, "NAME       N\na       1000\nlonger     –\n");
    }

    #[test]
    fn a_name_is_cut_in_the_middle_and_obeyed_by_no_terminal() {
        assert_eq!(name("a\x1b[2Jb"), "a?[2Jb");
        let long = name(&format!("docker-{}.scope", "0".repeat(64)));
        assert!(long.chars().count() <= NAME_CHARS_MAX && long.starts_with("docker-0") && long.ends_with("0.scope"));
        assert!(long.contains('…'));
    }
}
