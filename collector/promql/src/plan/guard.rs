//! What is refused before the parser sees it: texts so long or deep that walking them could end the
//! program, and numbers that are no durations where a duration stands.

use super::ParseError;

/// Longest query. Dashboards write patterns of some thousand alternatives; nothing honest is longer.
const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Most operators, parentheses and brackets: each can be one level of the expression, and walking a
/// level takes up to 2 KiB of a stack of 2 MiB.
const LEVELS_MAX: usize = 400;
/// Longest duration, in seconds: a thousand years, far from where milliseconds overflow.
const DURATION_SECONDS_MAX: f64 = 1000.0 * 365.0 * 86_400.0;

/// Looks a text over.
pub(super) fn check(text: &str) -> Result<(), ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(ParseError(format!("the query has {} bytes, at most {QUERY_BYTES_MAX} are read", text.len())));
    }
    let levels = levels(text)?;
    if levels > LEVELS_MAX {
        return Err(ParseError(format!("the query has {levels} operators and parentheses, at most {LEVELS_MAX}")));
    }
    Ok(())
}

/// Counts what can nest, and looks at the numbers where durations stand.
fn levels(text: &str) -> Result<usize, ParseError> {
    let mut levels = 0;
    let (mut braces, mut brackets) = (0usize, 0usize);
    let mut wants_duration = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' | '\'' | '`' => quoted(rest, c),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            c if c.is_ascii_alphanumeric() || c == '_' || c == '.' => {
                let word = word(rest, brackets > 0);
                if wants_duration {
                    check_duration(word)?;
                }
                let lower = word.to_ascii_lowercase();
                levels += usize::from(matches!(lower.as_str(), "and" | "or" | "unless" | "atan2"));
                wants_duration = lower == "offset";
                word.len()
            }
            _ => {
                braces = match c {
                    '{' => braces + 1,
                    '}' => braces.saturating_sub(1),
                    _ => braces,
                };
                brackets = match c {
                    '[' => brackets + 1,
                    ']' => brackets.saturating_sub(1),
                    _ => brackets,
                };
                levels += usize::from(braces == 0 && "([+-*/%^=<>!@".contains(c));
                // A sign may stand before a duration, and a colon between two.
                wants_duration = matches!(c, '[' | ':') || (wants_duration && (c.is_whitespace() || "+-".contains(c)));
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Ok(levels)
}

/// The name, number or duration that a text begins with. A colon belongs to names, but in brackets it
/// stands between two durations; a sign belongs to an exponent.
fn word(text: &str, in_brackets: bool) -> &str {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || (c == ':' && !in_brackets);
    let end = text.find(|c: char| !is_of_word(c)).unwrap_or(text.len());
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '.') && !text.starts_with("0x");
    let exponent = text[end..].strip_prefix(['+', '-']).filter(|_| is_number && text[..end].ends_with(['e', 'E']));
    let digits = exponent.map_or(0, |after| after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len()));
    if digits == 0 { &text[..end] } else { &text[..end + 1 + digits] }
}

/// The length of a quoted text with its quotes, or of all that is left.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A number where a duration stands is seconds. Those that the parser would turn into no duration
/// at all are refused here.
fn check_duration(word: &str) -> Result<(), ParseError> {
    // What is no number has units, or is hexadecimal and finite, or is for the parser to refuse.
    let Ok(seconds) = word.parse::<f64>() else { return Ok(()) };
    if seconds.is_finite() && (0.0..=DURATION_SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(ParseError(format!("{word} is not a duration")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_long_texts_are_refused() {
        for text in ["(".repeat(500), "-".repeat(500), format!("1{}", "+1".repeat(500)), "x or ".repeat(500)] {
            assert!(check(&text).unwrap_err().0.contains("at most 400"), "{text}");
        }
        assert!(check(&"x".repeat(QUERY_BYTES_MAX + 1)).is_err());
        let many = format!(r#"up{{host=~"{}", job="((((", a!="b"}}"#, "(a|b)".repeat(1000));
        assert_eq!(check(&many), Ok(()));
        assert_eq!(levels("# ((((\n up + 1").unwrap(), 1);
    }

    #[test]
    fn numbers_that_are_no_durations_are_refused() {
        for text in
            ["x[NaN]", "x[Inf]", "x[1e300]", "x offset inf", "x offset -1e30", "x[5m:NaN]", "x[ inf]", "x[1e+300]"]
        {
            assert!(check(text).unwrap_err().0.contains("not a duration"), "{text}");
        }
        for text in ["x[5m]", "x[300]", "x[5m:30] offset -1.5", "NaN + Inf", "x @ 1e9", "nan:inf + 1"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }
}
