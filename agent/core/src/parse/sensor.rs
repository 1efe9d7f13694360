//! Names below `/sys/class/hwmon`: files such as `temp1_input`, and chips.

/// The parts of a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorFile<'a> {
    /// What it measures: `temp`, `fan`, `in` …
    pub kind: &'a str,
    /// Which one of its kind; 0 where the name has no number.
    pub number: u32,
    /// Which of its properties: `input`, `max`, `label` …; empty where the file is the value.
    pub property: &'a str,
}

/// Parts `temp1_input` into kind, number and property. A kind has no digit in it, but may have an
/// underscore (`update_interval`). `None` for a name of another form.
#[must_use]
pub fn split(name: &str) -> Option<SensorFile<'_>> {
    let digits_at = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (kind, rest) = name.split_at(digits_at);
    let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(digits_end);
    let number = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let property = match rest {
        "" => "",
        rest => rest.strip_prefix('_').filter(|property| !property.is_empty())?,
    };
    (!kind.is_empty()).then_some(SensorFile { kind, number, property })
}

/// Makes a name fit for a label: lower case, `_` for whatever else is not `a-z0-9:_`, none at its ends.
#[must_use]
pub fn clean(name: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '_';
    let clean: String = name.to_lowercase().chars().map(|c| if fits(c) { c } else { '_' }).collect();
    clean.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_the_names_of_sensor_files() {
        let parts = |name| split(name).map(|file| (file.kind, file.number, file.property));
        assert_eq!(parts("temp1_input"), Some(("temp", 1, "input")));
        assert_eq!(parts("in12_crit_alarm"), Some(("in", 12, "crit_alarm")));
        assert_eq!(parts("pwm1"), Some(("pwm", 1, "")));
        assert_eq!(parts("update_interval"), Some(("update_interval", 0, "")));
        assert_eq!(parts("2x"), None);
        assert_eq!(parts("temp1x"), None);
        assert_eq!(parts("temp1_"), None);
        assert_eq!(parts("temp99999999999_input"), None);
    }

    #[test]
    fn cleans_names_for_labels() {
        assert_eq!(clean("Package id 0\n"), "package_id_0");
        assert_eq!(clean("+3.3V"), "3_3v");
        assert_eq!(clean("___"), "");
    }
}
